"""What Model Explorer gets: a graph that hangs together, and node data of its nodes."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.export.model_explorer import COLOURS, GRAPH, ORIGIN_COLOURS, documents
from planner.export.timeline import TimedProgram, time_program
from planner.measured.join import Join, Step
from schema import VkTensor, vkgraph
from tests.planner.export.test_perfetto import LATENCY, SAMPLE, planned, silent
from tests.planner.verify.sketches import (
    Case,
    concatenation,
    float_chain,
    group_norm,
    own_clones,
    prepacked,
    quantized,
    shared_copy,
    symbolic,
)

CASES = [float_chain, shared_copy, concatenation, quantized, group_norm, own_clones, symbolic]
FIELDS = {"id", "label", "namespace", "attrs", "incomingEdges", "inputsMetadata", "outputsMetadata"}


def read(case: Case) -> TimedProgram:
    return time_program(vkgraph.encode(case.after), "m.vkgraph", LATENCY)


def nodes(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    (graph,) = found[GRAPH]["graphs"]
    by_id = {node["id"]: node for node in graph["nodes"]}
    assert len(by_id) == len(graph["nodes"])
    return by_id


def check(found: dict[str, Any]) -> None:
    """What Model Explorer asks of its files."""
    json.dumps(found, allow_nan=False)
    by_id = nodes(found)
    seen: set[str] = set()
    for node_id, node in by_id.items():
        assert set(node) <= FIELDS
        inputs = {item["id"] for item in node["inputsMetadata"]}
        for edge in node["incomingEdges"]:
            source = by_id[edge["sourceNodeId"]]
            # Operators come in the order in which they run, so that there are no cycles.
            assert source["id"] in seen
            assert edge["sourceNodeOutputId"] in {i["id"] for i in source["outputsMetadata"]}
            assert edge["targetNodeInputId"] in inputs
        seen.add(node_id)
        for item in (node, *node["inputsMetadata"], *node["outputsMetadata"]):
            for attribute in item.get("attrs", []):
                assert set(attribute) == {"key", "value"}
                assert all(isinstance(text, str) for text in attribute.values())
    for name, data in found.items():
        if name == GRAPH:
            continue
        assert set(data) <= {"name", "results", "gradient"}
        assert data["results"]
        assert set(data["results"]) <= set(by_id)
        for result in data["results"].values():
            assert set(result) == ({"value"} if "gradient" in data else {"value", "bgColor"})
        if "gradient" in data:
            stops = [item["stop"] for item in data["gradient"]]
            assert (stops[0], stops[-1]) == (0, 1)
            assert stops == sorted(stops)


@pytest.mark.parametrize("case", [*CASES, prepacked], ids=lambda case: case.__name__)
def test_a_graph_hangs_together(case: Any) -> None:
    made = case()
    found = documents(read(made))
    check(found)
    graph = made.after
    assert len(nodes(found)) == len(graph.chain) + len(graph.input_ids) + len(graph.output_ids)
    tensors = {
        value_id
        for call in graph.chain
        for value_id in call.args[:-1]
        if isinstance(value := graph.values[value_id], VkTensor) and value.constant_id < 0
    }
    read_there = {
        attribute["value"]
        for node in nodes(found).values()
        for edge in node["incomingEdges"]
        for item in node["inputsMetadata"]
        if item["id"] == edge["targetNodeInputId"]
        for attribute in item["attrs"]
        if attribute["key"] == "name"
    }
    assert {f"v{value_id}" for value_id in tensors} <= read_there


def test_representations_and_transitions() -> None:
    case = float_chain()
    found = documents(read(case))
    position = case.index("aten.clone.default")
    repack = f"delegate 0, operator {position}"
    made = found["representation"]["results"]
    assert made[repack] == {"value": "texture:WIDTH_PACKED", "bgColor": "#223366"}
    assert made["delegate 0, input 0"]["value"] == "texture:CHANNELS_PACKED"
    assert made["delegate 0, output 0"]["value"] == "texture:WIDTH_PACKED"
    (transition,) = found["transition"]["results"].items()
    cost = found["cost"]["results"][repack]["value"]
    assert cost > 0
    change = "texture:CHANNELS_PACKED -> texture:WIDTH_PACKED"
    assert transition == (
        repack,
        {"value": f"{change}, {cost / 1000:.3f} us", "bgColor": "#223366"},
    )
    node = nodes(found)[repack]
    assert node["label"] == change
    assert {"key": "to", "value": "texture:WIDTH_PACKED"} in node["attrs"]
    assert {result["value"] for result in found["origin"]["results"].values()} == {"modelled"}


def test_what_a_run_measured_is_there() -> None:
    program = read(float_chain())
    steps = (replace(program.steps[0], measured=SAMPLE), *program.steps[1:])
    run = Join((Step(0, None, SAMPLE),), 0.0)
    found = documents(replace(program, steps=steps, run=run))
    check(found)
    assert found["measured"]["results"] == {"delegate 0, operator 0": {"value": 5.0}}
    assert "measured" not in documents(program)
    (graph,) = found[GRAPH]["graphs"]
    assert graph["groupNodeAttributes"]["delegate 0"]["measured"] == "0.005 us"


def test_every_delegate_has_a_namespace() -> None:
    data = planned(float_chain(), concatenation())
    found = documents(time_program(data, "m.plan", LATENCY))
    check(found)
    assert {node["namespace"] for node in nodes(found).values()} == {"delegate 0", "delegate 1"}
    for node_id, node in nodes(found).items():
        assert node_id.startswith(node["namespace"])
        for edge in node["incomingEdges"]:
            assert edge["sourceNodeId"].startswith(node["namespace"])


def test_sets_that_say_nothing_are_left_out() -> None:
    found = documents(time_program(planned(silent(float_chain())), "m.plan"))
    check(found)
    assert list(found) == [GRAPH, "representation", "transition"]


def test_the_same_file_gives_the_same_files() -> None:
    first, second = (json.dumps(documents(read(quantized()))) for _ in range(2))
    assert first == second


# Linear RGB as seen without long, middle or short cones: Machado, Oliveira and Fernandes, 2009.
VISIONS = {
    "all": np.eye(3),
    "protan": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deutan": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritan": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def lab(colour: str, vision: NDArray[np.float64]) -> NDArray[np.float64]:
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(vision @ linear, 0, 1)
    x, y, z = np.cbrt(np.maximum(XYZ @ seen / np.array([0.95047, 1, 1.08883]), 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("palette", [COLOURS, ORIGIN_COLOURS], ids=["made", "origin"])
def test_colours_are_told_apart(palette: dict[Any, str], vision: str) -> None:
    seen = [lab(colour, VISIONS[vision]) for colour in palette.values()]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 18
