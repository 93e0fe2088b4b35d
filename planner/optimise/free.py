"""Tensors that no operator constrains: what they are made in, and what that means for live sets."""

from __future__ import annotations

from collections.abc import Sequence

from planner.costs.standins import CONV2D
from planner.ir.graph import LayoutGraph, Layouts
from planner.ir.representation import DENSE, REPRS, TensorRepr, TensorRepSet
from planner.kernels.limits import Limits
from planner.optimise.constraints import possible
from planner.optimise.live import LiveSets
from planner.optimise.problem import LayoutProblem
from planner.optimise.restricted import ANY, Restricted


class FreeTensors:
    """The representations of tensors of a graph that its layout problem says nothing of.

    They keep the one that the ``given`` layouts have, unless the device or the user rules it out.
    """

    def __init__(self, graph: LayoutGraph, limits: Limits, given: Layouts | None) -> None:
        self._graph, self._limits = graph, limits
        self._is_dense = limits.runtime.target == "webgpu"
        self._restricted = Restricted(graph, limits.restrictions)
        self._given: Sequence[TensorRepr | None]
        self._given = (None,) * len(graph.tensors) if given is None else given.made

    def has_to_change(self, t: int) -> bool:
        """Whether a tensor cannot keep what it is given."""
        have = self._given[t]
        may_be_left = not self._is_dense and self._restricted.made(t) == ANY
        if self._graph.tensors[t].constant or (have is None and may_be_left):
            return False
        return have is None or have not in self._left(t)

    def made(self, t: int) -> TensorRepr | None:
        """What a tensor is made in; None where the runtime chooses, or where nothing is left."""
        if not self.has_to_change(t):
            return self._given[t]
        left = self._left(t)
        return next((r for r in self.family(t) if r in left), None)

    def family(self, t: int) -> list[TensorRepr]:
        """What a tensor could be, but for limits."""
        if self._is_dense:
            return [DENSE]
        have = self._given[t]
        is_int8 = have is not None and have.is_packed_int8
        return [r for r in REPRS if r.is_packed_int8 == is_int8 and r != CONV2D]

    def _left(self, t: int) -> TensorRepSet:
        within = possible(self._graph.tensors[t], self._limits)
        return TensorRepSet(within & self._restricted.made(t))


def live_sets(
    graph: LayoutGraph, layout: LayoutProblem, limits: Limits, given: Layouts | None
) -> LiveSets:
    """The live sets of a graph's plans within limits, where it comes with the ``given`` layouts."""
    free = FreeTensors(graph, limits, given)
    return LiveSets(graph, layout, free.made)
