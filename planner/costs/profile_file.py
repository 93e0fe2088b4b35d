"""Device profiles as files: JSON documents with every field checked.

``DeviceProfile.to_json`` writes them.
"""

from __future__ import annotations

import json
from datetime import date
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, Final

from planner.costs.profile import (
    FORMAT,
    PRECISION,
    VERSIONS,
    Curve,
    DeviceProfile,
    Measurement,
    Rates,
    TransitionRates,
    pair_key,
)
from planner.errors import OptionError
from planner.ir.representation import REPRS

_BUILT_IN: Final = Path(__file__).parent / "profiles"

_RATE_KEYS: Final = frozenset({"default", "texture", "buffer", "int8", *map(str, REPRS)})

_ORIGINS: Final = ("definition", "model", "measured")

_MAX_NAME: Final = 100

_MAX_RATE: Final = 1e9

_MAX_KNOTS: Final = 64

_MAX_BYTES: Final = 2**40

_MAX_FIT: Final = 32

_PAIRS: Final = frozenset(pair_key(a, b) for a in REPRS for b in REPRS if a != b)


@cache
def builtin_names() -> tuple[str, ...]:
    """Names of the profiles that ship with the planner."""
    return tuple(sorted(path.stem for path in _BUILT_IN.glob("*.json")))


def load_profile(name_or_path: str) -> DeviceProfile:
    """Loads a built-in profile by name, or one from a JSON file.

    Raises ``OptionError`` for an unknown name, and for a file that is not a valid profile.
    """
    if name_or_path in builtin_names():
        return _built_in(name_or_path)
    path = Path(name_or_path)
    if not path.is_file():
        raise OptionError(
            f"unknown profile {name_or_path!r}: use one of {', '.join(builtin_names())}, "
            "or the path of a profile's JSON file"
        )
    return _read(path, name_or_path)


@cache
def _built_in(name: str) -> DeviceProfile:
    return _read(_BUILT_IN / f"{name}.json", name)


def _read(path: Path, where: str) -> DeviceProfile:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"cannot read the profile {where}: {error}") from error
    return parse_profile(text, where)


def parse_profile(text: str, where: str) -> DeviceProfile:
    """Parses a profile's JSON text; raises ``OptionError`` naming ``where`` and the field."""
    try:
        return _profile(_Fields(json.loads(text), ""))
    except _WrongError as error:
        raise OptionError(f"{where} is not a valid device profile: {error}") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise OptionError(f"{where} is not a valid device profile: invalid JSON: {error}") from None


class _WrongError(Exception):
    """A field with a wrong value."""


