"""The documents of requests about calibrations in a browser, and of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.http.device_models import DeviceName
from gpu.claims import (
    LEAST_BATCHES,
    LIMITS,
    MOST_BATCHES,
    MOST_COUNT,
    Claim,
    Measured,
    Timing,
)
from gpu.fitting import Calibration
from gpu.placement import TEXEL_FORMATS, Placement
from gpu.probes import Probe, Shape, Sweep, SweepName, flat, is_checked, probes
from gpu.shader import shader
from gpu.sweep import SCALARS
from gpu.tensor import bound_bytes

_MOST_PROBES: Final = 100
_MOST_SHAPES: Final = 100
_MOST_TOKEN: Final = 4000

Token = Annotated[str, Field(max_length=_MOST_TOKEN, pattern=r"^[A-Za-z0-9_.-]+$")]
ShapeNumber = Annotated[int, Field(ge=0, lt=_MOST_SHAPES, description="The shape's, in the sweep.")]
ProbeKey = Annotated[str, Field(max_length=100, description="The probe, among those of a shape.")]
Words = Annotated[str, Field(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")]
Size = Annotated[int, Field(ge=1, lt=2**53)]


class SweepDocument(BaseModel):
    """What a calibration measures."""

    name: SweepName
    shapes: list[list[int]] = Field(description="Shapes of tensors, in the order to measure them.")
    probes: int = Field(description="How many probes each shape has.")
    library: str = Field(description="WGSL to put before the code of every shader.")

    @classmethod
    def of(cls, sweep: Sweep, library: str) -> SweepDocument:
        """The document of a sweep."""
        return cls(
            name=sweep.name,
            shapes=[list(shape) for shape in sweep.shapes],
            probes=len(probes(sweep.shapes[0])),
            library=library,
        )


class TensorDocument(BaseModel):
    """A tensor in memory; its code fills it from one that lies row by row."""

    representation: str
    bytes: int = Field(description="Bytes in memory, padding included.")
    bound_bytes: int = Field(description="Bytes that a buffer is bound with.")
    extents: list[int] | None = Field(description="Texels of the 3D image; null for a buffer.")
    format: str | None = Field(description="The image's format; null for a buffer.")
    flat_bytes: int = Field(description="Bytes of the tensor that it is filled from.")
    code: str
    groups: list[int] = Field(description="Workgroups to dispatch.")

    @classmethod
    def of(cls, placement: Placement) -> TensorDocument:
        """The document of a tensor."""
        filling = shader(flat(placement), placement)
        image = placement.is_texture
        return cls(
            representation=str(placement.representation),
            bytes=placement.bytes,
            bound_bytes=bound_bytes(placement),
            extents=list(placement.image_extents) if image else None,
            format=TEXEL_FORMATS[placement.element_bytes] if image else None,
            flat_bytes=bound_bytes(flat(placement)),
            code=filling.code,
            groups=list(filling.groups),
        )


class ProbeDocument(BaseModel):
    """A dispatch to measure. A tensor of null is one of four words."""

    key: ProbeKey
    kind: Literal["repack", "read", "write"]
    source: int | None = Field(description="The tensor at binding 0, by its place in the list.")
    target: int | None = Field(description="The tensor at binding 1, by its place in the list.")
    bytes: int = Field(description="Bytes that it reads and writes.")
    code: str
    groups: list[int] = Field(description="Workgroups to dispatch.")

    @classmethod
    def of(cls, probe: Probe, tensors: Sequence[Placement]) -> ProbeDocument:
        """The document of a probe."""
        sides = [
            None if placement == SCALARS else tensors.index(placement)
            for placement in (probe.source, probe.target)
        ]
        made = probe.shader
        return cls(
            key=probe.key,
            kind=probe.kind,
            source=sides[0],
            target=sides[1],
            bytes=probe.bytes,
            code=made.code,
            groups=list(made.groups),
        )


class ShapeDocument(BaseModel):
    """What is measured of a shape."""

    shape: list[int]
    words: int = Field(description="Words of the pattern that tensors are filled with.")
    is_checked: bool = Field(description="Whether the bytes that probes leave are wanted.")
    tensors: list[TensorDocument]
    probes: list[ProbeDocument]

    @classmethod
    def of(cls, shape: Shape) -> ShapeDocument:
        """The document of a shape."""
        wanted = probes(shape)
        tensors = [probe.target for probe in wanted if probe.kind == "write"]
        return cls(
            shape=list(shape),
            words=flat(tensors[0]).bytes // 4,
            is_checked=is_checked(shape),
            tensors=[TensorDocument.of(placement) for placement in tensors],
            probes=[ProbeDocument.of(probe, tensors) for probe in wanted],
        )


class LinkRequest(BaseModel):
    """A device to calibrate by whoever has the link."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: DeviceName


