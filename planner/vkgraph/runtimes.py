"""The runtimes that take a lowered graph: by its operators, and by the representations it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from planner.errors import InputError, Remedy
from planner.ir.graph import LayoutGraph, Operand
from planner.kernels.registry import releases_of
from planner.kernels.releases import LATEST, RELEASES, Release, Runtime
from planner.kernels.rep_sets import op_rep_sets
from planner.vkgraph.reader import ContractedGraph

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
    for index, operator in enumerate(graph.operators):
        have = releases_of(operator.name)
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
        release in (known := releases_of(operator.name)) or not known
        for operator in source.graph.operators
    )


def _accepts(source: ContractedGraph, release: Release) -> bool:
    """Whether every operand has a representation that a release accepts there."""
    if not _knows(source, release):
        return False
    graph, runtime = source.graph, Runtime(release, release)
    copied = {user: t.target for t in source.transitions for user in t.users}
    for index, operator in enumerate(graph.operators):
        if index in graph.pinned:
            continue
        sets = op_rep_sets(operator, graph.tensors, _ANY_EXTENT, runtime)
        if sets is None:
            continue
        for argument, members in operator.tensor_args():
            accepted = sets.args[argument]
            for t in members:
                given = copied.get(Operand(index, argument), source.made[t])
                if accepted is not None and given is not None and given not in accepted:
                    return False
        for accepted, t in zip(sets.outs, operator.outputs, strict=True):
            given = source.made[t]
            if accepted is not None and given is not None and given not in accepted:
                return False
    return True
