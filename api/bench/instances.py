"""Problems that solvers are compared on: drawn from a seed, or those of real programs.

A problem of this kind is a net in which neighbours pay for labels that differ. Its prices are
``random``, one table for each edge, or those of repacks in ``ns``: a launch and so much for each
byte, the same for a tensor wherever it is copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Literal

import numpy as np

from planner.costs.model import Objective
from planner.ir.graph import LayoutGraph, Operator, Scalar, Tensor, TensorArg, TensorListArg
from planner.kernels.limits import Limits
from planner.optimise.problem import build_problem
from planner.options import PlanOptions, make_options
from planner.pipelines.lowered import replan
from schema import VkDataType
from solver import CostTable, Problem, SharedCopies, Variable
from solver.problem import Costs, Factor

Edges = Sequence[tuple[int, int]]
Prices = Literal["random", "ns", "copies"]

LENGTH: Final = 20
"""Rows of a grid, twice as many if it is more than 10 wide."""

OBJECTIVES: Final[tuple[Objective, ...]] = ("repack", "latency")
TIMES: Final = "h200"
"""The profile of recurrent nets: hardly any two of its prices are equal."""

_GRIDS: Final[Sequence[tuple[int, int, Prices]]] = (
    (6, 4, "random"),
    (6, 6, "ns"),
    (7, 4, "ns"),
    (8, 4, "random"),
    (8, 6, "copies"),
    (9, 4, "ns"),
    (9, 6, "random"),
    (10, 4, "random"),
    (10, 4, "copies"),
    (10, 6, "ns"),
    (20, 8, "random"),
)
_QUICK_GRIDS: Final[Sequence[tuple[int, int, Prices]]] = ((6, 4, "random"), (7, 4, "ns"))
_TREES: Final[Sequence[tuple[int, int, int, Prices]]] = (
    (100, 4, 6, "ns"),
    (100, 6, 4, "random"),
    (100, 6, 4, "copies"),
    (100, 8, 4, "random"),
)
_QUICK_TREES: Final[Sequence[tuple[int, int, int, Prices]]] = ((40, 4, 4, "ns"),)
_REGULAR: Final = ((80, 4), (200, 4), (1_000, 4), (1_000, 6))
_QUICK_REGULAR: Final = ((60, 4),)
_DENSE: Final = ((16, 4), (30, 4), (60, 3))
_QUICK_DENSE: Final = ((12, 4),)

_LAUNCH: Final = 4_000
_BYTES: Final = (2_000, 20_000, 200_000)


@dataclass(frozen=True, slots=True)
class Instance:
    """A problem and its name."""

    name: str
    problem: Problem


def drawn(quick: bool) -> Iterator[Instance]:
    """Problems of every kind, each from a seed of its own; few and small ones if ``quick``."""
    for width, labels, prices in _QUICK_GRIDS if quick else _GRIDS:
        length = 2 * LENGTH if width > 10 else LENGTH
        name = f"grid {width} x {length}, {labels} labels, {prices}"
        yield Instance(name, priced(grid(width, length), labels, prices, Random(name)))
    for count, width, labels, prices in _QUICK_TREES if quick else _TREES:
        random = Random(name := f"{width}-tree of {count}, {labels} labels, {prices}")
        yield Instance(name, priced(tree(count, width, random), labels, prices, random))
    for count, labels in _QUICK_REGULAR if quick else _REGULAR:
        random = Random(name := f"3-regular of {count}, {labels} labels, random")
        yield Instance(name, priced(regular(count, 3, random), labels, "random", random))
    for count, labels in _QUICK_DENSE if quick else _DENSE:
        name = f"dense of {count}, {labels} labels, random"
        yield Instance(name, priced(dense(count), labels, "random", Random(name)))
    for steps in (4,) if quick else (16, 64):
        graph = recurrent(steps, 24)
        for objective in OBJECTIVES:
            name = f"LSTM of {steps} steps, {objective}"
            yield Instance(name, problem_of(graph, make_options(TIMES, objective=objective)))


def grid(width: int, length: int) -> Edges:
    """A grid, row by row."""
    across = [(v, v + 1) for v in range(width * length) if (v + 1) % width]
    return across + [(v, v + width) for v in range(width * (length - 1))]


def tree(count: int, width: int, random: Random) -> Edges:
    """A k-tree: each node is joined to ``width`` earlier ones that are all joined to each other."""
    cliques = [tuple(range(width))]
    edges = [(a, b) for b in range(width) for a in range(b)]
    for v in range(width, count):
        clique = random.choice(cliques)
        edges += [(u, v) for u in clique]
        cliques += [(*clique[:i], *clique[i + 1 :], v) for i in range(width)]
    return edges


def regular(count: int, degree: int, random: Random) -> Edges:
    """Each node has ``degree`` neighbours, drawn until no pair is joined twice."""
    while True:
        ends = [v for v in range(count) for _ in range(degree)]
        random.shuffle(ends)
        edges = {(min(a, b), max(a, b)) for a, b in zip(ends[::2], ends[1::2], strict=True)}
        if len(edges) == count * degree // 2 and all(a != b for a, b in edges):
            return sorted(edges)


def dense(count: int) -> Edges:
    """Every pair."""
    return [(a, b) for b in range(count) for a in range(b)]


def priced(edges: Edges, labels: int, prices: Prices, random: Random) -> Problem:
    """A problem over a net; each node also has likes of its own."""
    count = 1 + max(b for _, b in edges)
    factors: list[Factor] = []
    if prices == "random":
        factors += [CostTable((v,), _drawn(random, (1, labels), 500)) for v in range(count)]
        factors += [CostTable(edge, _drawn(random, (1, labels, labels), 1_000)) for edge in edges]
    else:
        factors += [CostTable((v,), _drawn(random, (1, labels), 30_000)) for v in range(count)]
        users: list[list[int]] = [[] for _ in range(count)]
        for a, b in edges:
            users[a].append(b)
        for v, readers in enumerate(users):
            table = _repacks(random, labels)
            if prices == "copies" and readers:
                factors.append(SharedCopies(v, tuple(readers), table))
            else:
                factors += [CostTable((v, reader), table) for reader in readers]
    return Problem(labels, 1, (Variable(tuple(range(labels))),) * count, tuple(factors))


def _drawn(random: Random, shape: tuple[int, ...], most: int) -> Costs:
    numbers = [random.randint(0, most) for _ in range(int(np.prod(shape)))]
    return np.array(numbers, np.int64).reshape(shape)


def _repacks(random: Random, labels: int) -> Costs:
    """A launch and so many bytes, slower between some layouts than others."""
    size = random.choice(_BYTES)
    speed = np.array([random.randint(1, 4) for _ in range(labels * labels)], np.int64)
    costs = _LAUNCH + (size // 8 * speed).reshape(1, labels, labels)
    costs[0, range(labels), range(labels)] = 0
    return costs


def recurrent(steps: int, width: int, layers: int = 1) -> LayoutGraph:
    """An LSTM as lowering unrolls it: gates are split at each step, and all steps joined."""
    return _Recurrent(width).graph(steps, layers)


class _Recurrent:
    def __init__(self, width: int) -> None:
        self._width = width
        self._tensors: list[Tensor] = []
        self._operators: list[Operator] = []

    def graph(self, steps: int, layers: int) -> LayoutGraph:
        width = self._width
        inputs = (self._tensor((1, steps, width)),)
        (x,) = self._call("aten.permute_copy.default", inputs, [(1, 0, 2)], [(steps, 1, width)])
        for _ in range(layers):
            x = self._layer(x, steps)
        (x,) = self._call("aten.permute_copy.default", [x], [(1, 0, 2)], [(1, steps, width)])
        return LayoutGraph("recurrent", tuple(self._tensors), tuple(self._operators), inputs, (x,))

    def _layer(self, x: int, steps: int) -> int:
        width = self._width
        gates, state = (1, 1, 4 * width), (1, 1, width)
        weights = [self._tensor((4 * width, width), constant=True) for _ in range(2)]
        bias = self._tensor((4 * width,), constant=True)
        (x,) = self._call("aten.squeeze_copy.dims", [x], [(1,)], [(steps, width)])
        (x,) = self._call("aten.linear.default", [x, weights[0], bias], [], [(steps, 4 * width)])
        (x,) = self._call("aten.unsqueeze_copy.default", [x], [1], [(steps, 1, 4 * width)])
        (h,) = self._call("aten.full.default", [], [(1, width), 0], [(1, width)])
        (c,) = self._call("aten.full.default", [], [state, 0], [state])
        made = []
        for step in range(steps):
            (own,) = self._call("aten.slice_copy.Tensor", [x], [0, step, step + 1, 1], [gates])
            (g,) = self._call("aten.linear.default", [h, weights[1], bias], [], [gates[1:]])
            (g,) = self._call("aten.unsqueeze_copy.default", [g], [1], [gates])
            (g,) = self._call("aten.add.Tensor", [g, own], [1], [gates])
            split = "aten.split_with_sizes_copy.default"
            parts = self._call(split, [g], [(width,) * 4, 2], [state] * 4)
            i, f, o = (self._one("aten.sigmoid.default", p, state) for p in parts[:3])
            c = self._both("mul", f, c)
            c = self._both("add", c, self._both("mul", i, self._tanh(parts[3])))
            h = self._both("mul", o, self._tanh(c))
            made.append(h)
            (h,) = self._call("aten.squeeze_copy.dims", [h], [(1,)], [(1, width)])
        return self._add("aten.cat.default", (TensorListArg(tuple(made)), 0), [(steps, 1, width)])[
            0
        ]

    def _tanh(self, x: int) -> int:
        return self._one("aten.tanh.default", x, (1, 1, self._width))

    def _both(self, name: str, a: int, b: int) -> int:
        shape = (1, 1, self._width)
        return self._call(f"aten.{name}.Tensor", [a, b], [1] if name == "add" else [], [shape])[0]

    def _one(self, name: str, x: int, shape: tuple[int, ...]) -> int:
        return self._call(name, [x], [], [shape])[0]

    def _call(
        self,
        name: str,
        read: Iterable[int],
        rest: Iterable[Scalar | tuple[int, ...]],
        shapes: Iterable[tuple[int, ...]],
    ) -> tuple[int, ...]:
        return self._add(name, (*map(TensorArg, read), *rest), shapes)

    def _add(
        self, name: str, args: tuple[object, ...], shapes: Iterable[tuple[int, ...]]
    ) -> tuple[int, ...]:
        outputs = tuple(map(self._tensor, shapes))
        self._operators.append(Operator(name, args, outputs))  # type: ignore[arg-type]
        return outputs

    def _tensor(self, shape: tuple[int, ...], *, constant: bool = False) -> int:
        number = len(self._tensors)
        self._tensors.append(Tensor(f"t{number}", shape, VkDataType.FLOAT32, constant))
        return number


def problem_of(graph: LayoutGraph, options: PlanOptions) -> Problem:
    """The layout problem of a graph."""
    return build_problem(graph, Limits(), options.cost_model()).problem


def of_file(file: Path) -> Iterator[Instance]:
    """The layout problems of a lowered program's delegates."""
    planned = replan(file.read_bytes(), file.name, PlanOptions())
    for delegate in planned.delegates:
        several = f" {delegate.plan.index}" if len(planned.delegates) > 1 else ""
        yield Instance(file.stem + several, delegate.layout_plan.layout.problem)


def of_model(name: str) -> Iterator[Instance]:
    """The layout problems of a model of the zoo, which is lowered for it."""
    from api.bench import zoo
    from planner.pipelines.exported import plan_exported

    (name,) = zoo.chosen([name])
    planned = plan_exported(zoo.save(name), name, PlanOptions())
    for delegate in planned.delegates:
        several = f" {delegate.plan.index}" if len(planned.delegates) > 1 else ""
        yield Instance(name + several, delegate.layout_plan.layout.problem)
