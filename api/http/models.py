"""What requests ask for, and what they are answered with: the service's documents."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from math import isinf
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    create_model,
)

from api.jobs.jobs import ItemStatus, JobStatus
from api.jobs.matrix import MAX_ITEMS, Matrix
from api.store.devices import KnownDevice
from api.store.plans import FIGURES, PlanFilter, Sort
from api.store.tables import State
from planner.costs.model import Objective
from planner.costs.profile import DeviceProfile
from planner.costs.profile_file import builtin_names, load_profile
from planner.ir.representation import FLOAT_LAYOUTS, QUANTIZED_LAYOUTS
from planner.kernels.releases import Target
from planner.options import MOST_ALTERNATIVES, PlanOptions, default_objective, make_options
from planner.result.opportunities import Ranking
from planner.result.report import PlanFigures

EXAMPLE_PLAN_ID: Final = "0f3a5c7e9b1d2f4a6c8e0b1d3f5a7c9e"
EXAMPLE_JOB_ID: Final = "5d2c41a0b93e4f6d8a7c1e0f2b3d4c5a"
_EXAMPLE_SHA256: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_DEFAULT_NAME: Final = "upload.pt2"
_MAX_PAGE: Final = 500

# PostgreSQL takes no text with a NUL in it; and names are printed.
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Part = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]


def _utc(time: datetime) -> datetime:
    """A point in time in UTC; without a zone it is in UTC already."""
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        raise ValueError("there is no such time in UTC") from None


def _null_if_infinite(value: float) -> float | None:
    return None if isinf(value) else value


Time = Annotated[datetime, AfterValidator(_utc)]
Ratio = Annotated[float | None, BeforeValidator(_null_if_infinite)]
"""A ratio of costs; JSON has no infinity."""


def _described() -> dict[str, Any]:
    """The figures that plans are listed with, as fields: types and meanings are the report's."""
    known = TypeAdapter(PlanFigures).json_schema()["properties"]
    hints = get_type_hints(PlanFigures)
    return {
        name: (
            Ratio if hints[name] == float | None else hints[name],
            Field(description=known[name]["description"]),
        )
        for name in FIGURES
    }


if TYPE_CHECKING:
    _Figures = BaseModel
else:
    _Figures = create_model("_Figures", __config__=ConfigDict(from_attributes=True), **_described())


