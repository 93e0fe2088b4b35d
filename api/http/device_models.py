"""The documents of requests about devices, and of their answers."""

from __future__ import annotations

import json
from datetime import datetime
from math import inf
from typing import Annotated, Any, Final
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from api.http.models import Name, Profile
from api.store.devices import DeviceSummary as KeptDevice
from api.store.tables import DeviceRun, TuningRecord
from planner.measured.device import Device
from planner.options import check_buffer_limit, parse_texture_limits
from planner.tuning.journal import Verdict

EXAMPLE_DEVICE: Final = "nvidia-h100"
_EXAMPLE_SHA256: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

# A device's name is a part of paths.
DeviceName = Annotated[
    str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f/\\]*[^\x00-\x1f\x7f/\\.]+$")
]
Text = Annotated[str, Field(max_length=2000, pattern=r"^[^\x00]*$")]
Nanoseconds = Annotated[float, Field(ge=0, lt=1e18, allow_inf_nan=False)]


class DeviceRequest(BaseModel):
    """A device to add."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: DeviceName = Field(description="What to call it.", examples=["my phone"])
    driver: Name = Field(
        "unknown",
        description="Its driver: with another one it is another device.",
        examples=["Adreno 0840"],
    )
    gpu: Name | None = Field(
        None, description="Its GPU, by the name that Vulkan gives it.", examples=["Adreno (TM) 740"]
    )
    texture_limits: str | None = Field(
        None,
        description="Largest image extents in texels, as `X,Y,Z`.",
        examples=["16384,16384,2048"],
    )
    buffer_limit: int | None = Field(
        None, description="Fewest elements that are too many for a buffer."
    )
    avoid: list[dict[str, Any]] = Field(
        [], description="Rows of what is wrong on it, as `--avoid` takes them.", max_length=500
    )

    def device(self) -> Device:
        """The device; raises ``OptionError`` for wrong limits."""
        limits = self.texture_limits
        return Device(
            self.name,
            self.driver,
            self.gpu,
            None if limits is None else parse_texture_limits(limits),
            None if self.buffer_limit is None else check_buffer_limit(self.buffer_limit),
            tuple(self.avoid),
        )

    def location(self) -> str:
        """The name as a part of a path."""
        return quote(self.name, safe="")


class DeviceSummary(BaseModel):
    """A device, and how many runs it has."""

    name: str = Field(examples=[EXAMPLE_DEVICE])
    driver: str
    gpu: str | None
    texture_limits: list[int] | None = Field(description="Largest image extents in texels.")
    buffer_limit: int | None
    avoid: list[dict[str, Any]] = Field(description="Rows of what is wrong on it.")
    runs: int = Field(description="How many runs it has.")
    created: datetime | None = Field(description="When it was added; null if it ships with us.")
    last_run: datetime | None = Field(description="When its last run was added.")
    profile: Profile | None = Field(description="Its own profile, where it was calibrated.")
    calibrated: datetime | None = Field(description="When it was calibrated last.")
    is_shipped: bool = Field(
        description="Whether it ships with the planner, and cannot be changed."
    )

    @classmethod
    def of(cls, kept: KeptDevice) -> DeviceSummary:
        """The document of a device."""
        device, calibration = kept.device, kept.calibration
        limits = device.texture_limits
        return cls(
            name=device.name,
            driver=device.driver,
            gpu=device.gpu,
            texture_limits=None if limits is None else list(limits),
            buffer_limit=device.buffer_limit,
            avoid=list(device.avoid),
            runs=kept.runs,
            created=kept.created,
            last_run=kept.last_run,
            profile=None if calibration is None else Profile.of(calibration.profile),
            calibrated=None if calibration is None else calibration.created,
            is_shipped=kept.is_shipped,
        )


class DeviceList(BaseModel):
    """All devices."""

    devices: list[DeviceSummary]


class UploadedFile(BaseModel):
    """A file that was uploaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field(description="What to call it.", examples=["mobilenet_v2.pte"])
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$",
        description="As `POST /inputs` answered.",
        examples=[_EXAMPLE_SHA256],
    )


class RunRequest(BaseModel):
    """A run to add: the ETDump, and the program that it measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    etdump: UploadedFile
    program: UploadedFile


class RunSummary(BaseModel):
    """A run of a device; times are ns per inference."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    created: datetime
    source: str = Field(description="What the ETDump is called.")
    program_name: str
    etdump_sha256: str
    program_sha256: str = Field(
        description="SHA-256 of the program without its constants: plans that are alike have it."
    )
    total_ns: float
    joined_ns: float = Field(description="The time of dispatches that belong to an operator.")
    samples: int = Field(description="How many operators and repacks were measured.")

    @classmethod
    def of(cls, run: DeviceRun) -> RunSummary:
        """The document of a run."""
        return cls.model_validate(run)


