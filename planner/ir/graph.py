"""A program as layout planning sees it: operators, tensors and their connections.

Every reader makes a ``LayoutGraph`` and every writer takes a plan of one. Nothing here depends on
the format that the graph came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from planner.ir.representation import TensorRepr
from schema import VkDataType
from schema.frozen import frozen


@frozen
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


@frozen
class TensorArg:
    """An argument that is one tensor, by its index in the graph."""

    tensor: int


@frozen
class TensorListArg:
    """An argument that is a list of tensors, by index; ``None`` is a member left out."""

    tensors: tuple[int | None, ...]


class Symbolic(Enum):
    """Marks an argument whose value is known only when the program runs."""

    VALUE = "symbolic"


Scalar = bool | int | float | str | None
Argument = TensorArg | TensorListArg | Symbolic | Scalar | tuple[Scalar | Symbolic, ...]


Side = Literal["argument", "output"]

NO_TENSOR: Final = -1
"""Stands in a row of tensors for a list's member that is left out."""


@frozen
class Operator:
    """A call of an operator: its registry name, arguments in schema order, and output tensors."""

    name: str
    args: tuple[Argument, ...]
    outputs: tuple[int, ...]

    def row(self) -> list[int | None]:
        """The tensors of its arguments, then its outputs; None for a member that is left out."""
        row: list[int | None] = []
        for arg in self.args:
            if isinstance(arg, TensorArg):
                row.append(arg.tensor)
            elif isinstance(arg, TensorListArg):
                row += arg.tensors
        return [*row, *self.outputs]

    def general(self) -> Operator:
        """The form of the operator: its tensors are their places in its row."""
        return self.with_tensors(range(len(self.row())))

    def with_tensors(self, row: Sequence[int]) -> Operator:
        """The operator with other tensors, by the places that its own are in a row."""
        args: list[Argument] = []
        at = 0
        for arg in self.args:
            if isinstance(arg, TensorArg):
                args.append(TensorArg(row[at]))
                at += 1
            elif isinstance(arg, TensorListArg):
                end = at + len(arg.tensors)
                members = row[at:end]
                args.append(TensorListArg(tuple([None if t == NO_TENSOR else t for t in members])))
                at = end
            else:
                args.append(arg)
        return Operator(self.name, tuple(args), tuple(row[at:]))

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


@frozen
class PinnedReprs:
    """The representations that an operator keeps, by argument and output.

    An argument has one for each of its tensors, in their order. None is for one without a
    representation: no tensor, a constant, or a tensor whose representation the runtime chooses.
    ``direct`` are the arguments that are the tensors themselves, where a copy would not do.
    """

    args: Mapping[int, tuple[TensorRepr | None, ...]]
    outs: tuple[TensorRepr | None, ...]
    direct: frozenset[int] = frozenset()


class Operators(Sequence[Operator]):
    """Operators as columns: those of one form differ in nothing but which tensors they have.

    The row of an operator has the tensors of its arguments, then its outputs; ``NO_TENSOR`` is a
    list's member that is left out. ``rows`` has all of them, that of operator ``i`` from
    ``starts[i]`` to ``starts[i + 1]``. ``forms`` are operators whose tensors are places in a row;
    operator ``i`` has the form ``form[i]``.
    """

    def __init__(self, forms: Iterable[Operator], form: Sequence[int], rows: Sequence[int]) -> None:
        self.forms = tuple(forms)
        self.form = np.array(form, np.int32)
        self.rows = np.array(rows, np.int32)
        widths = np.array([len(operator.row()) for operator in self.forms], np.int64)
        self.starts = np.concatenate([[0], np.cumsum(widths[self.form])]).astype(np.int32)

    @classmethod
    def of(cls, operators: Iterable[Operator]) -> Operators:
        """These operators."""
        known: dict[object, int] = {}
        forms: list[Operator] = []
        form: list[int] = []
        rows: list[int] = []
        for operator in operators:
            row, general = operator.row(), operator.general()
            # Equal numbers of different types, or of different signs, are different arguments.
            number = known.setdefault(repr(general), len(forms))
            if number == len(forms):
                forms.append(general)
            form.append(number)
            rows += [NO_TENSOR if t is None else t for t in row]
        return cls(forms, form, rows)

    def __len__(self) -> int:
        return len(self.form)

    @overload
    def __getitem__(self, at: int) -> Operator: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Operator]: ...
    def __getitem__(self, at: int | slice) -> Operator | Sequence[Operator]:
        if isinstance(at, slice):
            return tuple([self[i] for i in range(len(self))[at]])
        at = range(len(self))[at]
        row: list[int] = self.rows[self.starts[at] : self.starts[at + 1]].tolist()
        return self.forms[int(self.form[at])].with_tensors(row)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def names(self) -> Iterator[str]:
        """The name of each operator."""
        names = [form.name for form in self.forms]
        return (names[form] for form in self.form.tolist())

    def outputs(self) -> NDArray[np.int32]:
        """The tensors that operators make, one after another."""
        made = np.array([len(form.outputs) for form in self.forms], np.int64)[self.form]
        before = np.cumsum(made) - made
        at = np.repeat(self.starts[1:] - made - before, made) + np.arange(made.sum())
        found: NDArray[np.int32] = self.rows[at]
        return found

    def alike(self, tensors: Sequence[Tensor]) -> NDArray[np.int32]:
        """For each operator, the first that differs in nothing but which tensors it has.

        Those are of the same kinds, and where one tensor is several operands of an operator, it is
        so in those that are like it.
        """
        from solver import equal_rows

        kinds: dict[object, int] = {}
        kind_of = [kinds.setdefault((t.shape, t.dtype, t.constant), len(kinds)) for t in tensors]
        # The last is for a member that is left out, NO_TENSOR.
        kind = np.array([*kind_of, len(kinds)])
        first = np.empty(len(self), np.int32)
        for members in equal_rows(self.form[:, None]):
            width = self.starts[members[0] + 1] - self.starts[members[0]]
            rows = self.rows[self.starts[members][:, None] + np.arange(width)]
            same = (rows[:, :, None] == rows[:, None, :]).argmax(2) if width else rows
            for equal in equal_rows(np.hstack([kind[rows], same])):
                first[members[equal]] = members[equal[0]]
        return first


