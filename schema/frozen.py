"""Frozen dataclasses with slots, of which nothing is compiled before it is needed.

``dataclass(frozen=True, slots=True)`` writes the source of six functions for a class and compiles
it, which is most of what importing a module of small classes takes; and of many classes no run
makes any. Here each method is compiled when it is first called, or shared. They are dataclasses all
the same: for ``fields``, ``replace``, ``asdict``, and for type checkers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from typing import Any, Final, TypeVar, dataclass_transform

T = TypeVar("T")

_NOT_GIVEN: Final = object()


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """A frozen dataclass with slots. What the class defines itself stays."""
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    methods = {
        "__init__": _later(made, "__init__", _init_of),
        "__eq__": _later(made, "__eq__", _eq_of),
        "__hash__": _later(made, "__hash__", _hash_of),
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


def _later(cls: Any, name: str, write: Callable[[Any], Callable[..., Any]]) -> Callable[..., Any]:
    """A method that puts the one that is written for the class in its place, and calls it."""

    def method(self: Any, *args: Any, **given: Any) -> Any:
        setattr(cls, name, write(cls))
        return getattr(cls, name)(self, *args, **given)

    return method


def _init_of(cls: type[Any]) -> Callable[..., None]:
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
    return _compiled(cls, "__init__", ", ".join(parameters), lines, known)


def _eq_of(cls: type[Any]) -> Callable[..., bool]:
    return _compiled(
        *(cls, "__eq__", "self, other"),
        [
            "if other.__class__ is not self.__class__:",
            "    return NotImplemented",
            f"return {_compared(cls, 'self')} == {_compared(cls, 'other')}",
        ],
    )


def _hash_of(cls: type[Any]) -> Callable[..., int]:
    return _compiled(cls, "__hash__", "self", [f"return hash({_compared(cls, 'self')})"])


def _compared(cls: type[Any], of: str) -> str:
    return f"({''.join(f'{of}.{f.name}, ' for f in fields(cls) if f.compare)})"


def _compiled(
    cls: type[Any], name: str, parameters: str, lines: Sequence[str], known: Mapping[str, Any] = {}
) -> Callable[..., Any]:
    found = dict(known)
    exec(f"def {name}({parameters}):\n " + "\n ".join(lines), found)
    method: Callable[..., Any] = found[name]
    method.__qualname__ = f"{cls.__qualname__}.{name}"
    return method


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
