"""The documents of a server, as requests and answers have them; times are texts in ISO 8601.

They have the names that the service's OpenAPI document gives them: a test holds them against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

State = Literal["waiting", "queued", "running", "done", "failed", "cancelled"]
Objective = Literal["repack", "latency"]
Target = Literal["vulkan", "webgpu"]


class Health(TypedDict):
    """That the service runs, and its version."""

    status: str
    version: str


class Check(TypedDict):
    """One thing that the service needs."""

    ok: bool
    detail: str | None


class Readiness(TypedDict):
    """Whether the service can do its work, and what it looked at."""

    is_ready: bool
    checks: dict[str, Check]


class ProblemKindDetails(TypedDict):
    """A kind of problem: ``type`` is a path of the server, or ``about:blank``."""

    type: str
    title: str
    status: int
    remedy: NotRequired[str | None]


class Problem(ProblemKindDetails):
    """What is wrong with a request (RFC 9457)."""

    detail: str
    request_id: NotRequired[str | None]


class Profile(TypedDict):
    """A device profile: built in, or kept."""

    name: str
    hash: str
    unit: str
    description: str
    is_builtin: bool


class PlanSummary(TypedDict):
    """A plan in a list. Costs are in ``unit``.

    The baseline is ExecuTorch's own pass; for a program that came lowered, its own layouts.
    """

    repack_cost: float
    baseline_repack_cost: float
    ratio: float | None
    transitions: int
    baseline_transitions: int
    objective_cost: float
    baseline_objective_cost: float
    objective_ratio: float | None
    status: str
    bound: float
    operators: int
    plan_seconds: float
    id: str
    created: str
    name: str
    source_sha256: str
    kind: str
    profile: str
    profile_hash: str
    costs: str
    device: str | None
    objective: str
    unit: str
    texture_limits: list[int]
    buffer_limit: int | None
    excluded_layouts: list[str]
    runtime: str
    target: Target
    saved_cost: float
    delegates: int
    has_program: bool
    planner_version: str


class PlanList(TypedDict):
    """A page of plans."""

    total: int
    plans: list[PlanSummary]


class UploadedInput(TypedDict):
    """The bytes of an input, which are kept for an hour, and as long as a job has them."""

    sha256: str
    size: int


class JobSummary(TypedDict):
    """A job, and how far it is."""

    id: str
    name: str
    created: str
    cancelled: str | None
    is_finished: bool
    total: int
    counts: dict[State, int]
    request: dict[str, Any]


class JobList(TypedDict):
    """A page of jobs, the newest first."""

    total: int
    jobs: list[JobSummary]


class ItemOptions(TypedDict):
    """How an item is planned."""

    profile: str
    profile_hash: str
    device: str | None
    device_sha256: str | None
    gpu: str | None
    objective: str
    texture_limits: list[int] | None
    buffer_limit: int | None
    without_layouts: list[str]
    runtime: str | None
    target: Target | None
    compile_options: dict[str, bool]
    limits: list[str]


class ItemResult(TypedDict):
    """What came of an item. Costs are in ``unit``."""

    repack_cost: float
    baseline_repack_cost: float
    ratio: float | None
    transitions: int
    baseline_transitions: int
    objective_cost: float
    baseline_objective_cost: float
    objective_ratio: float | None
    status: str
    bound: float
    operators: int
    plan_seconds: float
    unit: str
    is_proven: bool
    gap: float


class JobItem(TypedDict):
    """An input of a job with options."""

    number: int
    input: str
    input_sha256: str
    options: ItemOptions
    state: State
    attempts: int
    error: str | None
    plan_id: str | None
    worker: str | None
    queued: str | None
    started: str | None
    finished: str | None
    result: ItemResult | None


class JobDetail(JobSummary):
    """A job with its items."""

    items: list[JobItem]


class JobResults(TypedDict):
    """All items of a job."""

    job: JobSummary
    items: list[JobItem]


class Changed(TypedDict):
    """How many tasks are to be stopped, or were queued again."""

    tasks: int


class WorkerSummary(TypedDict):
    """A worker that is alive."""

    id: str
    host: str
    pid: int
    version: str
    started: str


class DeviceSummary(TypedDict):
    """A device, and how many runs it has."""

    name: str
    driver: str
    gpu: str | None
    texture_limits: list[int] | None
    buffer_limit: int | None
    avoid: list[dict[str, Any]]
    runs: int
    created: str | None
    last_run: str | None
    profile: Profile | None
    calibrated: str | None
    is_shipped: bool


class LinkDocument(TypedDict):
    """An address that opens the page that calibrates, on another device."""

    url: str
    qr: str
    seconds: int | None


class SweepDocument(TypedDict):
    """What a calibration measures: shapes, and WGSL that all of its shaders share."""

    name: Literal["trial", "quick", "small", "large"]
    shapes: list[list[int]]
    probes: int
    library: str


class CalibrationBegun(TypedDict):
    """A calibration that began."""

    session: str
    seed: int
    seconds: int


class WantedProbe(TypedDict):
    """A probe to measure again."""

    number: int
    key: str


class ReplaysWanted(TypedDict):
    """What to measure again before samples are taken."""

    again: str
    seed: int
    probes: list[WantedProbe]


class CalibratedDevice(TypedDict):
    """A device whose profile was measured. Errors are relative."""

    device: str
    profile: str
    median_error: float
    p90_error: float
    samples: int
    left_out: int


class DeviceList(TypedDict):
    """All devices."""

    devices: list[DeviceSummary]


class RunSummary(TypedDict):
    """A run of a device; times are ns per inference."""

    id: str
    created: str
    source: str
    program_name: str
    etdump_sha256: str
    program_sha256: str
    total_ns: float
    joined_ns: float
    samples: int


class FittedRun(TypedDict):
    """A run, measured and predicted; times are ns per inference."""

    id: str | None
    source: str
    program: str
    created: str | None
    etdump_sha256: str
    graph_sha256: str
    measured: float
    predicted: float | None
    speed: float


class Errors(TypedDict):
    """Relative errors for calls that are left out of a fit; None where there are too few."""

    calls: int
    median_error: float | None
    worst_tenth: float | None


class FittedOperator(TypedDict):
    """An operator and how well its times are known."""

    operator: str
    share: float
    calls: int
    interpolated: Errors
    estimated: Errors


class Untried(TypedDict):
    """A call in representations that were not measured yet; times are in ns."""

    operator: str
    representations: dict[str, str]
    guess: float
    least: float


class Next(TypedDict):
    """What to measure next of a program; times are ns per inference."""

    program: str
    predicted: float
    saving: float
    untried: list[Untried]


class DeviceFit(TypedDict):
    """How well a device is known."""

    runs: list[FittedRun]
    operators: list[FittedOperator]
    next: list[Next]


class TunedPlan(TypedDict):
    """A plan that was measured; times are ns per inference."""

    name: str
    round: int
    sha256: str
    transitions: int
    predicted_ns: float | None
    verdict: Literal["right", "wrong", "crash", "time-out", "away", "unreadable"]
    ns: float
    wall_ns: float
    error: float | None
    said: str


class TuningRound(TypedDict):
    """What a round taught."""

    number: int
    measured: int
    new_calls: int
    least: float
    saving: float


class GainInterval(TypedDict):
    """How many times faster than ExecuTorch's plan; ``high`` is None for no end."""

    median: float
    low: float
    high: float | None