@dataclass(frozen=True, slots=True, eq=False)
class _Alike:
    """What is worked out of a graph's operators once."""

    of: Sequence[Operator]
    tensors: Sequence[Tensor]
    operators: Operators
    first: NDArray[np.int32]


@frozen
class LayoutGraph:
    """One delegate's program, in execution order.

    Tensors that no operator with rep sets produces (graph inputs, prepacked constants) may take
    any representation for free; so may graph outputs. ``textures_first`` prefers textures wherever
    an operator accepts them, as ET-VK does for programs forced to float16. ``pinned`` are
    operators, by index, that keep their present representations. ``positions`` are the operators'
    positions in the chain that they were read from; empty if they are the same as here. ``values``
    are the values that tensors were read from, which name them; empty if they have names.
    ``aliases`` are further names of tensors, and ``delegates`` the delegates that have this graph,
    by their places in the program.
    """

    name: str
    tensors: tuple[Tensor, ...]
    operators: Sequence[Operator]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    textures_first: bool = False
    pinned: Mapping[int, PinnedReprs] = field(default_factory=dict)
    positions: Sequence[int] = ()
    values: Sequence[int] = ()
    aliases: Mapping[int, str] = field(default_factory=dict)
    delegates: frozenset[int] = frozenset({0})
    _alike: _Alike | None = field(default=None, repr=False, compare=False)

    @property
    def columns(self) -> Operators:
        """The operators as columns."""
        return self._known.operators

    @property
    def alike(self) -> NDArray[np.int32]:
        """For each operator, the first that differs from it in nothing but which tensors it has."""
        return self._known.first

    @property
    def _known(self) -> _Alike:
        known = self._alike
        if known is None or known.of is not self.operators or known.tensors is not self.tensors:
            columns = self.operators
            if not isinstance(columns, Operators):
                columns = Operators.of(columns)
            known = _Alike(self.operators, self.tensors, columns, columns.alike(self.tensors))
            object.__setattr__(self, "_alike", known)
        return known

    def name_of(self, tensor: int) -> str:
        """The name of a tensor, by its index."""
        return f"v{self.values[tensor]}" if self.values else self.tensors[tensor].name

    def number_of(self, operator: int) -> int:
        """The position of an operator, by its index here, in the chain that it was read from."""
        return self.positions[operator] if self.positions else operator

    def place_of(self, operator: int) -> str:
        """An operator, by its index here, as messages name it."""
        return f"operator {self.number_of(operator)} ({self.operators[operator].name})"


@frozen
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


@frozen
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
    ``copied`` are the representations of copies, by operator, argument and tensor.
    """

    def __init__(self, made: Sequence[TensorRepr | None], repacks: Iterable[Repacked]) -> None:
        self.made, self.repacks = tuple(made), tuple(repacks)
        self.copied = {
            (user.operator, user.argument, repack.tensor): repack.target
            for repack in self.repacks
            for user in repack.users
        }

    def __call__(self, operator: int, side: Side, index: int, tensor: int) -> TensorRepr | None:
        """The representation of an operator's argument or output, and so of a tensor of it."""
        copy = self.copied.get((operator, index, tensor)) if side == "argument" else None
        return self.made[tensor] if copy is None else copy