class WantedQuery(BaseModel):
    """The user's own limits, from the query of a URL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pin: list[str] = Field(
        [],
        description="What must have which representation, as `NAME=REPRESENTATION`: a name is a "
        "type of operator, an operator's number, a tensor, `input` or `output`; a representation a "
        "storage, a layout, or both. May be given several times.",
        examples=[["aten.mm.default=texture:WIDTH_PACKED"]],
    )
    forbid: list[str] = Field(
        [],
        description="What must not have which representation, as `NAME:REPRESENTATION`, or as "
        "`REPRESENTATION` alone for all; may be given several times.",
        examples=[["v17:buffer"]],
    )
    input_layout: str | None = Field(
        None,
        description="The representation of all inputs of a delegate.",
        examples=["buffer:WIDTH_PACKED"],
    )
    output_layout: str | None = Field(
        None,
        description="The representation of all outputs of a delegate.",
        examples=["texture"],
    )
    max_transitions: int | None = Field(
        None, description="The most transitions, in all delegates together.", examples=[20]
    )
    max_transition_bytes: int | None = Field(
        None,
        description="The most bytes that the copies of all transitions take together, padding "
        "included.",
        examples=[2**20],
    )
    max_peak_memory: int | None = Field(
        None,
        description="The most bytes of tensors that may be alive at once in a delegate, padding "
        "and copies included.",
        examples=[2**24],
    )

    def wanted(self) -> dict[str, Any]:
        """The limits, as ``make_options`` and ``make_wanted`` take them."""
        return {
            "pin": self.pin,
            "forbid": self.forbid,
            "input_layout": self.input_layout or None,
            "output_layout": self.output_layout or None,
            "max_transitions": self.max_transitions,
            "max_transition_bytes": self.max_transition_bytes,
            "max_peak_memory": self.max_peak_memory,
        }


class PlanQuery(WantedQuery):
    """How to plan, from the query of a URL."""

    profile: str = Field(
        "default",
        description="The profile that prices transitions and accesses: the name of a built-in "
        "one, or the hash that `POST /profiles` gave for another.",
        examples=list(builtin_names()),
        max_length=200,
    )
    device: str | None = Field(
        None,
        description="The device that is to run the plan, by its name at `/devices`, or by the "
        "SHA-256 of a device's file that `POST /inputs` has kept: its measured times are the "
        "costs, its limits hold, and what is wrong on it is avoided. The profile prices what was "
        "not measured.",
        examples=["nvidia-h100"],
        max_length=100,
    )
    objective: str | None = Field(
        None,
        description="What to minimise: the cost of the transitions alone (`repack`), or that of "
        "the operators and accesses as well (`latency`); left out, `latency` for a device and "
        "`repack` without one.",
        json_schema_extra={"enum": list(get_args(Objective))},
    )
    texture_limits: str | None = Field(
        None,
        description="Largest image extents of the device in texels, as `X,Y,Z`; left out, those "
        "that ExecuTorch lowers with.",
        examples=["2048,2048,2048"],
    )
    buffer_limit: int | None = Field(
        None,
        description="Fewest elements that are too many for a buffer of the device; left out, no "
        "limit.",
        examples=[2**27],
    )
    without_layout: list[
        Annotated[
            str,
            Field(json_schema_extra={"enum": [x.name for x in FLOAT_LAYOUTS + QUANTIZED_LAYOUTS]}),
        ]
    ] = Field(
        [],
        description="A memory layout that the plan must not use; may be given several times.",
        examples=[["TENSOR_HEIGHT_PACKED"]],
    )
    runtime: str | None = Field(
        None,
        description="The release of ExecuTorch that is to run the plan, or as in `1.3+` that and "
        "later ones; left out, of a `.pt2` the one that lowers it, of a lowered program those that "
        "take it as it is.",
        examples=["1.3", "1.3+"],
    )
    target: Target | None = Field(
        None,
        description="The backend of ExecuTorch's whose runtime is to run the plan; left out, "
        "`vulkan`, and a program that was planned for `webgpu` is refused.",
    )
    gpu: str | None = Field(
        None,
        max_length=200,
        description="The name of the device's GPU: what is known to fail on it is avoided, too.",
        examples=["Adreno (TM) 740"],
    )
    compile_option: list[str] = Field(
        [],
        description="An option to lower a `.pt2` with, as `force_fp16` or "
        "`downcast_64_bit=false`; may be given several times.",
        examples=[["force_fp16"]],
    )
    alternatives: int = Field(
        0,
        description="How many of the plans that come next the report lists, for each delegate.",
        ge=0,
        le=MOST_ALTERNATIVES,
    )
    name: str = Field(
        _DEFAULT_NAME,
        description="The name of the file, for messages and for the name of the answer's file.",
        examples=["mobilenet_v2.pt2"],
    )

    input: str | None = Field(
        None,
        description="The SHA-256 of a program that `POST /inputs` has kept: in place of a body.",
        pattern="^[0-9a-f]{64}$",
        examples=[_EXAMPLE_SHA256],
    )

    def summary(self, options: PlanOptions) -> dict[str, Any]:
        """What was asked for, as a job has it."""
        return {
            "name": self.file_name(),
            "profiles": [options.profile.name],
            "devices": [self.device],
            "objectives": [self.objective],
            "texture_limits": [self.texture_limits],
            "buffer_limits": [self.buffer_limit],
            "without_layouts": [self.without_layout],
            "runtimes": [self.runtime],
            "targets": [self.target],
            "gpus": [self.gpu],
            "compile_options": [self.compile_option],
            "limits": [options.wanted],
        }

    def options(self, profile: DeviceProfile) -> PlanOptions:
        """The options asked for, but for the device; raises ``OptionError``."""
        return make_options(
            profile,
            self.objective or default_objective(is_measured=bool(self.device)),
            self.texture_limits,
            self.without_layout,
            self.buffer_limit,
            runtime=self.runtime or None,
            gpu=self.gpu or None,
            compile_options=self.compile_option,
            alternatives=self.alternatives,
            target=self.target,
            **self.wanted(),
        )

    def file_name(self) -> str:
        """The name without folders or characters that do not print; never empty."""
        base = re.split(r"[/\\]", self.name)[-1]
        printable = "".join(c for c in base if c.isprintable()).strip()[:200]
        return printable if printable.strip(".") else _DEFAULT_NAME


class CheckQuery(WantedQuery):
    """The options of a check: a file that breaks the limits is found."""

    runtime: str | None = Field(
        None,
        description="The release of ExecuTorch that is to run the program, or as in `1.3+` that "
        "and later ones; left out, the latest.",
        examples=["1.3"],
    )
    target: Target | None = Field(
        None,
        description="The backend of ExecuTorch's whose runtime is to run the program; left out, "
        "that which it was planned for.",
    )
    gpu: str | None = Field(
        None,
        max_length=200,
        description="The GPU that is to run it, by the name that Vulkan gives it.",
        examples=["Adreno (TM) 740"],
    )
    name: str = Field("upload.pte", description="The name of the file, for messages.")


class Health(BaseModel):
    """That the service runs, and its version."""

    status: str = Field(examples=["ok"])
    version: str = Field(examples=["0.1.0"])


class Check(BaseModel):
    """One thing that the service needs."""

    ok: bool
    detail: str | None = Field(description="What is wrong; null if nothing is.")


class Readiness(BaseModel):
    """Whether the service can do its work, and what it looked at."""

    is_ready: bool
    checks: dict[str, Check] = Field(
        description="`database`, `store`, `disk`, `planner` and `workers`; without workers the "
        "service is ready all the same, and jobs wait."
    )


class Progress(BaseModel):
    """How far a plan is."""

    stage: str | None = Field(
        description="`waiting` for a process, `loading`, `lowering`, `planning`, how many "
        "delegates are planned, or `writing`; null if no request of this id waits for a plan.",
        examples=["lowering"],
    )


class Profile(BaseModel):
    """A device profile: built in, or kept."""

    name: str = Field(examples=["default"])
    hash: str = Field(description="SHA-256 of its content, in hexadecimal.")
    unit: str = Field(description="`bytes` or `ns`.", examples=["bytes"])
    description: str
    is_builtin: bool = Field(description="Whether `POST /plan` takes its name.")

    @classmethod
    def of(cls, profile: DeviceProfile) -> Profile:
        """The document of a profile."""
        return cls(
            name=profile.name,
            hash=profile.digest,
            unit=profile.unit,
            description=profile.description,
            is_builtin=profile.name in builtin_names()
            and profile.digest == load_profile(profile.name).digest,
        )


class PlansQuery(BaseModel):
    """Which plans to list, and in which order, from the query of a URL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Part | None = Field(
        None,
        description="A part of the program's file name, in upper or lower case.",
        examples=["mobilenet"],
    )
    profile: Part | None = Field(
        None, description="The name of the device profile.", examples=["bytes"]
    )
    device: Part | None = Field(
        None, description="The device that it was planned for.", examples=["nvidia-h100"]
    )
    objective: Objective | None = Field(None, description="What was minimised.")
    status: Literal["OPTIMAL", "FEASIBLE"] | None = Field(
        None, description="`OPTIMAL` if no plan costs less; `FEASIBLE` if that is not proven."
    )
    min_ratio: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Least ratio of the baseline's repack cost to the plan's.",
        examples=[1.5],
    )
    max_ratio: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Largest ratio of the baseline's repack cost to the plan's.",
        examples=[10],
    )
    created_after: Time | None = Field(
        None,
        description="Plans made then or later; a time without a zone is UTC.",
        examples=["2026-01-31T00:00:00Z"],
    )
    created_before: Time | None = Field(
        None,
        description="Plans made earlier; a time without a zone is UTC.",
        examples=["2026-02-01T00:00:00Z"],
    )
    sort: Sort = Field("created", description="What to sort by.")
    order: Literal["asc", "desc"] = Field("desc", description="Smallest or largest first.")
    limit: int = Field(50, ge=1, le=_MAX_PAGE, description="How many plans at most.")
    offset: int = Field(0, ge=0, lt=2**63, description="How many plans of the list to leave out.")

    def filter(self) -> PlanFilter:
        """Which plans to list."""
        return PlanFilter(
            self.name,
            self.profile,
            self.device,
            self.objective,
            self.status,
            self.min_ratio,
            self.max_ratio,
            self.created_after,
            self.created_before,
        )


