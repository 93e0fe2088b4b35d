"""The runtimes that take a lowered graph: by its operators, and by the representations it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Final, Literal

import numpy as np

from planner.errors import InputError, Remedy
from planner.ir.graph import LayoutGraph
from planner.kernels.registry import registrations, releases_of
from planner.kernels.releases import (
    FIRST_WITH,
    LATEST,
    RELEASES,
    TARGET_NAMES,
    Release,
    Runtime,
    Target,
)
from planner.kernels.rep_sets import op_rep_sets
from planner.kernels.webgpu import is_unpadded, webgpu_limits, webgpu_releases_of
from planner.vkgraph.reader import ContractedGraph
from schema.frozen import frozen
from schema.vkgraph import SymInt

_ALL: Final = Runtime(RELEASES[0], LATEST)
_ANY_EXTENT: Final = (2**31 - 1,) * 3


def runtimes_of(
    graphs: Sequence[ContractedGraph], target: Target = "vulkan"
) -> tuple[Runtime, ...]:
    """The runtimes to plan graphs for that name none, the first that has a plan.

    The oldest release that takes the graphs as they are, and later ones; where no release takes
    their representations, the oldest that knows their operators.
    """
    releases = releases_with(target)
    for takes in (_accepts, _knows):
        for i, release in enumerate(releases):
            if all(takes(graph, release, target) for graph in graphs):
                return tuple(Runtime(oldest, LATEST, target) for oldest in releases[i:])
    return (Runtime(target=target),)


def releases_with(target: Target) -> tuple[Release, ...]:
    """The releases that have a backend, oldest first."""
    return RELEASES[RELEASES.index(FIRST_WITH[target]) :]


def check_operators(graph: LayoutGraph, runtime: Runtime) -> None:
    """Raises ``InputError``, naming the operator, where a release of a runtime lacks one."""
    for number, form in enumerate(graph.columns.forms):
        have = _releases_of(form.name, runtime.target)
        lacking = [release for release in runtime.releases if release not in have]
        if have and lacking:
            index = int(np.argmax(graph.columns.form == number))
            place = f"{graph.name}, " if graph.name else ""
            raise InputError(
                f"{place}{graph.place_of(index)}: ExecuTorch {lacking[-1]}{_owned(runtime.target)} "
                f"does not know this operator, which {have[0]} brought",
                Remedy.NAME_ANOTHER_RUNTIME,
                Remedy.KEEP_OUT_OF_DELEGATE,
            )


def _owned(target: Target) -> str:
    return "" if target == "vulkan" else f"'s {TARGET_NAMES[target]} runtime"


def _releases_of(name: str, target: Target) -> tuple[Release, ...]:
    return webgpu_releases_of(name) if target == "webgpu" else releases_of(name)


def _knows(source: ContractedGraph, release: Release, target: Target) -> bool:
    # What no release registers (et_vk.prepack, a user's own operators) tells none from another.
    return all(
        release in (known := _releases_of(form.name, target)) or not known
        for form in source.graph.columns.forms
    )


def _accepts(source: ContractedGraph, release: Release, target: Target) -> bool:
    if target == "webgpu":
        return next(webgpu_refusals(source, release), None) is None
    # An operator that is the same in every release tells none from another.
    columns = source.graph.columns
    tells = np.array([_has_changed(form.name) for form in columns.forms], np.bool_)
    telling = np.flatnonzero(tells[columns.form]).tolist()
    return next(refusals(source, release, telling), None) is None


@cache
def _has_changed(name: str) -> bool:
    known = releases_of(name)
    return bool(known) and (known != RELEASES or len(registrations(name, _ALL)) > 1)


@frozen
class Refusal:
    """What a release does not take of an operator, by its index in the graph, and why."""

    operator: int
    kind: Literal["operator", "representation", "kernel"]
    text: str


def refusals(
    source: ContractedGraph, release: Release, only: Iterable[int] | None = None
) -> Iterator[Refusal]:
    """Operators that a release does not know, and operands in representations that it refuses.

    Of all operators, or of those with these indices ``only``.
    """
    graph, runtime = source.graph, Runtime(release, release)
    representation = source.layouts()
    for index in range(len(graph.operators)) if only is None else only:
        operator = graph.operators[index]
        known = releases_of(operator.name)
        if known and release not in known:
            yield Refusal(index, "operator", f"does not know it: {known[0]} brought it")
            continue
        # Repacks take any representation, whatever such an operator takes besides.
        if index in graph.pinned or index in source.repacking:
            continue
        sets = op_rep_sets(operator, graph.tensors, _ANY_EXTENT, runtime)
        if sets is None:
            continue
        for side, position, members in operator.operands():
            accepted = sets.of(side, position)
            for t in members:
                given = representation(index, side, position, t)
                if accepted is not None and given is not None and given not in accepted:
                    text = f"does not take {given} as {side} {position}, only {accepted}"
                    yield Refusal(index, "representation", text)


def warnings_for_webgpu(source: ContractedGraph, runtime: Runtime) -> tuple[str, ...]:
    """What the runtime of a plan cannot do, if it is WebGPU's, one line each."""
    if runtime.target != "webgpu":
        return ()
    found = dict.fromkeys(
        f"{source.graph.place_of(refusal.operator)}: ExecuTorch {release}"
        f"{_owned('webgpu')} {refusal.text}"
        for release in runtime.releases
        for refusal in webgpu_refusals(source, release)
    )
    return tuple(found)


def webgpu_refusals(source: ContractedGraph, release: Release) -> Iterator[Refusal]:
    """Operators that a release's WebGPU runtime does not know, and calls that it cannot do.

    Representations are not looked at: that runtime does not read them.
    """
    graph = source.graph
    tensors = graph.tensors
    is_dynamic = any(isinstance(value, SymInt) for value in source.written.values)
    moved = {t for t, tensor in enumerate(tensors) if tensor.constant}
    moved.update(graph.inputs, graph.outputs)
    for index, operator in enumerate(graph.operators):
        known = webgpu_releases_of(operator.name)
        if release not in known:
            brought = f"{known[0]} brought it" if known else "keep it out of the delegate"
            yield Refusal(index, "operator", f"does not know it: {brought}")
            continue
        for text in webgpu_limits(operator, tensors, release, is_dynamic=is_dynamic):
            yield Refusal(index, "kernel", text)
        for t in {t for _, _, members in operator.operands() for t in members if t in moved}:
            moved.discard(t)
            if is_unpadded(tensors[t], release):
                text = f"moves whole words of 4 bytes, and {graph.name_of(t)} is none"
                yield Refusal(index, "kernel", text)
