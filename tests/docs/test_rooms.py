"""The page of the architecture is what the code says, and the house keeps to its plan."""

from __future__ import annotations

import networkx as nx
import pytest

from docs import rooms


@pytest.fixture(scope="module")
def houses() -> list[rooms.House]:
    return rooms.read_houses()


def test_the_page_is_what_the_code_says(houses: list[rooms.House]) -> None:
    assert rooms.written(rooms.PAGE.read_text("utf-8"), houses) == rooms.PAGE.read_text("utf-8")


def test_an_arrow_that_is_gone_is_seen(houses: list[rooms.House]) -> None:
    page = rooms.PAGE.read_text("utf-8")
    planner = next(house for house in houses if house.name == "planner")
    arrows = nx.DiGraph(planner.arrows)
    arrows.remove_edge("costs", "ir")
    changed = rooms.House("planner", arrows, planner.floors)
    others = [house for house in houses if house.name != "planner"]
    assert rooms.written(page, [*others, changed]) != page


def test_no_house_outgrows_its_plan(houses: list[rooms.House]) -> None:
    assert {house.name for house in houses} == {"", "planner", "api"}
    assert not [line for house in houses for line in rooms.outgrown(house)]


def test_a_house_that_is_too_high_is_named() -> None:
    floors = {f"room {n}": n for n in range(1, 20)}
    found = rooms.outgrown(rooms.House("planner", nx.DiGraph(), floors))
    assert found == [
        "planner/ has 19 rooms, more than 18",
        "planner/ has 19 floors, more than 12",
    ]
