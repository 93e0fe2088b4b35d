"""Kernels of ET-VK that are known to do wrong: data with sources, and a user's own rows.

A row names an operator, the representations in which it fails, and the calls that it concerns. The
built-in rows are ``faults.json`` beside this module; ``docs/kernels.md`` describes the fields.
``shaders.json`` has kernels by operator, how their shaders are named from a release on, and the
dtypes for which these are made, alike for buffers and textures: the runtime picks one by its name,
and does not load a program that asks for another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Any, Final

from planner.errors import OptionError
from planner.ir.graph import (
    Argument,
    LayoutGraph,
    Operator,
    Representations,
    Side,
    Tensor,
    TensorArg,
    TensorListArg,
)
from planner.ir.physical import MAX_TEXTURE_DIMS, ImageExtents, image_extents
from planner.ir.representation import ANY_TEXTURE, REPRS, TensorRepr, TensorRepSet
from planner.kernels.releases import RELEASES, Release, Runtime, parse_runtime
from schema import VkDataType
from schema.frozen import frozen

_BUILT_IN: Final = Path(__file__).with_name("faults.json")
_SHADERS: Final = Path(__file__).with_name("shaders.json")
DTYPES: Final = {
    "float": (VkDataType.FLOAT32,),
    "half": (VkDataType.FLOAT16,),
    "int32": (VkDataType.INT32,),
    "int8": (VkDataType.INT8,),
    "uint8": (VkDataType.UINT8, VkDataType.BOOL),
}
"""A shader's dtype as its name has it. Source: ``ShaderNameUtils.cpp`` (``add_dtype_suffix``)."""

_ANY: Final = "*"
DOES_NOT_LOAD: Final = "does not load"
EFFECTS: Final = ("wrong values", DOES_NOT_LOAD, "unstable")
_TESTS: Final = ("is", "is_not", "is_none_of", "more_than", "less_than", "not_multiple_of", "has")
_ROW: Final = frozenset(
    {"operators", "representations", "operands", "when", "runtime", "gpus", "effect", "source"}
    | {"state", "seen"}
)
_SIDES: Final[tuple[Side, ...]] = ("argument", "output")
_MOST_DEVICES: Final = 64
"""Devices whose rows are remembered."""
_SCALAR: Final = (str, int, float, type(None))
_WHEN: Final = frozenset(
    {"size", "rank", "dtype", "value", "members", "dims", "workgroup_x", "in_place", *_TESTS}
)


@frozen
class Condition:
    """A condition on a call's operands.

    ``what`` of ``operand`` (a side, and the index there) stands in the relation ``test`` to
    ``value``: a ``size`` at ``index`` from the end, the ``rank``, the ``dtype``, a literal
    ``value``, the ``members`` of a list of tensors (their number, empty ones counted), the ``dims``
    that a literal names, counted from the end of ``argument 0``, or the invocations along x
    (``workgroup_x``) of a kernel's workgroups over the tensor as the texture of label ``index``; or
    whether it is an output that is also an argument (``in_place``).
    """

    what: str
    operand: tuple[Side, int]
    index: int
    test: str
    value: Any


@frozen
class Fault:
    """A kernel's known fault: in these ``representations`` of ``operands``, ``when`` all hold.

    An operator ``*`` is any. Without ``operands`` it is any operand of the call. Without ``gpus``
    it is any GPU; a name there is part of the GPU's own name, in any case. ``seen`` is what showed
    it.
    """

    operators: tuple[str, ...]
    representations: TensorRepSet
    operands: tuple[tuple[Side, int], ...]
    when: tuple[Condition, ...]
    releases: tuple[Release, ...]
    gpus: tuple[str, ...]
    effect: str
    source: str
    state: str
    seen: str

    @property
    def is_of_any_operator(self) -> bool:
        """Whether the row is not about certain operators."""
        return _ANY in self.operators

    def is_for(self, runtime: Runtime, gpu: str | None) -> bool:
        """Whether the row concerns a runtime, and a GPU by its name."""
        return not set(self.releases).isdisjoint(runtime.releases) and (
            not self.gpus or any(_named(gpu, name) for name in self.gpus)
        )

    def is_about(self, side: Side, index: int) -> bool:
        """Whether the row is about this operand of a call."""
        return not self.operands or (side, index) in self.operands

    def concerns(self, side: Side, index: int, representation: TensorRepr) -> bool:
        """Whether an operand has the fault in this representation."""
        return representation in self.representations and self.is_about(side, index)


