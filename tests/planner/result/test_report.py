"""The report of a plan as a JSON document, there and back."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from api.http.models import ItemResult, PlanSummary
from api.store.plans import FIGURES
from api.store.tables import Plan
from planner.options import make_options
from planner.pipelines.lowered import replan
from planner.result.report import PlanFigures, Report, read_report
from schema import vkgraph
from tests.planner.verify.sketches import float_chain


@pytest.fixture(scope="module")
def report() -> Report:
    graph = vkgraph.encode(float_chain().before)
    return replan(graph, "chain", make_options("bytes")).report


def test_a_report_comes_back_from_its_document(report: Report) -> None:
    document = json.loads(json.dumps(report.document(), allow_nan=False))
    assert read_report(document) == report
    assert read_report(document | {"of a later release": 1}) == report


def test_what_is_not_known_is_left_out(report: Report) -> None:
    document = report.document()
    del document["total"]["memory_bytes"], document["total"]["greedy_memory_bytes"]
    without = read_report(document)
    assert without.total.memory_bytes is None
    assert without.document() == document


def test_a_document_that_lacks_a_figure(report: Report) -> None:
    document = report.document()
    del document["total"]["bound"]
    with pytest.raises(KeyError, match="bound"):
        read_report(document)


def test_a_figure_is_defined_once(report: Report) -> None:
    known = {field.name for field in fields(PlanFigures)}
    assert known == report.document()["total"].keys()
    assert set(FIGURES) == known & set(Plan.__table__.columns.keys())
    for answer in (PlanSummary, ItemResult):
        described = answer.model_json_schema()["properties"]
        assert set(FIGURES) <= described.keys()
        assert all(described[figure].get("description") for figure in FIGURES)