class PlanSummary(_Figures):
    """A plan in a list. Costs are in `unit`.

    The baseline is ExecuTorch's own pass; for a program that came lowered, its own layouts.
    """

    id: str = Field(examples=[EXAMPLE_PLAN_ID], description="As in `/plans/{id}`.")
    created: datetime = Field(description="When the plan was made, in UTC.")
    name: str = Field(
        validation_alias="source_name",
        description="The program's file name.",
        examples=["mobilenet_v2.pt2"],
    )
    source_sha256: str = Field(description="SHA-256 of the program, in hexadecimal.")
    kind: str = Field(description="`pt2`, `pte` or `vkgraph`.", examples=["pt2"])
    profile: str = Field(validation_alias="profile_name", examples=["bytes"])
    profile_hash: str = Field(description="SHA-256 of the device profile, in hexadecimal.")
    costs: str = Field(
        validation_alias="costs_name",
        description="What the costs are called: the profile, or the device that was measured.",
        examples=["bytes"],
    )
    device: str | None = Field(
        description="The device whose measured times are the costs; null for a profile's alone."
    )
    objective: str = Field(description="What was minimised.", examples=["repack"])
    unit: str = Field(description="`bytes` or `ns`.", examples=["bytes"])
    texture_limits: list[int] = Field(
        description="Largest image extents in texels.", examples=[[16384, 16384, 2048]]
    )
    buffer_limit: int | None = Field(
        description="Fewest elements that are too many for a buffer; null for no limit."
    )
    excluded_layouts: list[str] = Field(description="Layouts that the plan must not use.")
    runtime: str = Field(
        description="The releases of ExecuTorch that the plan is for; empty in plans of earlier "
        "releases of the planner.",
        examples=["1.3+"],
    )
    target: Target = Field(description="The backend of ExecuTorch's whose runtime the plan is for.")
    saved_cost: float = Field(description="The baseline's repack cost less the plan's.")
    delegates: int = Field(description="Vulkan delegates of the program.")
    has_program: bool = Field(description="Whether there is a `program.pte`.")
    planner_version: str = Field(examples=["0.1.0"])


