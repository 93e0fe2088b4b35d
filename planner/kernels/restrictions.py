"""What a user wants of representations: operands and tensors that have one, or that have it not.

A restriction is written as on the command line: ``--pin aten.mm.default=buffer``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final, Literal, TypeAlias

from planner.errors import OptionError
from planner.ir.graph import Side
from planner.ir.representation import (
    FLOAT_LAYOUTS,
    QUANTIZED_LAYOUTS,
    REPRS,
    TensorRepSet,
    short_name,
)
from schema.frozen import frozen

Flag: TypeAlias = Literal["pin", "forbid", "input-layout", "output-layout"]
Kind: TypeAlias = Literal["type", "operator", "tensor", "input", "output"]
"""What a name is of: all operators of a type, one by its number, a tensor, or the tensors that go
into a delegate or come out of it."""

_STORAGES: Final = {"texture": False, "buffer": True}
_TARGET: Final = re.compile(
    r"(?:(?P<delegate>\d+)/)?(?P<name>[^@/=:\s]+)(?:@(?P<side>argument|output)?(?P<index>\d+)?)?"
)
_LAYOUT_NAMES: Final = ", ".join(short_name(x) for x in (*FLOAT_LAYOUTS, *QUANTIZED_LAYOUTS))
_MOST_NAMES: Final = 3


@frozen
class Target:
    """What a restriction is about.

    ``delegate`` is None for every delegate. Of operators it may be one ``side`` alone, of that and
    of a delegate's inputs and outputs one ``index``.
    """

    kind: Kind
    name: str
    delegate: int | None = None
    side: Side | None = None
    index: int | None = None

    def is_operand(self, side: Side, index: int) -> bool:
        """Whether this operand of an operator that it names is meant."""
        return self.side in (None, side) and self.index in (None, index)

    def is_type(self, operator: str) -> bool:
        """Whether an operator is of the type that it names, with or without the overload."""
        return self.name in (operator, operator.rpartition(".")[0])


@frozen
class Restriction:
    """What its ``target`` may be; None stands for all operands and tensors.

    A pin is of operands, and of tensors where they are made: copies are in what their readers
    take. Representations that are forbidden are so for copies, as well.
    """

    flag: Flag
    text: str
    target: Target | None
    allowed: TensorRepSet

    def __str__(self) -> str:
        return f"--{self.flag} {self.text}"

    @property
    def words(self) -> str:
        """The restriction as a set of limits has it: ``pin aten.mm.default=buffer``."""
        return f"{self.flag} {self.text}"

    @property
    def is_of_copies(self) -> bool:
        """Whether copies of a tensor that it names are meant, besides the tensor itself."""
        return self.flag == "forbid"


def parse_pin(text: str) -> Restriction:
    """A restriction from ``NAME=REPRESENTATION``; raises ``OptionError``."""
    name, equals, wanted = text.strip().rpartition("=")
    if not equals:
        raise OptionError(
            f"--pin {text!r} does not say what to pin to what: write NAME=REPRESENTATION, as in "
            "aten.mm.default=texture:WIDTH_PACKED"
        )
    return Restriction("pin", text, _target("pin", name), _representations("pin", wanted))


def parse_forbid(text: str) -> Restriction:
    """A restriction from ``[NAME:]REPRESENTATION``; raises ``OptionError``."""
    parts = text.strip().split(":")
    # The representation has a colon itself where it is of a storage and a layout.
    length = 2 if len(parts) > 1 and parts[-2].strip().lower() in _STORAGES else 1
    target = None if len(parts) == length else _target("forbid", ":".join(parts[:-length]))
    forbidden = _representations("forbid", ":".join(parts[-length:]))
    return Restriction("forbid", text, target, TensorRepSet.from_reprs(REPRS) - forbidden)


def parse_interface(flag: Literal["input-layout", "output-layout"], text: str) -> Restriction:
    """A restriction of all inputs or outputs, from ``REPRESENTATION``; raises ``OptionError``."""
    kind: Kind = "input" if flag == "input-layout" else "output"
    return Restriction(flag, text, Target(kind, kind), _representations(flag, text))


def parse_restrictions(
    pin: Iterable[str] = (),
    forbid: Iterable[str] = (),
    input_layout: str | None = None,
    output_layout: str | None = None,
) -> tuple[Restriction, ...]:
    """Restrictions from a user's values, each once; raises ``OptionError`` for a wrong one."""
    found = [*map(parse_pin, pin), *map(parse_forbid, forbid)]
    if input_layout is not None:
        found.append(parse_interface("input-layout", input_layout))
    if output_layout is not None:
        found.append(parse_interface("output-layout", output_layout))
    return tuple(dict.fromkeys(found))


def unknown_name(restriction: Restriction, name: str, known: Iterable[str]) -> OptionError:
    """The error for a restriction that names nothing of a program; ``known`` are names in it."""
    assert restriction.target is not None
    wanted, names = restriction.target.name, list(dict.fromkeys(known))
    near = get_close_matches(wanted, names, _MOST_NAMES, 0.5)
    if wanted in near:
        hint = f"its {wanted} has no such operand or tensor, or one without a representation"
    elif near:
        hint = f"did you mean {' or '.join(near)}?"
    else:
        hint = "layout-planner show lists its operators and tensors"
    return OptionError(f"{restriction} names nothing in {name}: {hint}")


def _target(flag: Flag, text: str) -> Target:
    match = _TARGET.fullmatch(text.strip())
    if match is None:
        raise OptionError(
            f"--{flag}: {text!r} is not a name: write a type of operator (aten.mm.default), an "
            "operator's number (12), a tensor (v17), input or output; for one operand or tensor of "
            "several, @argument0, @output0 or @0 after it"
        )
    name, index = match["name"], match["index"]
    kind: Kind = "tensor"
    if name == "input":
        kind = "input"
    elif name == "output":
        kind = "output"
    elif name.isdecimal():
        kind = "operator"
    elif "." in name:
        kind = "type"
    side: Side | None = None
    if match["side"] is not None:
        side = "argument" if match["side"] == "argument" else "output"
    is_operator = kind in ("operator", "type")
    narrows = "@" in text
    if narrows and (kind == "tensor" or is_operator == (side is None)):
        means = {True: "@argument0 or @output0", False: "@0"}[is_operator]
        wrong = "a tensor has no operands" if kind == "tensor" else f"write {name}{means}"
        raise OptionError(f"--{flag}: {text!r} is not a name: {wrong}")
    delegate = match["delegate"]
    return Target(
        kind,
        name,
        None if delegate is None else int(delegate),
        side,
        None if index is None else int(index),
    )


def _representations(flag: Flag, text: str) -> TensorRepSet:
    """The representations of a storage, a layout, or both, as in ``texture:WIDTH_PACKED``."""
    storage, colon, layout = text.strip().rpartition(":")
    if not colon and layout.lower() in _STORAGES:
        storage, layout = layout, ""
    storage, wanted = storage.lower(), layout.strip().upper()
    found = TensorRepSet.from_reprs(
        r
        for r in REPRS
        if storage in ("", "buffer" if r.is_buffer else "texture")
        and wanted in ("", r.memory_layout.name, short_name(r.memory_layout))
    )
    if not found or not (storage or wanted):
        raise OptionError(
            f"--{flag}: {text!r} is not a representation: write a storage (texture or buffer), a "
            f"layout ({_LAYOUT_NAMES}), or both, as in texture:WIDTH_PACKED"
        )
    return found
