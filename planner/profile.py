"""Device profiles: what a transition and an access cost, as a validated JSON document."""

from __future__ import annotations

import hashlib
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from planner.errors import OptionError
from planner.representation import REPRS, TensorRepr

Rate = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]

PRECISION: Final = {"bytes": 1, "ns": 1000}
"""Costs are integers inside of the planner: this many to one unit (so picoseconds for ns)."""

_RATE_KEYS: Final = frozenset({"default", "texture", "buffer", "int8", *map(str, REPRS)})


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rates(_Strict):
    """Cost of a byte that is read, and of one that is written, by representation.

    Keys, the most particular first: a representation (``buffer:CHANNELS_PACKED``), a family
    (``texture``, ``buffer``, ``int8``), ``default`` (must be there).
    """

    read: dict[str, Rate]
    write: dict[str, Rate]

    @field_validator("read", "write")
    @classmethod
    def _known_keys(cls, rates: dict[str, float]) -> dict[str, float]:
        unknown = sorted(rates.keys() - _RATE_KEYS)
        if unknown:
            raise ValueError(f"unknown representation {unknown[0]!r}; use {sorted(_RATE_KEYS)}")
        if "default" not in rates:
            raise ValueError("the key 'default' is missing")
        return rates


class TransitionRates(Rates):
    """Rates of a repack, and what it costs to launch one."""

    launch: Rate


class DeviceProfile(_Strict):
    """Prices for one device. Costs are in ``unit``; rates in ``unit`` per byte."""

    format: Literal["layout-planner-profile"]
    version: Literal[1]
    name: Annotated[str, Field(min_length=1, max_length=100)]
    description: str = ""
    origin: Literal["definition", "model", "measured"]
    unit: Literal["bytes", "ns"]
    transition: TransitionRates
    access: Rates | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the profile's canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def precision(self) -> int:
        """Integer cost steps in one ``unit``."""
        return PRECISION[self.unit]

    def in_units(self, cost: int) -> float:
        """An integer cost of the planner in the profile's unit (whole for bytes)."""
        return cost if self.precision == 1 else cost / self.precision


def rate(rates: dict[str, float], representation: TensorRepr) -> float:
    """The rate for a representation: its own, else its family's, else the default."""
    if representation.is_packed_int8:
        family = "int8"
    else:
        family = "buffer" if representation.is_buffer else "texture"
    return rates.get(str(representation), rates.get(family, rates["default"]))


def builtin_names() -> tuple[str, ...]:
    """Names of the profiles that ship with the planner."""
    folder = resources.files("planner") / "profiles"
    return tuple(
        sorted(f.name.removesuffix(".json") for f in folder.iterdir() if f.name.endswith(".json"))
    )


def load_profile(name_or_path: str) -> DeviceProfile:
    """Loads a built-in profile by name, or one from a JSON file.

    Raises ``OptionError`` where there is no such profile or the file does not hold a valid one.
    """
    if name_or_path in builtin_names():
        text = (resources.files("planner") / "profiles" / f"{name_or_path}.json").read_text("utf-8")
        return parse_profile(text, name_or_path)
    path = Path(name_or_path)
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
        return DeviceProfile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise OptionError(f"{where} is no valid device profile: {place}: {first['msg']}") from error
