"""A program as layout planning sees it: operators, tensors and their connections.

Every reader makes a ``LayoutGraph`` and every writer takes a plan of one. Nothing here depends on
the format that the graph came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Protocol

from planner.ir.representation import TensorRepr
from schema import VkDataType


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value in GPU memory.

    ``shape`` is outermost first, with upper bounds for symbolic dimensions. ``dtype`` is the
    element type in GPU memory, after any down-cast. A ``constant`` is a weight that its operators
    prepack themselves, so it has no representation to choose.
    """

    name: str
    shape: tuple[int, ...]
    dtype: VkDataType
    constant: bool = False

    @property
    def shape_text(self) -> str:
        """The shape as text, for messages."""
        return "x".join(map(str, self.shape)) or "scalar"


@dataclass(frozen=True, slots=True)
class TensorArg:
    """An argument that is one tensor, by its index in the graph."""

    tensor: int


@dataclass(frozen=True, slots=True)
class TensorListArg:
    """An argument that is a list of tensors, by index; ``None`` is a member left out."""

    tensors: tuple[int | None, ...]


class Symbolic(Enum):
    """Marks an argument whose value is known only when the program runs."""

    VALUE = "symbolic"


Scalar = bool | int | float | str | None
Argument = TensorArg | TensorListArg | Symbolic | Scalar | tuple[Scalar | Symbolic, ...]


Side = Literal["argument", "output"]


