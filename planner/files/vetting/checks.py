"""Checks of parsed JSON that are put together: each returns the value anew, or refuses it.

What a check does not know is left out of what it returns, so that nothing comes through unseen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Check = Callable[[Any], Any]

_MOST: Final = 2**63
_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PATH: Final = re.compile(r"[\w-]+(?:\.[\w-]+)*", re.ASCII)


class RefusedError(Exception):
    """A value is not what it should be; ``where`` it is, from the outside in."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.where: list[str] = []


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with these fields; others are left out, and so are optional ones that are null."""
    known = optional or {}

    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            raise RefusedError("is no object")
        found = {}
        for field, inner in required.items():
            if field not in value:
                raise RefusedError(f"has no {field}")
            found[field] = within(field, inner, value[field])
        for field, inner in known.items():
            if value.get(field) is not None:
                found[field] = within(field, inner, value[field])
        return found

    return check


def one_of(choices: Mapping[str, Check]) -> Check:
    """An object with exactly one of these fields."""

    def check(value: Any) -> Any:
        if not isinstance(value, dict) or len(value) != 1:
            raise RefusedError("is not one value of a kind")
        ((kind, inner),) = value.items()
        if kind not in choices:
            raise RefusedError(f"is of the kind {kind!r}, which no plan needs")
        return {kind: within(str(kind), choices[kind], inner)}

    return check


def each(inner: Check) -> Check:
    """A list of such values."""

    def check(value: Any) -> Any:
        if not isinstance(value, list):
            raise RefusedError("is no list")
        return [within(str(number), inner, item) for number, item in enumerate(value)]

    return check


def mapping(key: Check, inner: Check) -> Check:
    """An object with such keys, and such values."""

    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            raise RefusedError("is no object")
        return {key(k): within(str(k), inner, v) for k, v in value.items()}

    return check


def within(place: str, check: Check, value: Any) -> Any:
    """What a check returns; where it refuses, it says that it was at a place."""
    try:
        return check(value)
    except RefusedError as error:
        error.where.insert(0, place)
        raise


def integer(value: Any) -> int:
    """A whole number of 64 bits."""
    if type(value) is not int or abs(value) > _MOST:
        raise RefusedError("is no whole number of 64 bits")
    return value


def natural(value: Any) -> int:
    """A whole number that is not negative."""
    if integer(value) < 0:
        raise RefusedError("is negative")
    return int(value)


def number(value: Any) -> Any:
    """A number, which may be written as text if it is infinite or none."""
    if type(value) is float:
        return value
    if type(value) is int:
        return integer(value)
    if value in ("Infinity", "-Infinity", "NaN"):
        return value
    raise RefusedError("is no number")


def boolean(value: Any) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise RefusedError("is neither true nor false")
    return value


def text(value: Any) -> str:
    """Any text."""
    if type(value) is not str:
        raise RefusedError("is no text")
    return value


def name(value: Any) -> str:
    """The name of a value: an identifier, since torch writes it into Python code."""
    if type(value) is not str or _NAME.fullmatch(value) is None:
        raise RefusedError(f"is called {value!r}, which is no identifier")
    return value


def path(value: Any) -> str:
    """The name of a parameter or module, as in ``layers.0.weight``; empty for the whole."""
    if type(value) is not str or (value and _PATH.fullmatch(value) is None):
        raise RefusedError(f"is called {value!r}, which is no name of a module or parameter")
    return value


def parsed_text(inner: Check) -> Check:
    """Text that is JSON itself; it is written anew."""

    def check(value: Any) -> str:
        try:
            found = json.loads(text(value))
        except (ValueError, RecursionError) as error:
            raise RefusedError("is no JSON") from error
        return json.dumps(inner(found))

    return check
