"""Device profiles: what a transition and an access cost, as a validated JSON document."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, Final, Literal

from planner.errors import OptionError
from planner.ir.representation import REPRS, TensorRepr
from schema import VkMemoryLayout, VkStorageType

FORMAT: Final = "layout-planner-profile"
VERSIONS: Final = (1, 2)
"""Version 2 adds ``transition.curves`` and ``measured``; a profile without them is version 1."""

PRECISION: Final = {"bytes": 1, "ns": 1000}
"""Costs are integers inside of the planner: this many to one unit (so picoseconds for ns)."""

_BUILT_IN: Final = Path(__file__).parent / "profiles"
_RATE_KEYS: Final = frozenset({"default", "texture", "buffer", "int8", *map(str, REPRS)})
_ORIGINS: Final = ("definition", "model", "measured")
_MAX_NAME: Final = 100
_MAX_RATE: Final = 1e9
_MAX_KNOTS: Final = 64
_MAX_BYTES: Final = 2**40
_MAX_FIT: Final = 32
_ARROW: Final = ">"
_BROKEN_KNOT: Final = re.compile(r"\[\n +([\d.e+-]+),\n +([\d.e+-]+)\n +\]")
"""A pair of numbers on lines of their own; texts have no line breaks in JSON."""

Curve = tuple[tuple[int, float], ...]
"""Knots (bytes, cost), bytes strictly increasing. Costs need not: they are measured, with noise."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Cost of a byte that is read, and of one that is written, by representation.

    Keys, the most particular first: a representation (``buffer:CHANNELS_PACKED``), a family
    (``texture``, ``buffer``, ``int8``), ``default`` (must be there).
    """

    read: Mapping[str, float]
    write: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TransitionRates(Rates):
    """Rates of a repack, and what it costs to launch one; or curves, by pair, that replace both.

    A curve's key is ``SOURCE>TARGET`` (``texture:WIDTH_PACKED>buffer:HEIGHT_PACKED``). It gives the
    whole cost of a repack by padded bytes read plus padded bytes written: straight lines between
    knots; the first knot's cost below it; beyond the last knot the last line goes on, but never
    down.
    """

    launch: float
    curves: Mapping[str, Curve] = field(default_factory=dict)

    def curve(self, source: TensorRepr, target: TensorRepr) -> Curve | None:
        """The curve of a pair, if it has one.

        The runtime turns ``PACKED_INT8_CONV2D`` into 4C1W or 4C: without a curve of its own it
        stands for 4C1W, and next to 4C1W itself for 4C.
        """
        found = self.curves.get(_pair(source, target))
        if found is None and _CONV2D in (source, target):
            stand_in = _4C if _4C1W in (source, target) else _4C1W
            pair = [stand_in if r == _CONV2D else r for r in (source, target)]
            found = self.curves.get(_pair(*pair))
        return found


@dataclass(frozen=True, slots=True)
class Measurement:
    """Where and when a profile's numbers were measured, and how well they fit.

    ``date`` is YYYY-MM-DD; ``fit`` has numbers by name: ``median_error``, ``held_out``, ...
    """

    adapter: str
    driver: str
    backend: str
    date: str
    fit: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """Prices for one device. Costs are in ``unit``; rates in ``unit`` per byte.

    ``origin`` says what the numbers are: a definition, a model, or measurements.
    """

    name: str
    origin: Literal["definition", "model", "measured"]
    unit: Literal["bytes", "ns"]
    transition: TransitionRates
    access: Rates | None = None
    description: str = ""
    measured: Measurement | None = None

    def to_json(self) -> str:
        """The profile as a JSON document, as ``parse_profile`` reads it."""
        fields = {k: v for k, v in self._fields().items() if v is not None}
        version = 2 if self.transition.curves or self.measured else 1
        text = json.dumps({"format": FORMAT, "version": version} | fields, indent=2)
        return _BROKEN_KNOT.sub(r"[\1, \2]", text)

    @property
    def digest(self) -> str:
        """SHA-256 of the profile's canonical JSON, in hexadecimal."""
        canonical = json.dumps(self._fields(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def _fields(self) -> dict[str, Any]:
        """All fields; those of version 2 only where they say something, so digests last."""
        fields = asdict(self)
        if not self.transition.curves:
            del fields["transition"]["curves"]
        if self.measured is None:
            del fields["measured"]
        return fields

    @property
    def precision(self) -> int:
        """Integer cost steps in one ``unit``."""
        return PRECISION[self.unit]

    def in_units(self, cost: int) -> float:
        """An integer cost of the planner in the profile's unit (whole for bytes)."""
        return cost if self.precision == 1 else cost / self.precision


def rate(rates: Mapping[str, float], representation: TensorRepr) -> float:
    """The rate for a representation: its own, else its family's, else the default."""
    if representation.is_packed_int8:
        family = "int8"
    else:
        family = "buffer" if representation.is_buffer else "texture"
    return rates.get(str(representation), rates.get(family, rates["default"]))


_4C1W: Final = TensorRepr(VkStorageType.BUFFER, VkMemoryLayout.PACKED_INT8_4C1W)
_4C: Final = TensorRepr(VkStorageType.BUFFER, VkMemoryLayout.PACKED_INT8_4C)
_CONV2D: Final = TensorRepr(VkStorageType.BUFFER, VkMemoryLayout.PACKED_INT8_CONV2D)


def _pair(source: TensorRepr, target: TensorRepr) -> str:
    return f"{source}{_ARROW}{target}"


_PAIRS: Final = frozenset(_pair(a, b) for a in REPRS for b in REPRS if a != b)


@cache
def builtin_names() -> tuple[str, ...]:
    """Names of the profiles that ship with the planner."""
    return tuple(sorted(path.stem for path in _BUILT_IN.glob("*.json")))


def load_profile(name_or_path: str) -> DeviceProfile:
    """Loads a built-in profile by name, or one from a JSON file.

    Raises ``OptionError`` where there is no such profile or the file does not hold a valid one.
    """
    is_built_in = name_or_path in builtin_names()
    path = _BUILT_IN / f"{name_or_path}.json" if is_built_in else Path(name_or_path)
    if not path.is_file():
        raise OptionError(
            f"unknown profile {name_or_path!r}: use one of {', '.join(builtin_names())}, "
            "or the path of a profile's JSON file"
        )
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"cannot read the profile {name_or_path}: {error}") from error
    return parse_profile(text, name_or_path)


def parse_profile(text: str, where: str) -> DeviceProfile:
    """Parses a profile's JSON text; raises ``OptionError`` naming ``where`` and the field."""
    try:
        return _profile(_Fields(json.loads(text), ""))
    except _WrongError as error:
        raise OptionError(f"{where} is no valid device profile: {error}") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise OptionError(f"{where} is no valid device profile: invalid JSON: {error}") from None


class _WrongError(Exception):
    """A field that is not what it should be."""


class _Fields:
    """The fields of a JSON object; each may be taken once, and all must be."""

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
            raise _WrongError(f"{self.named(field)} is not a text")
        return value

    def number(self, field: str) -> float:
        return _number(self.take(field), self.named(field))

    def rates(self, field: str) -> dict[str, float]:
        fields = _Fields(self.take(field), self.named(field))
        unknown = sorted(fields.left.keys() - _RATE_KEYS)
        if unknown:
            raise _WrongError(
                f"{fields.named(unknown[0])} is no representation: "
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
                f"{fields.named(unknown[0])} is no pair of different representations, "
                f"as {_pair(*REPRS[:2])} is"
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
            raise _WrongError(f"{self.named(field)} should be a date, as 2026-01-31 is")
        return value

    def numbers(self, field: str) -> dict[str, float]:
        fields = _Fields(self.take(field), self.named(field))
        if len(fields.left) > _MAX_FIT:
            raise _WrongError(f"{self.named(field)} should have at most {_MAX_FIT} numbers")
        return {key: fields.number(key) for key in sorted(fields.left)}

    def end(self) -> None:
        if self.left:
            raise _WrongError(f"{self.named(min(self.left))} is no field of a profile")


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
