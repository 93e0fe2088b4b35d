"""Why repacks of a plan remain, and what would help, over HTTP and on the plan's page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import api.planning.work
from api.http.app import Settings, create_app
from api.planning.work import PlanWork, do_here
from api.store.files import PlanFiles
from api.store.plans import open_store
from planner.options import make_options
from planner.result.explanation import read_explanation
from planner.result.opportunities import read_opportunities
from planner.result.outline import read_outlines
from tests.api.graphs import forced
from tests.api.planned import planned, put_planned
from tests.api.store.drafts import put

PARTS = ("explanation", "opportunities", "tradeoffs")
READ: tuple[Callable[[dict[str, Any]], Any], ...] = (
    read_explanation,
    read_opportunities,
    read_outlines,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, str, str]]:
    """A service with a plan that was explained, and one that was not."""
    folder = tmp_path_factory.mktemp("answers")
    store = open_store(folder / "data")
    told = put_planned(store, folder / "cvt").id
    untold = put(store, folder / "old", "old", "old.pt2", status="OPTIMAL", ratio=1.0).id
    store.close()
    with TestClient(create_app(Settings(data_dir=folder / "data"))) as client:
        yield client, told, untold


@pytest.mark.parametrize("part", PARTS)
def test_what_the_report_has_is_answered(served: tuple[TestClient, str, str], part: str) -> None:
    client, told, _ = served
    answer = client.get(f"/plans/{told}/{part}")
    assert answer.status_code == 200
    expected = json.loads(planned()[1])[part]
    assert answer.json() == expected
    assert READ[PARTS.index(part)](expected).document() == expected


@pytest.mark.parametrize("part", PARTS)
def test_a_plan_may_have_none(served: tuple[TestClient, str, str], part: str) -> None:
    client, _, untold = served
    answer = client.get(f"/plans/{untold}/{part}")
    assert answer.status_code == 404
    assert f"has no {part}" in answer.json()["detail"]
    assert "POST /plan" in answer.json()["remedy"]
    assert client.get(f"/plans/{'0' * 32}/{part}").status_code == 404


def test_the_page_of_a_plan_has_them(served: tuple[TestClient, str, str]) -> None:
    client, told, untold = served
    page = client.get(f"/view/{told}").text
    report = json.loads(planned()[1])
    repacks = [r for d in report["explanation"]["delegates"] for r in d["repacks"]]
    assert repacks
    assert page.count(" → texture:") + page.count(" → buffer:") >= len(repacks)
    assert "Why repacks remain" in page
    assert ("What would help" in page) == bool(report["opportunities"]["opportunities"])
    traded = [o for o in report["tradeoffs"]["outlines"] if len(o["corners"]) > 1]
    (memory,) = (o for o in report["tradeoffs"]["outlines"] if o["criterion"] == "memory")
    assert len(traded) == 2 and page.count("would cost</h2>") == 3
    assert len(memory["corners"]) == 1 and "alive at once. That is proven." in page
    plain = client.get(f"/view/{untold}").text
    assert "Why repacks remain" not in plain
    assert "What would help" not in plain
    assert "would cost</h2>" not in plain


def written(folder: Path) -> dict[str, object]:
    folder.mkdir()
    source, files = folder / "forced.bin", PlanFiles.within(folder)
    source.write_bytes(forced())
    do_here(PlanWork(source, "forced", make_options("bytes"), files, is_lowered=True))
    document: dict[str, object] = json.loads(files.report.read_bytes())
    return document


def test_a_planning_process_explains_what_is_not_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = written(tmp_path / "told")
    (delegate,) = read_explanation(told["explanation"]).delegates  # type: ignore[arg-type]
    assert len(delegate.repacks) == 1
    monkeypatch.setattr(api.planning.work, "_MOST_VARIABLES", 2)
    untold = written(tmp_path / "untold")
    assert untold.keys() == told.keys() - set(PARTS)
