"""The runtimes that take a lowered graph: by its operators, and by the representations it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from planner.errors import InputError, Remedy
from planner.ir.graph import LayoutGraph
from planner.kernels.registry import registrations, releases_of
from planner.kernels.releases import LATEST, RELEASES, Release, Runtime
from planner.kernels.rep_sets import op_rep_sets
from planner.vkgraph.reader import ContractedGraph

_ALL: Final = Runtime(RELEASES[0], LATEST)
_ANY_EXTENT: Final = (2**31 - 1,) * 3


def runtimes_of(graphs: Sequence[ContractedGraph]) -> tuple[Runtime, ...]:
    """The runtimes to plan graphs for that name none, the first that has a plan.

    The oldest release that takes the graphs as they are, and later ones; where no release takes
    their representations, the oldest that knows their operators.
    """
    for takes in (_accepts, _knows):
        for i, release in enumerate(RELEASES):
            if all(takes(graph, release) for graph in graphs):
                return tuple(Runtime(oldest, LATEST) for oldest in RELEASES[i:])
    return (Runtime(),)


def check_operators(graph: LayoutGraph, runtime: Runtime) -> None:
    """Raises ``InputError``, naming the operator, where a release of a runtime lacks one."""
    for index, name in enumerate(graph.columns.names()):
        have = releases_of(name)
        lacking = [release for release in runtime.releases if release not in have]
        if have and lacking:
            place = f"{graph.name}, " if graph.name else ""
            raise InputError(
                f"{place}{graph.place_of(index)}: ExecuTorch {lacking[-1]} does not know this "
                f"operator, which {have[0]} brought",
                Remedy.NAME_ANOTHER_RUNTIME,
                Remedy.KEEP_OUT_OF_DELEGATE,
            )


def _knows(source: ContractedGraph, release: Release) -> bool:
    # What no release registers (et_vk.prepack, a user's own operators) tells none from another.
    return all(
        release in (known := releases_of(form.name)) or not known
        for form in source.graph.columns.forms
    )


def _accepts(source: ContractedGraph, release: Release) -> bool:
    # An operator that is the same in every release tells none from another.
    names = source.graph.columns.names()
    telling = [i for i, name in enumerate(names) if _has_changed(name)]
    return next(refusals(source, release, telling), None) is None


@cache
def _has_changed(name: str) -> bool:
    known = releases_of(name)
    return bool(known) and (known != RELEASES or len(registrations(name, _ALL)) > 1)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a release does not take of an operator, by its index in the graph, and why."""

    operator: int
    kind: Literal["operator", "representation"]
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
        if index in graph.pinned:
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