class _Fields:
    """The fields of a JSON object, each to be taken once; ``end`` refuses those left over."""

    def __init__(self, document: Any, place: str) -> None:
        self.place = place
        if not isinstance(document, dict):
            raise _WrongError(f"{place or 'the document'} is not an object")
        self.left = dict(document)

    def named(self, field: str) -> str:
        return f"{self.place}.{field}" if self.place else field

    def take(self, field: str, default: Any = None) -> Any:
        value = self.left.pop(field, default)
        if value is None:
            raise _WrongError(f"{self.named(field)} is missing")
        return value

    def one_of(self, field: str, allowed: tuple[Any, ...]) -> Any:
        value = self.take(field)
        if isinstance(value, bool) or value not in allowed:
            raise _WrongError(f"{self.named(field)} should be {' or '.join(map(repr, allowed))}")
        return value

    def text(self, field: str, default: str | None = None) -> str:
        value = self.take(field, default)
        if not isinstance(value, str):
            raise _WrongError(f"{self.named(field)} is not a string")
        return value

    def number(self, field: str) -> float:
        return _number(self.take(field), self.named(field))

    def rates(self, field: str) -> dict[str, float]:
        fields = _Fields(self.take(field), self.named(field))
        unknown = sorted(fields.left.keys() - _RATE_KEYS)
        if unknown:
            raise _WrongError(
                f"{fields.named(unknown[0])} is not a representation: "
                f"use {', '.join(sorted(_RATE_KEYS))}"
            )
        if "default" not in fields.left:
            raise _WrongError(f"{fields.named('default')} is missing")
        return {key: fields.number(key) for key in sorted(fields.left)}

    def curves(self, field: str) -> dict[str, Curve]:
        fields = _Fields(self.take(field), self.named(field))
        unknown = sorted(fields.left.keys() - _PAIRS)
        if unknown:
            raise _WrongError(
                f"{fields.named(unknown[0])} is not a pair of different representations: "
                f"write it as {pair_key(*REPRS[:2])}"
            )
        return {key: _curve(fields.take(key), fields.named(key)) for key in sorted(fields.left)}

    def measurement(self, field: str) -> Measurement:
        fields = _Fields(self.take(field), self.named(field))
        measured = Measurement(
            adapter=fields.short_text("adapter"),
            driver=fields.short_text("driver"),
            backend=fields.short_text("backend"),
            date=fields.date("date"),
            fit=fields.numbers("fit"),
        )
        fields.end()
        return measured

    def short_text(self, field: str) -> str:
        value = self.text(field)
        if not 0 < len(value) <= _MAX_NAME:
            raise _WrongError(f"{self.named(field)} should have 1 to {_MAX_NAME} characters")
        return value

    def date(self, field: str) -> str:
        value = self.text(field)
        try:
            is_date = date.fromisoformat(value).isoformat() == value
        except ValueError:
            is_date = False
        if not is_date:
            raise _WrongError(f"{self.named(field)} should be a date such as 2026-01-31")
        return value

    def numbers(self, field: str) -> dict[str, float]:
        fields = _Fields(self.take(field), self.named(field))
        if len(fields.left) > _MAX_FIT:
            raise _WrongError(f"{self.named(field)} should have at most {_MAX_FIT} numbers")
        return {key: fields.number(key) for key in sorted(fields.left)}

    def end(self) -> None:
        if self.left:
            raise _WrongError(f"{self.named(min(self.left))} is not a field of a profile")


def _number(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _WrongError(f"{place} is not a number")
    if not isfinite(value) or not 0 <= value <= _MAX_RATE:
        raise _WrongError(f"{place} should be from 0 to {_MAX_RATE:g}")
    return float(value)


def _curve(value: Any, place: str) -> Curve:
    if not isinstance(value, list) or not 2 <= len(value) <= _MAX_KNOTS:
        raise _WrongError(f"{place} should be a list of 2 to {_MAX_KNOTS} knots")
    knots: list[tuple[int, float]] = []
    for i, knot in enumerate(value):
        if not isinstance(knot, list) or len(knot) != 2:
            raise _WrongError(f"{place}[{i}] should be [bytes, ns]")
        size, cost = knot
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= _MAX_BYTES:
            raise _WrongError(f"{place}[{i}][0] should be a whole number from 0 to {_MAX_BYTES}")
        if knots and size <= knots[-1][0]:
            raise _WrongError(f"{place}[{i}][0] should be more than the bytes before it")
        knots.append((size, _number(cost, f"{place}[{i}][1]")))
    return tuple(knots)


def _profile(fields: _Fields) -> DeviceProfile:
    fields.one_of("format", (FORMAT,))
    version = fields.one_of("version", VERSIONS)
    name = fields.short_text("name")
    transition = _Fields(fields.take("transition"), "transition")
    access = _Fields(fields.take("access"), "access") if "access" in fields.left else None
    profile = DeviceProfile(
        name=name,
        origin=fields.one_of("origin", _ORIGINS),
        unit=fields.one_of("unit", tuple(PRECISION)),
        transition=TransitionRates(
            launch=transition.number("launch"),
            read=transition.rates("read"),
            write=transition.rates("write"),
            curves=(
                transition.curves("curves") if version > 1 and "curves" in transition.left else {}
            ),
        ),
        access=None if access is None else Rates(access.rates("read"), access.rates("write")),
        description=fields.text("description", ""),
        measured=(
            fields.measurement("measured") if version > 1 and "measured" in fields.left else None
        ),
    )
    if profile.transition.curves and profile.unit != "ns":
        raise _WrongError("transition.curves are in ns: unit should be 'ns'")
    for part in (transition, access, fields):
        if part is not None:
            part.end()
    return profile
