"""Frozen dataclasses with slots, of which nothing is compiled before it is needed.

``dataclass(frozen=True, slots=True)`` writes the source of six functions for a class and compiles
it, which is most of what importing a module of small classes takes; and of many classes no run
makes any. Here methods are shared, and ``__init__`` is compiled when the first object is made. They
are dataclasses all the same: for ``fields``, ``replace``, ``asdict``, and for type checkers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import Any, Final, TypeVar, dataclass_transform

T = TypeVar("T")

_NOT_GIVEN: Final = object()


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """A frozen dataclass with slots. What the class defines itself stays."""
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    compared = row_of([f.name for f in fields(made) if f.compare])

    def init(self: Any, *args: Any, **given: Any) -> None:
        made.__init__ = _compiled_init(made)
        made.__init__(self, *args, **given)

    def equal(self: Any, other: object) -> Any:
        if type(self) is not type(other):
            return NotImplemented
        return compared(self) == compared(other)

    methods = {
        "__init__": init,
        "__eq__": equal,
        "__hash__": lambda self: hash(compared(self)),
        "__repr__": _repr,
        "__setattr__": _refuse,
        "__delattr__": _refuse,
        "__getstate__": _state,
        "__setstate__": _set_state,
    }
    own = vars(cls)
    for name, method in methods.items():
        if own.get(name) is None:
            setattr(made, name, method)
    result: type[T] = made
    return result


def row_of(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """A function that takes the attributes with these names, as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    if names:
        only = attrgetter(names[0])
        return lambda value: (only(value),)
    return lambda _: ()


def _compiled_init(cls: type[Any]) -> Callable[..., None]:
    """The ``__init__`` of a frozen class, which sets each slot by its descriptor."""
    known: dict[str, Any] = {"_not_given": _NOT_GIVEN}
    positional, keyword, lines = ["self"], ["*"], ["pass"]
    for f in fields(cls):
        name = value = f.name
        default = ""
        if f.default is not MISSING:
            default = f"_default_{name}"
            known[default] = f.default
            value = name if f.init else default
        elif f.default_factory is not MISSING:
            default, make = "_not_given", f"_make_{name}"
            known[make] = f.default_factory
            value = f"{make}() if {name} is _not_given else {name}" if f.init else f"{make}()"
        elif not f.init:
            continue
        if f.init:
            parameters = keyword if f.kw_only else positional
            parameters.append(f"{name}={default}" if default else name)
        known[f"_set_{name}"] = getattr(cls, name).__set__
        lines.append(f"_set_{name}(self, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    parameters = positional + keyword * (len(keyword) > 1)
    exec(f"def __init__({', '.join(parameters)}):\n " + "\n ".join(lines), known)
    init: Callable[..., None] = known["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _repr(self: Any) -> str:
    shown = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _refuse(self: Any, name: str, *value: object) -> None:
    raise FrozenInstanceError(f"cannot {'assign to' if value else 'delete'} field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, f.name) for f in fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for f, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, f.name, value)
