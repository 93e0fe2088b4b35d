"""Plans change with the revision of planning alone: ids of stored plans have it in them."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from planner.options import PlanOptions, make_options
from planner.pipelines.lowered import replan
from planner.result.revision import PLANNING_REVISION
from schema import plan
from tests.api.graphs import graph
from tests.paths import RECORDED

_GOLDEN: Final = Path(__file__).with_name("golden_plans.json")
"""Digests of golden plans by revision, and by program and options."""

_OPTIONS: Final = {
    "bytes": make_options("bytes"),
    "latency": make_options("default", "latency"),
    "without height": make_options("default", without_layouts=["TENSOR_HEIGHT_PACKED"]),
    "for 1.5": make_options("default", runtime="1.5"),
    "small textures": make_options("default", texture_limits="1300,1300,1300"),
}


def _programs() -> Iterator[tuple[str, bytes]]:
    """A chain of activations, and the first program of each recorded archive."""
    yield "activations", graph(8, 5)
    for name in ("cvt_xs_fp32", "mv2_xs_int8"):
        with tarfile.open(RECORDED / f"{name}.tar.xz") as archive:
            found = sorted(m for m in archive.getnames() if m.endswith(".pte"))
            file = archive.extractfile(found[0])
            assert file is not None
            yield name, file.read()


def _digest(data: bytes, name: str, options: PlanOptions) -> str:
    """The SHA-256 of all that a plan decides, whatever the release is called."""
    planned = replan(data, name, options)
    assert planned.report.total.status == "OPTIMAL"
    decided = plan.encode(replace(planned.program, planner_version=""))
    return hashlib.sha256(decided + planned.data).hexdigest()


def test_the_revision_rises_when_plans_change() -> None:
    found = {
        f"{name}, {words}": _digest(data, name, options)
        for name, data in _programs()
        for words, options in _OPTIONS.items()
    }
    noted = json.loads(_GOLDEN.read_text())
    assert list(noted) == [str(n + 1) for n in range(PLANNING_REVISION)]
    changed = [case for case in found if found[case] != noted[str(PLANNING_REVISION)].get(case)]
    assert not changed, (
        f"plans of revision {PLANNING_REVISION} have changed ({'; '.join(changed)}): raise "
        "PLANNING_REVISION in planner/result/revision.py, and note under its new number in "
        f"{_GOLDEN.name}:\n{json.dumps(found, indent=2)}"
    )
