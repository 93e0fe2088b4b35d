"""A program is planned in one way, whether a request or a job asks for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from api.planning.work import Lowering, PlanWork, Replanning, answers_of, do_here
from api.store.files import PlanFiles
from planner.errors import NoRepresentationError
from planner.options import PlanOptions, make_options
from planner.pipelines.exported import plan_exported
from tests.planner.programs import NETS, exported

_NAME = "net.pt2"


def _requested(source: Path, options: PlanOptions, folder: Path) -> PlanFiles:
    """What a request to the service leaves."""
    files = PlanFiles.within(folder / "request")
    files.graph.parent.mkdir()
    do_here(PlanWork(source, _NAME, options, files))
    return files


def _by_job(source: Path, options: PlanOptions, folder: Path) -> PlanFiles:
    """What the two tasks of a job leave."""
    files, lowered = PlanFiles.within(folder / "job"), folder / "lowered"
    files.graph.parent.mkdir()
    do_here(Lowering(source, _NAME, options.lowering, lowered))
    do_here(Replanning(source, lowered, _NAME, options, files))
    return files


def _timeless(value: Any) -> Any:
    """A report without its times."""
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not k.endswith("_seconds")}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def _contents(files: PlanFiles) -> tuple[bytes, bytes, Any]:
    report = json.loads(files.report.read_text())
    return files.graph.read_bytes(), files.program.read_bytes(), _timeless(report)


@pytest.mark.parametrize("name", NETS)
def test_a_request_a_job_and_the_command_line_reach_the_same_bytes(
    name: str, tmp_path: Path
) -> None:
    source, options = tmp_path / "source", make_options("default", "latency")
    source.write_bytes(exported(name))
    graph, program, report = _contents(_requested(source, options, tmp_path))
    assert _contents(_by_job(source, options, tmp_path)) == (graph, program, report)
    planned = plan_exported(exported(name), _NAME, options)
    assert (planned.flatbuffer(), planned.pte()) == (graph, program)
    document = planned.report.document() | answers_of(planned)
    assert _timeless(document) == report
    assert (report["kind"], report["baseline"]) == ("pt2", "executorch")


@pytest.mark.parametrize(
    "options",
    [
        make_options("bytes", texture_limits="3,3,3"),
        make_options("bytes", without_layouts=["TENSOR_HEIGHT_PACKED"], buffer_limit=2**20),
    ],
)
def test_so_they_do_with_limits_and_in_the_other_order(
    options: PlanOptions, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(exported("embedded"))
    made = _contents(_by_job(source, options, tmp_path))
    assert _contents(_requested(source, options, tmp_path)) == made


def test_limits_that_leave_an_operator_without_representation(tmp_path: Path) -> None:
    source, options = tmp_path / "source", make_options("bytes", texture_limits="4,4,4")
    source.write_bytes(exported("mixed"))
    with pytest.raises(NoRepresentationError) as refused:
        _requested(source, options, tmp_path)
    with pytest.raises(NoRepresentationError) as failed:
        _by_job(source, options, tmp_path)
    assert str(failed.value) == str(refused.value)
    assert "exceeds the limits, and cannot run on the CPU" in str(failed.value)
