"""A program's graph and data about its nodes, in Model Explorer's formats.

Google's Model Explorer (``ai-edge-model-explorer`` 0.1) opens the graph as a collection in its JSON
format, and colours nodes by node data: a file for each set, keyed by the graph's node ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from planner.export.timeline import ProgramStep, StepTensor, TimedProgram, tensors_of
from planner.files.listing import ListedDelegate
from planner.ir.representation import REPRS
from planner.measured.calls import place
from schema import CostOrigin

Document = dict[str, Any]

GRAPH: Final = "graph"
"""The name of the graph among a program's documents; all others are sets of node data."""

COLOURS: Final[Mapping[str, str]] = dict(
    zip(
        [*map(str, REPRS), "default"],
        (
            *("#223366", "#5588aa", "#aaddff"),
            *("#dd5500", "#bb8866", "#eedd88"),
            *("#662233", "#881100", "#6611aa", "#6600ff", "#aa88ff", "#44ff00"),
            "#ffffff",
        ),
        strict=True,
    )
)
"""Colours of representations, distinct for any kind of colour vision.

Textures are blue, buffers orange, int8 the rest. Tensors left to the runtime are white.
"""

ORIGIN_COLOURS: Final[Mapping[CostOrigin, str]] = {
    CostOrigin.MODELLED: "#bbbbbb",
    CostOrigin.ESTIMATED: "#ee7733",
    CostOrigin.INTERPOLATED: "#33bbee",
    CostOrigin.MEASURED: "#004488",
}

_GRADIENT: Final = ((0.0, "#ffffe5"), (0.25, "#fec44f"), (0.5, "#d95f0e"), (1.0, "#662506"))
"""From light to dark, so that it also works without colours."""

_SEVERAL: Final = "#cccccc"


def documents(program: TimedProgram) -> dict[str, Document]:
    """The graph under ``GRAPH``, and sets of node data by name.

    Node data are ``representation``, ``transition``, ``cost`` (predicted ns), ``origin`` and
    ``measured`` (ns), except empty ones.
    """
    steps = [step for step in program.steps if step.position is not None]
    sets = {
        "representation": _representations(program, steps),
        "transition": _categories("transition", _transitions(steps)),
        "cost": _times("predicted, ns", steps, _predicted),
        "origin": _categories("origin of the predicted cost", _origins(steps)),
        "measured": _times("measured, ns", steps, _measured),
    }
    return {GRAPH: graph(program), **{name: data for name, data in sets.items() if data["results"]}}


def graph(program: TimedProgram) -> Document:
    """The program as a collection of one graph, with a namespace for each delegate."""
    steps: list[list[ProgramStep]] = [[] for _ in program.listing.delegates]
    for step in program.steps:
        steps[step.delegate].append(step)
    nodes: list[Document] = []
    attributes = {"": _about(program, program.steps)}
    for index, delegate in enumerate(program.listing.delegates):
        nodes += _nodes(index, delegate, steps[index])
        attributes[_namespace(index)] = _about(program, steps[index])
    return {
        "label": program.listing.name,
        "graphs": [
            {
                "id": program.listing.name,
                "nodes": nodes,
                "groupNodeAttributes": attributes,
            }
        ],
    }


def _namespace(delegate: int) -> str:
    return f"delegate {delegate}"


def _id(step: ProgramStep) -> str:
    return f"delegate {step.delegate}, operator {step.position}"


def _ends_id(delegate: int, what: str, index: int) -> str:
    return f"delegate {delegate}, {what} {index}"


def _nodes(
    index: int, delegate: ListedDelegate, steps: Iterable[ProgramStep]
) -> Iterator[Document]:
    made: dict[int, tuple[str, int]] = {}  # value id -> the node and output that make it
    for i, tensors in enumerate(_ends(delegate, delegate.graph.input_ids, is_output=True)):
        node = _ends_id(index, "input", i)
        made |= {tensor.value_id: (node, n) for n, tensor in enumerate(tensors)}
        yield _node(index, node, f"input {i}", (), tensors, made)
    for step in steps:
        if step.position is None:
            continue
        label = step.operator if step.change is None else " -> ".join(step.change)
        yield {
            **_node(index, _id(step), label, step.inputs, step.outputs, made),
            "attrs": _attributes(_step(step)),
        }
        made |= {tensor.value_id: (_id(step), n) for n, tensor in enumerate(step.outputs)}
    for i, tensors in enumerate(_ends(delegate, delegate.graph.output_ids, is_output=False)):
        yield _node(index, _ends_id(index, "output", i), f"output {i}", tensors, (), made)


def _ends(
    delegate: ListedDelegate, value_ids: Sequence[int], *, is_output: bool
) -> Iterator[tuple[StepTensor, ...]]:
    """The tensors of the graph's inputs or outputs, which their nodes make or take."""
    for value_id in value_ids:
        yield tuple(tensors_of(delegate, value_id, place(is_output, 0)))