class FittedRun(BaseModel):
    """A run, measured and predicted; times are ns per inference."""

    id: str | None = Field(description="As in the list of runs; null if the device ships with us.")
    source: str
    program: str
    created: datetime | None
    etdump_sha256: str
    graph_sha256: str
    measured: float
    predicted: float | None = Field(
        description="By what runs of other plans taught; null where there are none."
    )
    speed: float = Field(
        description="How much longer the run took than the median run on what they share: 0.1 is "
        "a tenth. Over time it shows how the device drifts."
    )


class Errors(BaseModel):
    """Relative errors for calls that are left out of a fit; null where there are too few."""

    calls: int
    median_error: float | None
    worst_tenth: float | None


class FittedOperator(BaseModel):
    """An operator and how well its times are known."""

    operator: str
    share: float = Field(description="Its part of the measured time.")
    calls: int = Field(description="Calls that were measured, in some representation.")
    interpolated: Errors = Field(description="In representations measured with other shapes.")
    estimated: Errors = Field(description="In representations that were not measured together.")


class Untried(BaseModel):
    """A call in representations that were not measured yet; times are in ns."""

    operator: str
    representations: dict[str, str]
    guess: float
    least: float


class Next(BaseModel):
    """What to measure next of a program; times are ns per inference."""

    program: str
    predicted: float = Field(description="What its next variant is predicted to take.")
    saving: float = Field(description="What it could save at best.")
    untried: list[Untried]


class DeviceFit(BaseModel):
    """How well a device is known."""

    runs: list[FittedRun]
    operators: list[FittedOperator]
    next: list[Next]


class TuningRequest(BaseModel):
    """A tuning that begins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    program: Name = Field(description="The program's name.", examples=["mobilenet_v2.pt2"])


class TuningBegun(BaseModel):
    """A tuning of which is told from now on."""

    id: str


class TunedPlan(BaseModel):
    """A plan that was measured; times are ns per inference."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    round: int = Field(ge=0, le=1_000_000)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the program.")
    transitions: int = Field(ge=0)
    predicted_ns: Nanoseconds | None
    verdict: Verdict
    ns: Nanoseconds
    wall_ns: Nanoseconds
    error: Nanoseconds | None = Field(description="Of its outputs, relative to the largest value.")
    said: Text = Field(description="Why it failed.")


class TuningRound(BaseModel):
    """What a round taught."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int = Field(ge=0)
    measured: int = Field(ge=0)
    new_calls: int = Field(ge=0)
    least: Nanoseconds
    saving: float = Field(allow_inf_nan=False)


class GainInterval(BaseModel):
    """How many times faster than ExecuTorch's plan; `high` is null for no end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    median: float = Field(ge=0, lt=inf)
    low: float = Field(ge=0, lt=inf)
    high: float | None = Field(ge=0, lt=inf)


class TunedFinalist(BaseModel):
    """A plan of the last comparison."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    gain: GainInterval
    wall_gain: GainInterval | None
    predicted_gain: float = Field(ge=0, lt=inf)
    is_faster: bool


class TuningProgress(BaseModel):
    """How far a tuning is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Text = Field("", description="What is done now.")
    plans: list[TunedPlan] = Field([], max_length=1000)
    rounds: list[TuningRound] = Field([], max_length=1000)
    finalists: list[TunedFinalist] = Field([], max_length=100)
    winner: Name | None = None
    device_seconds: float = Field(0.0, ge=0, lt=inf)
    ended: Text | None = Field(None, description="Why it ended; null while it goes on.")


class TuningSummary(BaseModel):
    """A tuning on a device."""

    id: str
    program: str
    created: datetime
    updated: datetime
    ended: str | None = Field(description="Why it ended; null while it goes on.")
    winner: str | None
    gain: GainInterval | None = Field(description="The winner's; null if none was faster.")

    @classmethod
    def of(cls, tuning: TuningRecord) -> TuningSummary:
        """The document of a tuning, without its plans."""
        progress = TuningProgress.model_validate({**json.loads(tuning.document), "ended": None})
        gains = {finalist.name: finalist.gain for finalist in progress.finalists}
        return cls(
            id=tuning.id,
            program=tuning.program_name,
            created=tuning.created,
            updated=tuning.updated,
            ended=tuning.ended,
            winner=progress.winner,
            gain=None if progress.winner is None else gains.get(progress.winner),
        )


class TuningDetail(BaseModel):
    """A tuning with its plans and rounds."""

    tuning: TuningSummary
    progress: TuningProgress

    @classmethod
    def of(cls, tuning: TuningRecord) -> TuningDetail:
        """The document of a tuning."""
        told = {**json.loads(tuning.document), "ended": tuning.ended}
        return cls(tuning=TuningSummary.of(tuning), progress=TuningProgress.model_validate(told))
