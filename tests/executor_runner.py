"""A stand-in for ExecuTorch's ``executor_runner``: its options, and an ETDump as it writes them.

A program's operators take time by their bytes, more for each operand in a texture, with a little
noise. Outputs are of the sizes that ``--output_bytes`` lists. They are other ones where an operator
is laid out as in ``--wrong`` (``OPERATOR=REPRESENTATION``).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from planner.files.lowered import graphs_of
from planner.measured.calls import GraphCall, calls_of

_NOISE: Final = 0.005
_NS_PER_BYTE: Final = 50


def main() -> None:
    """Runs a program as often as asked for."""
    parser = argparse.ArgumentParser()
    for name in ("model_path", "inputs", "output_file", "etdump_path", "print_output"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--num_executions", type=int, default=1)
    parser.add_argument("--output_bytes", required=True)
    parser.add_argument("--wrong", default="")
    given = parser.parse_args()
    for path in given.inputs.split(","):
        Path(path).read_bytes()
    delegates = [calls_of(g) for g in graphs_of(Path(given.model_path).read_bytes(), "program")]
    calls = [call for delegate in delegates for call in delegate]
    laid_out = {f"{call.call.operator}={r}" for call in calls for _, r in call.operands}
    element = 1.0 if given.wrong in laid_out else 0.5
    for number, size in enumerate(given.output_bytes.split(",")):
        outputs = np.full(int(size) // 4, element, np.float32)
        Path(f"{given.output_file}-{number}.bin").write_bytes(outputs.tobytes())
    random = np.random.default_rng()
    blocks = [
        {
            "name": "Execute",
            "bundled_input_index": -1,
            "events": list(_events(delegates, number, random)),
        }
        for number in range(given.num_executions)
    ]
    Path(given.etdump_path).write_bytes(_written({"version": 0, "run_data": blocks}))


def _events(
    delegates: list[tuple[GraphCall, ...]], number: int, random: np.random.Generator
) -> Iterator[dict[str, Any]]:
    clock = 0
    for calls in delegates:
        yield _event("delegate_debug_id_str", "ETVK_COPY_INPUTS", clock, clock)
        for call in calls:
            ns = float(_NS_PER_BYTE * call.call.work[0])
            ns *= 1 + sum(not r.is_buffer for _, r in call.operands) / 2
            ns *= (1 if number else 3) * np.exp(_NOISE * random.standard_normal())
            operator = {"name": call.call.operator, "delegate_node_id": call.node_id, "args": []}
            name = json.dumps({"kernel_name": "kernel", "operator": operator})
            yield _event("delegate_debug_id_str", name, clock, clock + round(ns))
            clock += round(ns)
    yield _event("name", "Method::execute", 0, clock)


def _event(field: str, name: str, start: int, end: int) -> dict[str, Any]:
    event: dict[str, Any] = {"chain_index": 0, "instruction_id": 0, "delegate_debug_id_int": -1}
    if field == "name":
        event["chain_index"] = -1
    else:
        event["delegate_debug_metadata"] = []
    return {"profile_event": {field: name, **event, "start_time": start, "end_time": end}}


def _written(document: dict[str, Any]) -> bytes:
    """The document as an ETDump, by ExecuTorch's own schema and compiler of it."""
    found = importlib.util.find_spec("executorch")
    assert found is not None and found.submodule_search_locations is not None
    place = Path(next(iter(found.submodule_search_locations)))
    schemas = place / "devtools/etdump"
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "run.json"
        text.write_text(json.dumps(document))
        schema = schemas / "etdump_schema_flatcc.fbs"
        flatc = [str(place / "data/bin/flatc"), "--binary", "--size-prefixed", "-o", folder]
        subprocess.run([*flatc, "-I", str(schemas), str(schema), str(text)], check=True)
        return (Path(folder) / "run.etdp").read_bytes()


if __name__ == "__main__":
    main()
