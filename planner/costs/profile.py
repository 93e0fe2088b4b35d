"""Device profiles: the costs of transitions and accesses on a device."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, field
from functools import cache
from typing import Any, Final, Literal

from planner.costs.standins import stand_ins
from planner.ir.representation import TensorRepr
from schema.frozen import frozen

FORMAT: Final = "layout-planner-profile"
VERSIONS: Final = (1, 2)
"""Version 2 adds ``transition.curves`` and ``measured``; a profile without them is version 1."""

PRECISION: Final = {"bytes": 1, "ns": 1000}
"""Integer cost steps inside the planner to one unit (so steps are picoseconds for ns)."""

_ARROW: Final = ">"
_BROKEN_KNOT: Final = re.compile(r"\[\n +([\d.e+-]+),\n +([\d.e+-]+)\n +\]")
"""A pair of numbers, each on a line of its own; JSON strings have no line breaks."""

Curve = tuple[tuple[int, float], ...]
"""Knots (bytes, cost) with strictly increasing bytes. Measured costs are noisy and may decrease."""


@frozen
class Rates:
    """The cost of a byte read and of a byte written, by representation.

    The most specific key counts: a representation (``buffer:CHANNELS_PACKED``), a family
    (``texture``, ``buffer``, ``int8``), or ``default``, which is required.
    """

    read: Mapping[str, float]
    write: Mapping[str, float]


@frozen
class TransitionRates(Rates):
    """The rates and launch cost of a repack; or curves, by pair, that replace both.

    A curve's key is ``SOURCE>TARGET`` (``texture:WIDTH_PACKED>buffer:HEIGHT_PACKED``). It gives the
    whole cost of a repack by padded bytes read plus padded bytes written. It is straight between
    knots and constant below the first one; beyond the last one the last line goes on, but never
    falls.
    """

    launch: float
    curves: Mapping[str, Curve] = field(default_factory=dict)

    def curve(self, source: TensorRepr, target: TensorRepr) -> Curve | None:
        """The curve of a pair; None if it has none.

        A pair with ``PACKED_INT8_CONV2D`` and no curve of its own uses that of its stand-ins.
        """
        found = self.curves.get(pair_key(source, target))
        if found is None:
            found = self.curves.get(pair_key(*stand_ins(source, target)))
        return found


@frozen
class Measurement:
    """Where and when a profile's numbers were measured, and how well they fit.

    ``date`` is YYYY-MM-DD; ``fit`` has numbers by name: ``median_error``, ``held_out``, ...
    """

    adapter: str
    driver: str
    backend: str
    date: str
    fit: Mapping[str, float]


@frozen
class DeviceProfile:
    """The prices for one device. Costs are in ``unit``, rates in ``unit`` per byte.

    ``origin`` is the kind of the numbers: a definition, a model, or measurements.
    """

    name: str
    origin: Literal["definition", "model", "measured"]
    unit: Literal["bytes", "ns"]
    transition: TransitionRates
    access: Rates | None = None
    description: str = ""
    measured: Measurement | None = None
    _digest: str = field(default="", init=False, repr=False, compare=False)

    def to_json(self) -> str:
        """The profile as a JSON document, which ``parse_profile`` reads."""
        fields = {k: v for k, v in self._fields().items() if v is not None}
        version = 2 if self.transition.curves or self.measured else 1
        text = json.dumps({"format": FORMAT, "version": version} | fields, indent=2)
        return _BROKEN_KNOT.sub(r"[\1, \2]", text)

    @property
    def digest(self) -> str:
        """SHA-256 of the profile's canonical JSON, in hexadecimal."""
        # Every plan and every row of a store has it.
        if not self._digest:
            canonical = json.dumps(self._fields(), sort_keys=True, separators=(",", ":"))
            object.__setattr__(self, "_digest", hashlib.sha256(canonical.encode()).hexdigest())
        return self._digest

    def _fields(self) -> dict[str, Any]:
        """All fields; those of version 2 only if they are not empty, so that digests are stable."""
        fields = asdict(self)
        del fields["_digest"]
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
        """An integer cost of the planner, in the profile's unit (a whole number for bytes)."""
        return cost if self.precision == 1 else cost / self.precision


def rate(rates: Mapping[str, float], representation: TensorRepr) -> float:
    """The rate for a representation: its own, else its family's, else the default."""
    for key in _rate_keys(representation):
        if key in rates:
            return rates[key]
    return rates["default"]


@cache
def _rate_keys(representation: TensorRepr) -> tuple[str, str]:
    """The keys of a representation's own rate and of its family's."""
    if representation.is_packed_int8:
        return str(representation), "int8"
    return str(representation), "buffer" if representation.is_buffer else "texture"


def pair_key(source: TensorRepr, target: TensorRepr) -> str:
    """The key of a pair's curve."""
    return f"{source}{_ARROW}{target}"
