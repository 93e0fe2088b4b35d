"""The board for Grafana asks for what the service has, and leaves nothing out."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from fastapi.testclient import TestClient
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from api.http.app import Settings, create_app
from tests.paths import ROOT

_SUFFIXES: Final = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "gauge": ("",),
}


def _board() -> dict[str, Any]:
    board: dict[str, Any] = json.loads(
        (ROOT / "docker" / "grafana" / "layout-planner.json").read_text()
    )
    return board


def _families() -> list[Metric]:
    """What a server gives, also what it has not counted yet."""
    with TestClient(create_app(Settings())) as client:
        text = client.get("/metrics").text
    # Since when each is counted is prometheus_client's to say.
    families = text_string_to_metric_families(text)
    return [family for family in families if not family.name.endswith("_created")]


def test_its_queries_are_of_what_the_service_counts() -> None:
    asked = {
        name
        for panel in _board()["panels"]
        for target in panel.get("targets", ())
        for name in re.findall(r"\blayout_planner_\w+", target["expr"])
    }
    families = _families()
    assert len(families) > 10
    given = {f.name: {f.name + suffix for suffix in _SUFFIXES[f.type]} for f in families}
    assert asked <= set().union(*given.values())
    missing = {name for name, names in given.items() if not names & asked}
    assert not missing


def test_it_is_a_board_of_one_prometheus_that_is_chosen_there() -> None:
    board = _board()
    source = {"type": "prometheus", "uid": "${datasource}"}
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["description"] and panel["datasource"] == source
        for target in panel["targets"]:
            assert target["datasource"] == source
            names = re.findall(r"layout_planner_\w+", target["expr"])
            chosen = re.findall(r'layout_planner_\w+\{job=~"\$job"[,}]', target["expr"])
            assert len(names) == len(chosen) > 0
