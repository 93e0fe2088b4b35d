"""Device profiles: what a transition and an access cost, as a validated JSON document."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, Final, Literal

from planner.errors import OptionError
from planner.representation import REPRS, TensorRepr

FORMAT: Final = "layout-planner-profile"
VERSION: Final = 1
PRECISION: Final = {"bytes": 1, "ns": 1000}
"""Costs are integers inside of the planner: this many to one unit (so picoseconds for ns)."""

_BUILT_IN: Final = Path(__file__).parent / "profiles"
_RATE_KEYS: Final = frozenset({"default", "texture", "buffer", "int8", *map(str, REPRS)})
_ORIGINS: Final = ("definition", "model", "measured")
_MAX_NAME: Final = 100
_MAX_RATE: Final = 1e9


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
    """Rates of a repack, and what it costs to launch one."""

    launch: float


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

    def to_json(self) -> str:
        """The profile as a JSON document, as ``parse_profile`` reads it."""
        fields = {k: v for k, v in asdict(self).items() if v is not None}
        return json.dumps({"format": FORMAT, "version": VERSION} | fields, indent=2)

    @property
    def digest(self) -> str:
        """SHA-256 of the profile's canonical JSON, in hexadecimal."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

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
        value = self.take(field)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _WrongError(f"{self.named(field)} is not a number")
        if not isfinite(value) or not 0 <= value <= _MAX_RATE:
            raise _WrongError(f"{self.named(field)} should be from 0 to {_MAX_RATE:g}")
        return float(value)

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

    def end(self) -> None:
        if self.left:
            raise _WrongError(f"{self.named(min(self.left))} is no field of a profile")


def _profile(fields: _Fields) -> DeviceProfile:
    fields.one_of("format", (FORMAT,))
    fields.one_of("version", (VERSION,))
    name = fields.text("name")
    if not 0 < len(name) <= _MAX_NAME:
        raise _WrongError(f"name should have 1 to {_MAX_NAME} characters")
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
        ),
        access=None if access is None else Rates(access.rates("read"), access.rates("write")),
        description=fields.text("description", ""),
    )
    for part in (transition, access, fields):
        if part is not None:
            part.end()
    return profile