@frozen
class Faults:
    """The faults that a plan avoids: rows that concern its runtime and GPU, by operator."""

    rows: tuple[Fault, ...] = ()
    _by_name: Mapping[str, Sequence[Fault]] = field(init=False, repr=False, compare=False)
    _for_device: dict[tuple[Runtime, str | None], Faults] = field(
        init=False, repr=False, compare=False
    )
    _named: Faults | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Asked for every operator: what names it is looked up, not searched.
        by_name: dict[str, list[Fault]] = {}
        for row in self.rows:
            for name in dict.fromkeys(row.operators):
                by_name.setdefault(name, []).append(row)
        object.__setattr__(self, "_by_name", by_name)
        object.__setattr__(self, "_for_device", {})
        named = tuple(row for row in self.rows if not row.is_of_any_operator)
        others = None if len(named) == len(self.rows) else Faults(named)
        object.__setattr__(self, "_named", others)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        # Those that ship are there, wherever options are sent.
        return (builtin_faults, ()) if self is builtin_faults() else (Faults, (self.rows,))

    @property
    def named(self) -> Faults:
        """Those of certain operators; these faults themselves, if all are."""
        return self if self._named is None else self._named

    @property
    def digest(self) -> str | None:
        """The SHA-256 of the rows; None where there are none."""
        return hashlib.sha256(repr(self.rows).encode()).hexdigest() if self.rows else None

    def of(self, operator: Operator, tensors: Sequence[Tensor]) -> tuple[Fault, ...]:
        """The faults that a call of an operator can have, in some representation."""
        rows = (*self._by_name.get(operator.name, ()), *self._by_name.get(_ANY, ()))
        return tuple(row for row in rows if all(_holds(c, operator, tensors) for c in row.when))

    def for_device(self, runtime: Runtime, gpu: str | None) -> Faults:
        """The rows that concern a runtime, and a GPU by its name."""
        # The same devices are planned for again and again.
        found = self._for_device.get((runtime, gpu))
        if found is None:
            if len(self._for_device) == _MOST_DEVICES:
                self._for_device.clear()
            rows = (row for row in self.rows if row.is_for(runtime, gpu))
            found = self._for_device[runtime, gpu] = Faults(tuple(rows))
        return found


def _named(gpu: str | None, name: str) -> bool:
    return gpu is not None and name.lower() in gpu.lower()


@cache
def builtin_faults() -> Faults:
    """The rows that ship with the planner."""
    table = parse_faults(_BUILT_IN.read_text("utf-8"), _BUILT_IN.name)
    return Faults((*table.rows, *_without_shader()))


def _without_shader() -> Iterator[Fault]:
    """A row for each kernel: the dtypes for which it has no shader, in any release that has it."""
    found = json.loads(_SHADERS.read_text("utf-8"))
    for kernel in found["kernels"]:
        operand, names = _operand(kernel["dtype_of"]), kernel["dtypes"]
        first, shader = min(kernel["shaders"]), kernel["shaders"][max(kernel["shaders"])]
        dtypes = tuple(dtype.name for name in names for dtype in DTYPES[name])
        yield Fault(
            operators=tuple(kernel["operators"]),
            representations=_representations(("any",)),
            operands=(operand,),
            when=(Condition("dtype", operand, 0, "is_none_of", dtypes),),
            releases=parse_runtime(f"{first}+").releases,
            gpus=(),
            effect=DOES_NOT_LOAD,
            source=f"{found['source']}/impl/{kernel['source']}",
            state="open",
            seen=f"shaders {shader} are made for {', '.join(names)}",
        )


def load_faults(path: str | Path) -> Faults:
    """A user's rows from a JSON file; raises ``OptionError`` naming the row and the field."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"cannot read the faults to avoid, {path}: {error}") from error
    return parse_faults(text, str(path))


def parse_faults(text: str, where: str) -> Faults:
    """The rows of a JSON text; raises ``OptionError`` naming ``where``, the row and the field."""
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise OptionError(f"{where} has no faults to avoid: invalid JSON: {error}") from None
    if not isinstance(document, list):
        raise OptionError(f"{where} has no faults to avoid: it is not a list of rows")
    rows = []
    for number, row in enumerate(document):
        try:
            rows.append(_fault(row))
        except (ValueError, OptionError) as error:
            raise OptionError(f"{where}, row {number}: {error}") from None
    return Faults(tuple(rows))


@frozen
class MetFault:
    """An operator, by index, that has a known fault in a representation of one of its operands."""

    operator: int
    representation: TensorRepr
    fault: Fault


def met_faults(
    graph: LayoutGraph, faults: Faults, representations: Representations
) -> Iterator[MetFault]:
    """The faults that a graph's operators have under given representations, each once."""
    rows: dict[int, tuple[Fault, ...]] = {}
    for number, first in enumerate(graph.alike.tolist()):
        if first not in rows:
            rows[first] = faults.of(graph.operators[first], graph.tensors)
        if not rows[first]:
            continue
        operator = graph.operators[number]
        for fault in rows[first]:
            given = (
                (side, index, representations(number, side, index, t))
                for side, index, members in operator.operands()
                for t in members
            )
            for side, index, found in given:
                if found is not None and fault.concerns(side, index, found):
                    yield MetFault(number, found, fault)
                    break