def _node(
    delegate: int,
    node: str,
    label: str,
    inputs: Sequence[StepTensor],
    outputs: Sequence[StepTensor],
    made: Mapping[int, tuple[str, int]],
) -> Document:
    return {
        "id": node,
        "label": label,
        "namespace": _namespace(delegate),
        "incomingEdges": [
            {
                "sourceNodeId": made[tensor.value_id][0],
                "sourceNodeOutputId": str(made[tensor.value_id][1]),
                "targetNodeInputId": str(n),
            }
            for n, tensor in enumerate(inputs)
            if tensor.value_id in made
        ],
        "inputsMetadata": [_metadata(n, tensor) for n, tensor in enumerate(inputs)],
        "outputsMetadata": [_metadata(n, tensor) for n, tensor in enumerate(outputs)],
    }


def _metadata(index: int, tensor: StepTensor) -> Document:
    # Not as tensor_name: Model Explorer also looks up node data by that if it is a node's id.
    described = {
        "tensor_shape": tensor.type_text,
        "representation": "constant" if tensor.is_constant else _representation(tensor),
        "name": tensor.name or f"v{tensor.value_id}",
        "place": tensor.place,
    }
    return {"id": str(index), "attrs": _attributes(described)}


def _attributes(described: Mapping[str, str]) -> list[Document]:
    return [{"key": key, "value": value} for key, value in described.items()]


def _step(step: ProgramStep) -> dict[str, str]:
    described = {
        "operator": step.operator,
        "kind": step.kind,
        "position": str(step.position),
        "node id": str(step.node_id),
    }
    if step.change is not None:
        described["from"], described["to"] = step.change
    elif step.outputs:
        described["representation"] = _together(step.outputs)
    if step.predicted is not None:
        described["predicted"] = _us(step.predicted.ns)
        described["origin"] = step.predicted.origin.name.lower()
    if step.measured is not None:
        described["measured"] = _us(step.measured.median)
        described["spread"] = _us(step.measured.spread)
        described["executions"] = str(step.measured.count)
        described["kernels"] = ", ".join(step.measured.kernels)
    return described


def _about(program: TimedProgram, steps: Sequence[ProgramStep]) -> dict[str, str]:
    """The totals of a program or one of its delegates."""
    transitions = [step for step in steps if step.kind == "transition"]
    operators = sum(step.kind == "operator" for step in steps)
    described = {
        "source": program.listing.name,
        "operators": str(operators),
        "transitions": str(len(transitions)),
        "predicted by": program.predicted_by,
        "predicted": _us(sum(map(_predicted, steps))),
        "predicted, transitions": _us(sum(map(_predicted, transitions))),
    }
    if program.run is not None:
        described["measured"] = _us(sum(map(_measured, steps)))
        described["measured, transitions"] = _us(sum(map(_measured, transitions)))
    return described


def _us(ns: float) -> str:
    return f"{ns / 1000:.3f} us"


def _predicted(step: ProgramStep) -> float:
    return 0.0 if step.predicted is None else step.predicted.ns


def _measured(step: ProgramStep) -> float:
    return 0.0 if step.measured is None else step.measured.median


def _representation(tensor: StepTensor) -> str:
    return tensor.representation or "default"


def _together(tensors: Iterable[StepTensor]) -> str:
    return ", ".join(dict.fromkeys(map(_representation, tensors)))


def _colour(representation: str) -> str:
    return COLOURS.get(representation, _SEVERAL)


def _representations(program: TimedProgram, steps: Iterable[ProgramStep]) -> Document:
    """Representations of what nodes make; of what they take, for outputs of the graph."""
    found = {}
    for index, delegate in enumerate(program.listing.delegates):
        ends = {"input": delegate.graph.input_ids, "output": delegate.graph.output_ids}
        for what, value_ids in ends.items():
            for i, tensors in enumerate(_ends(delegate, value_ids, is_output=what == "input")):
                if tensors:
                    found[_ends_id(index, what, i)] = _together(tensors)
    found |= {_id(step): _together(step.outputs) for step in steps if step.outputs}
    colours = {node: (value, _colour(value)) for node, value in found.items()}
    return _categories("representation", colours)


def _transitions(steps: Iterable[ProgramStep]) -> dict[str, tuple[str, str]]:
    """The source, target and cost of transitions, coloured by target."""
    return {
        _id(step): (
            " -> ".join(step.change)
            + ("" if step.predicted is None else f", {_us(step.predicted.ns)}"),
            _colour(step.change[1]),
        )
        for step in steps
        if step.change is not None
    }


def _origins(steps: Iterable[ProgramStep]) -> dict[str, tuple[str, str]]:
    return {
        _id(step): (step.predicted.origin.name.lower(), ORIGIN_COLOURS[step.predicted.origin])
        for step in steps
        if step.predicted is not None
    }


def _categories(name: str, found: Mapping[str, tuple[str, str]]) -> Document:
    """Node data of texts with their colours."""
    return {
        "name": name,
        "results": {
            node: {"value": value, "bgColor": colour} for node, (value, colour) in found.items()
        },
    }


def _times(
    name: str, steps: Iterable[ProgramStep], time: Callable[[ProgramStep], float]
) -> Document:
    """Node data of times in ns, without nodes whose time is unknown."""
    return {
        "name": name,
        "results": {_id(step): {"value": time(step)} for step in steps if time(step)},
        "gradient": [{"stop": stop, "bgColor": colour} for stop, colour in _GRADIENT],
    }
