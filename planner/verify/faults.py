"""No operator is left with a known fault that another representation of its operands avoids.

The rows are the planner's own (``kernels/faults.json``, and a user's); which calls they concern,
and what else a call could have had, is worked out here again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

from planner.ir.graph import Argument
from planner.ir.representation import REPRS, TensorRepr
from planner.kernels.faults import Condition, Fault, Faults
from planner.kernels.limits import Limits
from planner.verify.layouts import are_compatible, texels
from planner.verify.operands import Demand, Operand, breaks_limits, literal
from planner.verify.program import Program, fail
from planner.verify.restrictions import Wanted
from schema import VkTensor
from schema.vkgraph import ValueList


def check_faults(
    program: Program, demands: Iterable[Demand], limits: Limits, wanted: Wanted | None = None
) -> None:
    """Shows that faults that can be avoided are; raises ``VerificationError``."""
    for demand in demands:
        rows = _rows(program, demand.index, limits.faults)
        operands = [o for o in demand.operands if not o.constant]
        met = [(row, o) for row in rows for o in operands if _meets(program, row, o)]
        if met and _can_avoid(program, demand, operands, rows, limits, wanted):
            row, operand = met[0]
            given = program.representations[operand.tensors[0]]
            raise fail(
                program.place(demand.index, operand.name),
                f"{given} has a known fault ({row.effect}, {row.source}), and others have none",
            )


def _meets(program: Program, row: Fault, operand: Operand) -> bool:
    given = program.representations[operand.tensors[0]]
    return given in row.representations and _names(row, operand)


def _names(row: Fault, operand: Operand) -> bool:
    side, _, index = operand.name.partition(" ")
    return not row.operands or (side, int(index)) in row.operands


def _can_avoid(
    program: Program,
    demand: Demand,
    operands: Sequence[Operand],
    rows: Sequence[Fault],
    limits: Limits,
    wanted: Wanted | None,
) -> bool:
    """Whether the operands of a call, taken alone, can do without any of its faults."""
    left: dict[str, list[TensorRepr]] = {}
    for o in operands:
        left[o.name] = [
            r
            for r in (
                o.accepted if wanted is None else o.accepted & wanted.allowed(demand.index, o)
            )
            if not any(r in row.representations and _names(row, o) for row in rows)
            and all(breaks_limits(program.tensor(t), r, limits) is None for t in o.tensors)
        ]
    if not all(left.values()):
        return False
    for group in demand.groups:
        members = [left[o.name] for o in group if o.name in left]
        if not any(
            all(are_compatible(r, first) for r in rest)
            for first, *rest in product(*(_unlike(m) for m in members))
        ):
            return False
    return True


def _unlike(representations: Sequence[TensorRepr]) -> list[TensorRepr]:
    """One of each kind of representations that are compatible with each other."""
    kinds: list[TensorRepr] = []
    for r in representations:
        if not any(are_compatible(r, other) for other in kinds):
            kinds.append(r)
    return kinds


def _rows(program: Program, index: int, faults: Faults) -> list[Fault]:
    """The rows that concern a call."""
    name = program.calls[index].name
    named = (row for row in faults.rows if name in row.operators or "*" in row.operators)
    return [row for row in named if all(_is_true(program, index, c) for c in row.when)]


def _is_true(program: Program, index: int, condition: Condition) -> bool:
    for found in _subjects(program, index, condition):
        wanted, number = condition.value, isinstance(found, (int, float))
        match condition.test:
            case "is":
                true = found == wanted
            case "is_not":
                true = found != wanted
            case "is_none_of":
                true = found not in wanted
            case "has":
                true = isinstance(found, tuple) and wanted in found
            case "more_than":
                true = number and found > wanted
            case "less_than":
                true = number and found < wanted
            case _:
                true = number and found % wanted != 0
        if true:
            return True
    return False


def _subjects(program: Program, index: int, condition: Condition) -> Iterator[Any]:
    call = program.calls[index]
    side, position = condition.operand
    ids: tuple[int, ...] = ()
    if side == "output":
        tensors = program.outputs(call)[position : position + 1]
    else:
        ids = call.args[:-1][position : position + 1]
        tensors = tuple(t for i in ids for t in program.tensors_of(i))
        if condition.what in ("value", "dims"):
            found = [literal(program, i) for i in ids if not program.tensors_of(i)]
            yield from (
                found
                if condition.what == "value"
                else (_from_end(program, call.args[0], value) for value in found)
            )
            return
    if condition.what == "members":
        listed = (program.graph.values[i] for i in ids)
        yield from (len(value.items) for value in listed if isinstance(value, ValueList))
        return
    if condition.what == "in_place":
        yield any(t in members for t in tensors for _, members in program.arguments(call))
        return
    for value_id in tensors:
        tensor = program.tensor(value_id)
        match condition.what:
            case "rank":
                yield len(tensor.dims)
            case "dtype":
                yield tensor.datatype.name
            case "workgroup_x":
                if len(tensor.dims) <= 4:
                    layout = REPRS[condition.index].memory_layout
                    yield _invocations_along_x(texels(tensor.dims, layout))
            case _:
                padded = (*(1 for _ in range(-condition.index)), *tensor.dims)
                yield padded[condition.index]


def _invocations_along_x(extents: tuple[int, ...]) -> int:
    """Of a workgroup, as ``ComputeGraph.cpp`` (``create_local_wg_size``) chooses it."""
    x, y, z = extents
    rank = (y > x) + (z > x)
    least = min(extents)
    if least == 1:
        others = sorted((y, z))
        middle = sorted(extents)[1]
        if rank == 0:
            return 64 if middle == 1 else 16 if middle % 4 == 0 else 32
        if rank == 1 and others[0] == 1:
            return 1 if x == 1 else 4 if x % 4 == 0 else 2
        return 1
    return 8 if rank == 0 else min(4, x) if rank == 1 else 2


def _from_end(program: Program, first: int, named: Argument) -> tuple[int, ...]:
    """Dimensions of the first argument that a literal names, the last one as -1."""
    tensor = program.graph.values[first]
    rank = len(tensor.dims) if isinstance(tensor, VkTensor) else 0
    dims = named if isinstance(named, tuple) else (named,)
    return tuple(d % rank - rank if rank else d for d in dims if isinstance(d, int))