# Conditions on a call.


def _holds(condition: Condition, operator: Operator, tensors: Sequence[Tensor]) -> bool:
    found = list(_values(condition, operator, tensors))
    return any(_compare(condition.test, value, condition.value) for value in found)


def _values(condition: Condition, operator: Operator, tensors: Sequence[Tensor]) -> Iterator[Any]:
    """What a condition compares: for a list of tensors, one value for each member."""
    side, position = condition.operand
    if condition.what in ("value", "dims"):
        literal = _literal(operator, position)
        if literal is _ABSENT:
            return
        yield literal if condition.what == "value" else _from_end(literal, operator, tensors)
        return
    if condition.what == "members":
        listed = operator.args[position : position + 1] if side == "argument" else ()
        yield from (len(a.tensors) for a in listed if isinstance(a, TensorListArg))
        return
    if condition.what == "in_place":
        made = _members(side, position, operator)
        yield any(t in members for t in made for _, members in operator.tensor_args())
        return
    for t in _members(side, position, operator):
        tensor = tensors[t]
        if condition.what == "rank":
            yield len(tensor.shape)
        elif condition.what == "dtype":
            yield tensor.dtype.name
        elif condition.what == "workgroup_x":
            if len(tensor.shape) <= MAX_TEXTURE_DIMS:
                layout = REPRS[condition.index].memory_layout
                yield _workgroup(image_extents(tensor.shape, layout))[0]
        else:
            # A dimension that a tensor lacks has one element.
            yield tensor.shape[condition.index] if len(tensor.shape) >= -condition.index else 1


def _members(side: Side, position: int, operator: Operator) -> tuple[int, ...]:
    if side == "output":
        return operator.outputs[position : position + 1]
    if position >= len(operator.args):
        return ()
    argument = operator.args[position]
    if isinstance(argument, TensorArg):
        return (argument.tensor,)
    if isinstance(argument, TensorListArg):
        return tuple(t for t in argument.tensors if t is not None)
    return ()


def _workgroup(extents: ImageExtents) -> tuple[int, int, int]:
    """Invocations of a workgroup along each axis of an image, as the runtime picks them.

    Source: ``runtime/graph/ComputeGraph.cpp`` (``create_local_wg_size``).
    """
    first, second, third = sorted(range(3), key=lambda axis: -extents[axis])
    found = [0, 0, 0]
    found[first], found[second] = 8, min(4, extents[second])
    found[third] = min(2, extents[third])
    if extents[third] == 1:
        if extents[second] == 1:
            found[first], found[second] = 64, 1
        else:
            found[first], found[second] = (16, 4) if extents[second] % 4 == 0 else (32, 2)
    return found[0], found[1], found[2]


_ABSENT: Final = object()


def _literal(operator: Operator, position: int) -> Argument | object:
    if position >= len(operator.args):
        return _ABSENT
    argument = operator.args[position]
    return _ABSENT if isinstance(argument, (TensorArg, TensorListArg)) else argument


def _from_end(literal: Any, operator: Operator, tensors: Sequence[Tensor]) -> list[int]:
    """Dimensions of argument 0 that a literal names, the last one as -1."""
    members = _members("argument", 0, operator)
    rank = len(tensors[members[0]].shape) if members else 0
    dims = literal if isinstance(literal, tuple) else (literal,)
    return [d - rank if d >= 0 else d for d in dims if isinstance(d, int)]


def _compare(test: str, found: Any, value: Any) -> bool:
    if test == "has":
        return isinstance(found, (list, tuple)) and value in found
    if test in ("is", "is_not"):
        same = tuple(found) == value if isinstance(found, (list, tuple)) else found == value
        return bool(same) == (test == "is")
    if test == "is_none_of":
        return found not in value
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return False
    if test == "more_than":
        return bool(found > value)
    if test == "less_than":
        return bool(found < value)
    return bool(found % value != 0)


# Rows as they are written.