class PlanList(BaseModel):
    """A page of plans."""

    total: int = Field(description="How many plans pass the filters, on all pages.")
    plans: list[PlanSummary]


class UploadedInput(BaseModel):
    """The bytes of an input, which are kept for an hour, and as long as a job has them."""

    sha256: str = Field(examples=[_EXAMPLE_SHA256])
    size: int = Field(description="In bytes.")


class JobInput(BaseModel):
    """A program of a job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field(description="What to call it.", examples=["models/mobilenet_v2.pte"])
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$",
        description="As `POST /inputs` answered.",
        examples=[_EXAMPLE_SHA256],
    )


class JobRequest(BaseModel):
    """Many inputs, and options to plan each of them with, in every combination."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field("job", description="What to call the job.", examples=["nightly"])
    inputs: list[JobInput] = Field(min_length=1, max_length=MAX_ITEMS)
    profiles: list[str | dict[str, Any]] = Field(
        ["default"],
        min_length=1,
        max_length=100,
        description="Names of built-in profiles, documents of others, or the hashes of such as "
        "`POST /profiles` has kept.",
    )
    devices: list[str | None] = Field(
        [None],
        min_length=1,
        max_length=100,
        description="Names of devices, as `/devices` has them, or SHA-256 of devices' files that "
        "`POST /inputs` has kept: each gets plans by its own measured "
        "times; null for plans by the profile alone.",
    )
    objectives: list[str | None] = Field(
        [None],
        min_length=1,
        max_length=3,
        description="null is `latency` for a device, and `repack` without one.",
    )
    texture_limits: list[str | None] = Field(
        [None],
        min_length=1,
        max_length=100,
        description="Largest image extents, each as `X,Y,Z`; null for those of the program.",
    )
    buffer_limits: list[int | None] = Field(
        [None],
        min_length=1,
        max_length=100,
        description="Fewest elements that are too many for a buffer; null for no limit.",
    )
    without_layouts: list[list[str]] = Field(
        [[]], min_length=1, max_length=100, description="Sets of layouts that plans must not use."
    )
    runtimes: list[str | None] = Field(
        [None],
        min_length=1,
        max_length=100,
        description="Releases of ExecuTorch that are to run the plans; null for the default.",
    )
    targets: list[Target | None] = Field(
        [None],
        min_length=1,
        max_length=3,
        description="Backends of ExecuTorch's whose runtimes are to run the plans; null for "
        "`vulkan`.",
    )
    compile_options: list[list[str]] = Field(
        [[]],
        min_length=1,
        max_length=100,
        description="Sets of options to lower `.pt2` files with, each as `force_fp16` or "
        "`downcast_64_bit=false`.",
    )
    limits: list[list[str]] = Field(
        [[]],
        min_length=1,
        max_length=100,
        description="Sets of limits, each as an option of the command line with its value: "
        "`forbid v17:buffer`.",
    )

    def matrix(
        self,
        find_profile: Callable[[str | dict[str, Any]], DeviceProfile],
        find_device: Callable[[str], KnownDevice],
    ) -> Matrix:
        """The options in every combination; raises as what finds profiles and devices does."""
        return Matrix(
            tuple(map(find_profile, self.profiles)),
            tuple(None if name is None else find_device(name) for name in self.devices),
            tuple(self.objectives),
            tuple(self.texture_limits),
            tuple(self.buffer_limits),
            tuple(map(tuple, self.without_layouts)),
            tuple(self.runtimes),
            tuple(map(tuple, self.compile_options)),
            tuple(map(tuple, self.limits)),
            tuple(self.targets),
        )

    def summary(self, matrix: Matrix) -> dict[str, Any]:
        """What was asked for, without the inputs; of a profile its name."""
        names = [profile.name for profile in matrix.profiles]
        return self.model_dump(exclude={"inputs", "profiles"}) | {"profiles": names}