@dataclass(frozen=True, slots=True)
class Operator:
    """A call of an operator: its registry name, arguments in schema order, and output tensors."""

    name: str
    args: tuple[Argument, ...]
    outputs: tuple[int, ...]

    def tensor_args(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yields (argument index, tensors) for each argument made of tensors alone."""
        for index, arg in enumerate(self.args):
            if isinstance(arg, TensorArg):
                yield index, (arg.tensor,)
            elif isinstance(arg, TensorListArg):
                members = tuple(t for t in arg.tensors if t is not None)
                # ET-VK does not treat a list with a member left out as a tensor argument.
                if members and len(members) == len(arg.tensors):
                    yield index, members

    def operands(self) -> Iterator[tuple[Side, int, tuple[int, ...]]]:
        """Yields (side, index, tensors) for the arguments of ``tensor_args``, then the outputs."""
        for index, members in self.tensor_args():
            yield "argument", index, members
        for index, output in enumerate(self.outputs):
            yield "output", index, (output,)


@dataclass(frozen=True, slots=True)
class PinnedReprs:
    """The representations that an operator keeps, by argument and output.

    An argument has one for each of its tensors, in their order. None is for one without a
    representation: no tensor, a constant, or a tensor whose representation the runtime chooses.
    ``direct`` are the arguments that are the tensors themselves, where a copy would not do.
    """

    args: Mapping[int, tuple[TensorRepr | None, ...]]
    outs: tuple[TensorRepr | None, ...]
    direct: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Alike:
    """For each operator, the first with the same name, literals, and kinds of tensors.

    Where one tensor is several operands of an operator, it is so in those that are like it.
    """

    operators: Sequence[Operator]
    tensors: Sequence[Tensor]
    first: tuple[int, ...]

    @classmethod
    def of(cls, operators: Sequence[Operator], tensors: Sequence[Tensor]) -> Alike:
        """The operators that are alike."""
        kinds: dict[tuple[object, ...], int] = {}
        kind_of = [
            kinds.setdefault((tensor.shape, tensor.dtype, tensor.constant), len(kinds))
            for tensor in tensors
        ]
        known: dict[tuple[object, ...], int] = {}
        first = [
            known.setdefault(_form(operator, kind_of), index)
            for index, operator in enumerate(operators)
        ]
        return cls(operators, tensors, tuple(first))


def _form(operator: Operator, kind_of: Sequence[int]) -> tuple[object, ...]:
    """All of an operator but which tensors it has."""
    form: list[object] = [operator.name, len(operator.outputs)]
    tensors: list[int | None] = []
    for arg in operator.args:
        if isinstance(arg, TensorArg):
            tensors.append(arg.tensor)
            form.append(TensorArg)
        elif isinstance(arg, TensorListArg):
            tensors += arg.tensors
            form.append((TensorListArg, len(arg.tensors)))
        elif isinstance(arg, tuple):
            # Equal numbers of different types are different arguments.
            form.append((arg, *map(type, arg)))
        else:
            form.append((arg, type(arg)))
    tensors += operator.outputs
    form += [None if t is None else kind_of[t] for t in tensors]
    if len(set(tensors)) < len(tensors):
        places = {t: place for place, t in enumerate(dict.fromkeys(tensors))}
        form.append(tuple([places[t] for t in tensors]))
    return tuple(form)


@dataclass(frozen=True, slots=True)
class LayoutGraph:
    """One delegate's program, in execution order.

    Tensors that no operator with rep sets produces (graph inputs, prepacked constants) may take
    any representation for free; so may graph outputs. ``textures_first`` prefers textures wherever
    an operator accepts them, as ET-VK does for programs forced to float16. ``pinned`` are
    operators, by index, that keep their present representations. ``positions`` are the operators'
    positions in the chain that they were read from; empty if they are the same as here.
    ``aliases`` are further names of tensors, and ``delegates`` the delegates that have this graph,
    by their places in the program.
    """

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    textures_first: bool = False
    pinned: Mapping[int, PinnedReprs] = field(default_factory=dict)
    positions: tuple[int, ...] = ()
    aliases: Mapping[int, str] = field(default_factory=dict)
    delegates: frozenset[int] = frozenset({0})
    _alike: Alike | None = field(default=None, repr=False, compare=False)

    @property
    def alike(self) -> tuple[int, ...]:
        """For each operator, the first that differs from it in nothing but which tensors it has."""
        known = self._alike
        if (
            known is None
            or known.operators is not self.operators
            or known.tensors is not self.tensors
        ):
            known = Alike.of(self.operators, self.tensors)
            object.__setattr__(self, "_alike", known)
        return known.first

    def number_of(self, operator: int) -> int:
        """The position of an operator, by its index here, in the chain that it was read from."""
        return self.positions[operator] if self.positions else operator

    def place_of(self, operator: int) -> str:
        """An operator, by its index here, as messages name it."""
        return f"operator {self.number_of(operator)} ({self.operators[operator].name})"


@dataclass(frozen=True, slots=True)
class Operand:
    """An argument of an operator, by the operator's index in the graph."""

    operator: int
    argument: int


class Repacked(Protocol):
    """A repack of a plan, of a file or of ExecuTorch's pass: its users read the target."""

    @property
    def tensor(self) -> int:
        """The tensor that is copied."""

    @property
    def source(self) -> TensorRepr:
        """The representation in which the tensor is made."""

    @property
    def target(self) -> TensorRepr:
        """The representation of the copy."""

    @property
    def users(self) -> Sequence[Operand]:
        """The operands that read the copy."""


@dataclass(frozen=True, slots=True)
class Repack:
    """A repack that is there: ``tensor`` is copied from ``source`` to ``target`` for ``users``."""

    tensor: int
    source: TensorRepr
    target: TensorRepr
    users: tuple[Operand, ...]


Representations = Callable[[int, Side, int, int], TensorRepr | None]
"""Answers which representation an operator's argument or output has, and so a tensor of it.

Asked for the operator's index, the side, the operand's index there, and the tensor.
"""


class Layouts:
    """The ``Representations`` of a graph whose tensors are made and repacked like this.

    ``made[t]`` is the representation in which tensor ``t`` is made; None if it is not known.
    """

    def __init__(self, made: Sequence[TensorRepr | None], repacks: Iterable[Repacked]) -> None:
        self.made, self.repacks = tuple(made), tuple(repacks)
        self._copied = {
            (user.operator, user.argument, repack.tensor): repack.target
            for repack in self.repacks
            for user in repack.users
        }

    def __call__(self, operator: int, side: Side, index: int, tensor: int) -> TensorRepr | None:
        """The representation of an operator's argument or output, and so of a tensor of it."""
        copy = self._copied.get((operator, index, tensor)) if side == "argument" else None
        return self.made[tensor] if copy is None else copy
