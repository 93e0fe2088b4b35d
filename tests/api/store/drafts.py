"""Files of plans as a worker leaves them, without planning."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from api.store.files import PlanFiles
from api.store.plans import PlanStore, plan_id
from api.store.tables import Plan
from planner.options import PlanOptions, make_options

OPTIONS = make_options("bytes")


def report(source: Path, name: str = "net.pt2", **total: Any) -> dict[str, Any]:
    """A report with the entries that a store reads; ``total`` changes its figures."""
    written: dict[str, Any] = {
        "planner_version": "0.1.0",
        "kind": "pt2",
        "baseline": "executorch",
        "profile": {"name": "bytes", "hash": "0" * 64},
        "lowering_seconds": 1.5,
        "source": {"name": name, "sha256": hashlib.sha256(source.read_bytes()).hexdigest()},
        "objective": "repack",
        "unit": "bytes",
        "texture_limits": [16384, 16384, 2048],
        "excluded_layouts": ["TENSOR_HEIGHT_PACKED", "PACKED_INT8_4C"],
        "total": {
            "status": "OPTIMAL",
            "bound": 100.0,
            "repack_cost": 100.0,
            "baseline_repack_cost": 250.0,
            "ratio": 2.5,
            "objective_cost": 100.0,
            "baseline_objective_cost": 250.0,
            "objective_ratio": 2.5,
            "transitions": 2,
            "baseline_transitions": 5,
            "operators": 30,
            "width": 3,
            "cost_origins": {"modelled": 1.0},
            "plan_seconds": 0.25,
            "baseline_seconds": 0.5,
            "verify_seconds": 0.125,
            **total,
        },
    }
    return {**written, "delegates": [{"index": 0, "name": "delegate 0", **written["total"]}]}


def write_files(source: Path, files: PlanFiles, name: str = "net.pt2", **total: Any) -> None:
    """Writes what a worker would, as the plan of ``net``."""
    files.report.write_text(json.dumps(report(source, name, **total)))
    files.graph.write_text("graph of net")
    files.program.write_text("program of net")


def draft(
    folder: Path, text: str = "net", name: str = "net.pt2", **total: Any
) -> tuple[Path, PlanFiles]:
    """A source and the files of its plan, in a new folder."""
    folder.mkdir()
    source, files = folder / "source", PlanFiles.within(folder)
    source.write_text(f"source of {text}")
    write_files(source, files, name, **total)
    files.graph.write_text(f"graph of {text}")
    files.program.write_text(f"program of {text}")
    return source, files


def put(
    store: PlanStore,
    folder: Path,
    text: str = "net",
    name: str = "net.pt2",
    options: PlanOptions = OPTIONS,
    **total: Any,
) -> Plan:
    """Puts a plan that is its own by ``text``."""
    source, files = draft(folder, text, name, **total)
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    return store.put(plan_id(sha256, options), files, source, options)


def check_whole(store: PlanStore, plan: Plan) -> None:
    """Asserts that every blob of a plan is there with the bytes that its name says."""
    for sha256 in (plan.source_sha256, plan.report_sha256, plan.graph_sha256, plan.program_sha256):
        if sha256 is not None:
            assert hashlib.sha256(store.path(sha256).read_bytes()).hexdigest() == sha256