class JobSummary(BaseModel):
    """A job, and how far it is."""

    id: str = Field(examples=[EXAMPLE_JOB_ID])
    name: str
    created: datetime
    cancelled: datetime | None = Field(description="When it was cancelled, if it was.")
    is_finished: bool = Field(description="Whether nothing is left to do.")
    total: int = Field(description="How many items it has.")
    counts: dict[State, int] = Field(description="How many of its items are in each state.")
    request: dict[str, Any] = Field(description="What was asked for, without the inputs.")

    @classmethod
    def of(cls, job: JobStatus) -> JobSummary:
        """The document of a job."""
        return cls(
            id=job.id,
            name=job.name,
            created=job.created,
            cancelled=job.cancelled,
            is_finished=job.is_finished,
            total=job.total,
            counts=job.counts,
            request=job.request,
        )


class JobList(BaseModel):
    """A page of jobs, the newest first."""

    total: int
    jobs: list[JobSummary]


class ItemOptions(BaseModel):
    """How an item is planned."""

    profile: str
    profile_hash: str
    device: str | None = None
    device_sha256: str | None = Field(
        None, description="SHA-256 of the device's file: of all that was known of it."
    )
    gpu: str | None = None
    objective: str
    texture_limits: list[int] | None
    buffer_limit: int | None
    without_layouts: list[str]
    runtime: str | None = None
    target: Target | None = None
    compile_options: dict[str, bool] = {}
    limits: list[str] = []


class ItemResult(_Figures):
    """What came of an item. Costs are in `unit`."""

    unit: str
    is_proven: bool = Field(description="Whether it is proven that no plan costs less.")
    gap: float = Field(
        description="How much less the best plan may cost, as a share of this one's cost."
    )


class JobItem(BaseModel):
    """An input of a job with options."""

    number: int = Field(description="Its place in the job, from 0.")
    input: str
    input_sha256: str
    options: ItemOptions
    state: State
    attempts: int = Field(description="How often it was begun.")
    error: str | None = Field(description="Why it failed.")
    plan_id: str | None = Field(description="The plan at `/plans/{id}`, once it is done.")
    worker: str | None = Field(description="The worker that began it last.")
    queued: datetime | None
    started: datetime | None
    finished: datetime | None
    result: ItemResult | None

    @classmethod
    def of(cls, item: ItemStatus) -> JobItem:
        """The document of an item."""
        task, plan = item.task, item.plan
        return cls(
            number=item.number,
            input=item.input_name,
            input_sha256=task.input_sha256,
            options=ItemOptions(**item.options),
            state=item.state,
            attempts=task.attempts,
            error=task.error,
            plan_id=None if plan is None else plan.id,
            worker=task.worker_id,
            queued=task.queued,
            started=task.started,
            finished=task.finished,
            result=None if plan is None else ItemResult.model_validate(plan),
        )


class JobDetail(JobSummary):
    """A job with its items."""

    items: list[JobItem]


class JobResults(BaseModel):
    """All items of a job."""

    job: JobSummary
    items: list[JobItem]


class JobOpportunities(BaseModel):
    """What would make plans of a job cheaper, for items with the same options."""

    options: ItemOptions
    plans: int = Field(description="Items whose plans are ranked.")
    ranking: Ranking


class Changed(BaseModel):
    """How many tasks are to be stopped, or were queued again."""

    tasks: int


class WorkerSummary(BaseModel):
    """A worker that is alive."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    host: str
    pid: int
    version: str = Field(
        description="The planner's release, and its revision of planning.",
        examples=["0.2.0+plans.1"],
    )
    started: datetime


class ItemChange(BaseModel):
    """An item whose state is new, in an event."""

    number: int
    state: State
    attempts: int