class LinkDocument(BaseModel):
    """An address that opens the page on another device."""

    url: str
    qr: str = Field(description="The address as a QR code: an image, as an address with its data.")
    seconds: int | None = Field(description="How long it opens; null where none is asked for.")


class CalibrationRequest(BaseModel):
    """A calibration to begin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: DeviceName = Field(description="The device; it is added if it is not there.")
    sweep: SweepName


class CalibrationBegun(BaseModel):
    """A calibration that began."""

    session: str = Field(description="To hand in with what was measured.")
    seed: int = Field(description="The seed of the pattern that tensors are filled with.")
    seconds: int = Field(description="How long it may take.")


class MeasuredProbe(BaseModel):
    """A probe that was measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: ProbeKey
    count: int = Field(ge=1, le=MOST_COUNT, description="Dispatches in a batch.")
    ns: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        min_length=LEAST_BATCHES,
        max_length=MOST_BATCHES,
        description="ns of a dispatch, on average in each batch.",
    )
    digest: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 of the bytes that it leaves."
    )


class MeasuredShape(BaseModel):
    """The probes of a shape that were measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: ShapeNumber
    probes: list[MeasuredProbe] = Field(max_length=_MOST_PROBES)


class Adapter(BaseModel):
    """What a browser says of its GPU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vendor: Words = ""
    architecture: Words = ""
    device: Words = ""
    description: Words = ""
    is_fallback: bool = Field(False, description="Whether it runs on the CPU.")

    @property
    def name(self) -> str:
        """The adapter in words."""
        told = self.description or " ".join(
            part for part in (self.vendor, self.architecture, self.device) if part
        )
        return told[:100] or "unnamed adapter"


class AdapterLimits(BaseModel):
    """The limits of a device as it was opened, in bytes and texels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_buffer_size: Size
    max_storage_buffer_binding_size: Size
    max_texture_dimension_3d: Size


assert set(LIMITS) == set(AdapterLimits.model_fields)


class SamplesRequest(BaseModel):
    """All that was measured in a calibration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    session: Token
    adapter: Adapter
    limits: AdapterLimits
    timing: Timing = Field(description="Timestamp queries, or batches timed by the queue.")
    resolution_ns: float = Field(
        gt=0, lt=1e9, allow_inf_nan=False, description="Steps of the clock, as they were found."
    )
    shapes: list[MeasuredShape] = Field(max_length=_MOST_SHAPES)

    def claim(self) -> Claim:
        """What is claimed by that."""
        limits = self.limits.model_dump()
        return Claim(self.timing, self.resolution_ns, limits, by_number(self.shapes))


class WantedProbe(BaseModel):
    """A probe to measure again."""

    number: ShapeNumber
    key: ProbeKey


class ReplaysWanted(BaseModel):
    """What to measure again before the samples are taken."""

    again: str = Field(description="To hand in with what was measured again.")
    seed: int = Field(description="The seed of the pattern that tensors are filled with now.")
    probes: list[WantedProbe]


class ProfileRequest(SamplesRequest):
    """The same samples, with what was measured again."""

    again: Token
    replays: list[MeasuredShape] = Field(max_length=_MOST_SHAPES)


class CalibratedDevice(BaseModel):
    """A device whose profile was measured."""

    device: str
    profile: str = Field(description="SHA-256 of the profile, by which `POST /plan` takes it.")
    median_error: float = Field(description="Relative, for shapes that it was not fitted to.")
    p90_error: float
    samples: int = Field(description="Times that it was fitted to.")
    left_out: int = Field(description="Probes of the sweep that were not measured.")

    @classmethod
    def of(cls, device: str, made: Calibration) -> CalibratedDevice:
        """The document of a calibration."""
        measured = made.profile.measured
        assert measured is not None
        return cls(
            device=device,
            profile=made.profile.digest,
            median_error=measured.fit["median_error"],
            p90_error=measured.fit["p90_error"],
            samples=int(measured.fit["samples"]),
            left_out=int(measured.fit["left_out"]),
        )


def by_number(shapes: Sequence[MeasuredShape]) -> dict[int, tuple[Measured, ...]]:
    """What was measured, by the number of the shape; the same number twice counts together."""
    found: dict[int, tuple[Measured, ...]] = {}
    for each in shapes:
        measured = (Measured(p.key, p.count, tuple(p.ns), p.digest) for p in each.probes)
        found[each.number] = (*found.get(each.number, ()), *measured)
    return found