def _fault(row: Any) -> Fault:
    if not isinstance(row, dict):
        raise ValueError("it is not an object")
    if unknown := row.keys() - _ROW:
        raise ValueError(f"unknown field {min(unknown)!r}: use {', '.join(sorted(_ROW))}")
    effect = row.get("effect")
    if effect not in EFFECTS:
        raise ValueError(f"effect should be one of {', '.join(EFFECTS)}")
    runtime = row.get("runtime")
    return Fault(
        operators=_texts(row, "operators"),
        representations=_representations(_texts(row, "representations")),
        operands=tuple(map(_operand, _texts(row, "operands", optional=True))),
        when=tuple(map(_condition, _list(row, "when"))),
        releases=RELEASES if runtime is None else _releases(runtime),
        gpus=_texts(row, "gpus", optional=True),
        effect=effect,
        source=_text(row, "source"),
        state=_text(row, "state"),
        seen=_text(row, "seen"),
    )


def _list(row: Mapping[str, Any], field: str) -> list[Any]:
    found = row.get(field, [])
    if not isinstance(found, list):
        raise ValueError(f"{field} is not a list")
    return found


def _texts(row: Mapping[str, Any], field: str, *, optional: bool = False) -> tuple[str, ...]:
    found = _list(row, field)
    if not all(isinstance(text, str) and text for text in found) or not (found or optional):
        raise ValueError(f"{field} should be a list of texts")
    return tuple(found)


def _text(row: Mapping[str, Any], field: str) -> str:
    found = row.get(field, "")
    if not isinstance(found, str) or (field == "source" and not found):
        raise ValueError(f"{field} should be a text")
    return found


def _releases(runtime: Any) -> tuple[Release, ...]:
    """``1.3``, ``1.3+``, or a list of releases."""
    texts = runtime if isinstance(runtime, list) else [runtime]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("runtime should be a release, or a list of them")
    return tuple(dict.fromkeys(r for text in texts for r in parse_runtime(text).releases))


def _representations(names: tuple[str, ...]) -> TensorRepSet:
    """Representations by name; ``any``, ``texture`` and ``buffer`` are all of a kind."""
    mask = 0
    for name in names:
        found = [r for r in REPRS if name in ("any", str(r), str(r).partition(":")[0])]
        if not found:
            raise ValueError(
                f"unknown representation {name!r}: use any, texture, buffer, or as in "
                f"{REPRS[0]} and {REPRS[-1]}"
            )
        mask |= TensorRepSet.from_reprs(found).mask
    return TensorRepSet(mask)


def _operand(name: Any) -> tuple[Side, int]:
    kind, _, position = name.partition(" ") if isinstance(name, str) else ("", "", "")
    for side in _SIDES:
        if side == kind and position.isascii() and position.isdecimal():
            return side, int(position)
    raise ValueError(f"{name!r} is not an operand: write argument 0 or output 0")


def _condition(fields: Any) -> Condition:
    if not isinstance(fields, dict):
        raise ValueError("a condition in when is not an object")
    if unknown := fields.keys() - _WHEN - {"at", "as"}:
        raise ValueError(f"unknown condition {min(unknown)!r}: use {', '.join(sorted(_WHEN))}")
    tests = [test for test in _TESTS if test in fields]
    subjects = [key for key in fields if key not in (*_TESTS, "at", "as")]
    if len(tests) != 1 or len(subjects) != 1:
        raise ValueError("a condition has one subject (size, rank, ...) and one test (is, ...)")
    (what,), (test,) = subjects, tests
    value, at = fields[test], fields.get("at", 0)
    value = tuple(value) if isinstance(value, list) else value
    if not all(isinstance(v, _SCALAR) for v in (value if isinstance(value, tuple) else (value,))):
        raise ValueError(f"{test} should be a text, a number, true, false, null, or a list of them")
    if test in ("more_than", "less_than", "not_multiple_of") and (
        isinstance(value, bool) or not isinstance(value, (int, float)) or value == 0
    ):
        raise ValueError(f"{test} should be a number other than 0")
    if test == "is_none_of" and not isinstance(value, tuple):
        raise ValueError("is_none_of should be a list")
    for dtype in (value if isinstance(value, tuple) else (value,)) if what == "dtype" else ():
        if dtype not in VkDataType.__members__:
            known = ", ".join(VkDataType.__members__)
            raise ValueError(f"unknown dtype {dtype!r}: use one of {known}")
    if what == "size" and not (isinstance(at, int) and at < 0):
        raise ValueError("size needs at: -1 for the last dimension, -2 for the one before it")
    if what == "workgroup_x":
        textures = [label for label in ANY_TEXTURE.labels if str(REPRS[label]) == fields.get("as")]
        if not textures:
            raise ValueError("workgroup_x needs as: a texture, as in texture:WIDTH_PACKED")
        (at,) = textures
    return Condition(what, _operand(fields[what]), at, test, value)
