"""Device profiles: what a transition and an access cost, as a validated JSON document."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from planner.costs.standins import stand_ins
from planner.ir.representation import TensorRepr

FORMAT: Final = "layout-planner-profile"
VERSIONS: Final = (1, 2)
"""Version 2 adds ``transition.curves`` and ``measured``; a profile without them is version 1."""

PRECISION: Final = {"bytes": 1, "ns": 1000}
"""Costs are integers inside of the planner: this many to one unit (so picoseconds for ns)."""

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

        A pair with ``PACKED_INT8_CONV2D`` and no curve of its own has that of its stand-ins.
        """
        found = self.curves.get(pair_key(source, target))
        if found is None:
            found = self.curves.get(pair_key(*stand_ins(source, target)))
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


def pair_key(source: TensorRepr, target: TensorRepr) -> str:
    """The key of a pair's curve."""
    return f"{source}{_ARROW}{target}"
