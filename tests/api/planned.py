"""A real program that was lowered, and its plan: what the dashboard shows."""

from __future__ import annotations

import hashlib
import json
import tarfile
from functools import cache
from pathlib import Path

from api.planning.work import answers_of
from api.store.files import PlanFiles
from api.store.plans import PlanStore, plan_id
from api.store.tables import Plan
from planner.options import PlanOptions, make_options
from planner.pipelines.dispatch import plan_program
from tests.paths import RECORDED

_CVT = RECORDED / "cvt_xs_fp32.tar.xz"
OPTIONS = make_options("default", "latency")


@cache
def lowered() -> bytes:
    """A small convolutional vision transformer with layouts drawn at random, as a ``.pte`` file."""
    with tarfile.open(_CVT) as archive:
        file = archive.extractfile("cvt_xs_fp32_random0.pte")
        assert file is not None
        return file.read()


@cache
def planned(options: PlanOptions = OPTIONS) -> tuple[bytes, str]:
    """The plan's flatbuffer and its report."""
    done = plan_program(lowered(), "cvt.pte", options)
    return done.flatbuffer(), json.dumps(done.report.document() | answers_of(done))


def put_planned(store: PlanStore, folder: Path, name: str = "cvt.pte", kind: str = "pte") -> Plan:
    """Keeps the plan under a name of the program, and as one of a program of a kind."""
    folder.mkdir()
    source, files = folder / "source", PlanFiles.within(folder)
    flatbuffer, report = planned()
    document = json.loads(report)
    document["source"]["name"], document["kind"] = name, kind
    source.write_bytes(lowered())
    files.graph.write_bytes(flatbuffer)
    files.report.write_text(json.dumps(document))
    files.program.write_bytes(b"" if kind == "vkgraph" else b"program")
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    return store.put(plan_id(sha256, OPTIONS), files, source, OPTIONS)