class TunedFinalist(TypedDict):
    """A plan of the last comparison."""

    name: str
    gain: GainInterval
    wall_gain: GainInterval | None
    predicted_gain: float
    is_faster: bool


class TuningProgress(TypedDict, total=False):
    """How far a tuning is."""

    stage: str
    plans: list[TunedPlan]
    rounds: list[TuningRound]
    finalists: list[TunedFinalist]
    winner: str | None
    device_seconds: float
    ended: str | None


class TuningSummary(TypedDict):
    """A tuning on a device."""

    id: str
    program: str
    created: str
    updated: str
    ended: str | None
    winner: str | None
    gain: GainInterval | None


class TuningDetail(TypedDict):
    """A tuning with its plans and rounds."""

    tuning: TuningSummary
    progress: TuningProgress


class WantedQuery(TypedDict, total=False):
    """The user's own limits, which ``POST /plan`` keeps and ``POST /check`` looks at."""

    pin: Sequence[str]
    forbid: Sequence[str]
    input_layout: str
    output_layout: str
    max_transitions: int
    max_transition_bytes: int
    max_peak_memory: int


class PlanQuery(WantedQuery, total=False):
    """How to plan: as ``POST /plan`` takes it."""

    profile: str
    device: str
    objective: Objective
    texture_limits: str
    buffer_limit: int
    without_layout: Sequence[str]
    runtime: str
    target: Target
    gpu: str
    compile_option: Sequence[str]
    alternatives: int
    name: str
    input: str


class PlansQuery(TypedDict, total=False):
    """Which plans to list: as ``GET /plans`` takes it."""

    name: str
    profile: str
    device: str
    objective: Objective
    status: Literal["OPTIMAL", "FEASIBLE"]
    min_ratio: float
    max_ratio: float
    created_after: str
    created_before: str
    sort: Literal["created", "name", "ratio", "repack_cost", "saved_cost", "objective_cost"]
    order: Literal["asc", "desc"]
    limit: int
    offset: int


class DeviceRequest(TypedDict, total=False):
    """A device to add: as ``POST /devices`` takes it."""

    driver: str
    gpu: str
    texture_limits: str
    buffer_limit: int
    avoid: Sequence[Mapping[str, Any]]
