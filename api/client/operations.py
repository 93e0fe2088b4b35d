"""Every request that a server answers, each once: for the client that waits, and for the other."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Self,
    Unpack,
    cast,
    overload,
)
from urllib.parse import quote

import httpx

from api.client.connection import checked
from api.client.documents import (
    CalibratedDevice,
    CalibrationBegun,
    DeviceFit,
    DeviceRequest,
    DeviceSummary,
    Health,
    JobItem,
    JobSummary,
    LinkDocument,
    PlanList,
    PlanQuery,
    PlansQuery,
    ProblemKindDetails,
    Profile,
    Readiness,
    ReplaysWanted,
    RunSummary,
    SweepDocument,
    Target,
    TuningDetail,
    TuningProgress,
    TuningSummary,
    UploadedInput,
    WantedQuery,
    WorkerSummary,
)
from api.client.manifest import Submission
from api.client.steps import Digest, Link, Request, Source, Steps, T
from planner.errors import InputError, OptionError

if TYPE_CHECKING:
    from api.client.client import AsyncClient, Client
    from planner.result.check import CheckReport
    from planner.result.explanation import Explanation
    from planner.result.opportunities import Opportunities
    from planner.result.outline import Outlines
    from planner.result.report import Report

P = ParamSpec("P")
Rows = list[dict[str, Any]]
"""Rows as they are in JSON: those of an avoid list are in ``docs/kernels.md``."""
OnStage = Callable[[str], None]

_CALIBRATIONS: Final = "/calibrations"
_NONE: Final = frozenset((404,))
_UNKNOWN: Final = frozenset((404, 422))
"""What is answered for a device without runs, of which nothing is known."""


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """A plan of a server: its id, and the planned program as a flatbuffer."""

    id: str
    flatbuffer: bytes


class _Operation(Generic[P, T]):
    """A method of both clients: of ``Client`` it returns, of ``AsyncClient`` it is awaited."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        self.steps = steps
        self.__doc__ = steps.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...

    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, T]: ...

    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, client: Any, owner: type) -> Any:
        """The method of a client."""
        if client is None:
            return self

        @wraps(self.steps)
        def call(*arguments: P.args, **named: P.kwargs) -> Any:
            return client.connection.run(self.steps(client, *arguments, **named))

        return call


operation = _Operation


class Operations:
    """What both clients can do. ``connection`` does the steps of it."""

    def __init__(self, patience: float) -> None:
        self.link = Link(patience)

    # Plans

    @operation
    def check(
        self,
        source: Source,
        runtime: str | None = None,
        gpu: str | None = None,
        name: str | None = None,
        target: Target | None = None,
        **limits: Unpack[WantedQuery],
    ) -> Steps[CheckReport]:
        """Whether a lowered program will load, be right, and keep to limits.

        It is checked for the ``target``, by default for what it was planned for.
        The server keeps nothing of it.
        """
        from planner.result.check import read_check

        params = {
            **{"runtime": runtime, "gpu": gpu, "target": target},
            **{"name": name or _name_of(source), **limits},
        }
        request = Request("POST", "/check", params, content=source, repeats=True, is_long=True)
        return read_check((yield from self._document(dict[str, Any], request)))

    @operation
    def progress(self, progress_id: str) -> Steps[str | None]:
        """How far the request is that has this ``Progress-Id``; None if none waits."""
        found = yield from self._document(
            dict[str, Any], Request("GET", f"/progress/{quote(progress_id, '')}")
        )
        return cast("str | None", found["stage"])

    @operation
    def plans(self, **query: Unpack[PlansQuery]) -> Steps[PlanList]:
        """A page of the plans in store."""
        return (yield from self._document(PlanList, Request("GET", "/plans", query)))

    @operation
    def report(self, plan_id: str) -> Steps[Report]:
        """A plan's report."""
        from planner.result.report import read_report

        return read_report(
            (yield from self._document(dict[str, Any], Request("GET", _plan(plan_id))))
        )

    @operation
    def explanation(self, plan_id: str) -> Steps[Explanation]:
        """Why the repacks of a plan remain."""
        from planner.result.explanation import read_explanation

        request = Request("GET", f"{_plan(plan_id)}/explanation")
        return read_explanation((yield from self._document(dict[str, Any], request)))

    @operation
    def opportunities(self, plan_id: str) -> Steps[Opportunities]:
        """What kernels could take to make a plan cheaper."""
        from planner.result.opportunities import read_opportunities

        request = Request("GET", f"{_plan(plan_id)}/opportunities")
        return read_opportunities((yield from self._document(dict[str, Any], request)))

    @operation
    def tradeoffs(self, plan_id: str) -> Steps[Outlines]:
        """What fewer transitions of a plan, and fewer bytes of copies, would cost at least."""
        from planner.result.outline import read_outlines

        request = Request("GET", f"{_plan(plan_id)}/tradeoffs")
        return read_outlines((yield from self._document(dict[str, Any], request)))

    @operation
    def graph(self, plan_id: str) -> Steps[bytes]:
        """The planned program as a flatbuffer."""
        return (yield from self._ask(Request("GET", f"{_plan(plan_id)}/graph"))).content

    @operation
    def program(self, plan_id: str) -> Steps[bytes | None]:
        """The program of a plan; None where there is none, as for one of a VkGraph alone."""
        path = f"{_plan(plan_id)}/program.pte"
        return _content((yield from self._ask(Request("GET", path, absent=_NONE))))

    @operation
    def delete_plan(self, plan_id: str) -> Steps[None]:
        """Deletes a plan."""
        yield from self._ask(Request("DELETE", _plan(plan_id)))

    @operation
    def profiles(self) -> Steps[list[Profile]]:
        """The profiles: built in, and kept."""
        return (yield from self._document(list[Profile], Request("GET", "/profiles")))

    @operation
    def add_profile(self, document: Mapping[str, Any]) -> Steps[Profile]:
        """Has the server keep a profile, from its document."""
        return (yield from self._keep_profile(document))

    # Jobs

    @operation
    def has_input(self, sha256: str) -> Steps[bool]:
        """Whether the server has the bytes with this SHA-256, and will for an hour."""
        return (yield from self._has_input(sha256))

    @operation
    def upload(self, source: Source) -> Steps[str]:
        """Sends bytes that a later request names, if they are new; returns their SHA-256."""
        return (yield from self._upload(source))

    @operation
    def submit(self, submission: Submission) -> Steps[str]:
        """Uploads the files and submits the job; returns its id.

        It is submitted once, even if the connection is lost meanwhile: it has a key of its own.
        """
        inputs = []
        for name, path in submission.files.items():
            inputs.append({"name": name, "sha256": (yield from self._upload(path))})
        body = {"name": submission.name, "inputs": inputs, **submission.options}
        key = {"Idempotency-Key": f'"{uuid.uuid4()}"'}
        request = Request("POST", "/jobs", json=body, headers=key, repeats=True)
        job = yield from self._document(JobSummary, request)
        return job["id"]

    @operation
    def jobs(self, limit: int = 50, offset: int = 0) -> Steps[list[JobSummary]]:
        """The newest jobs."""
        found = yield from self._document(
            dict[str, Any], Request("GET", "/jobs", {"limit": limit, "offset": offset})
        )
        return cast("list[JobSummary]", found["jobs"])

    @operation
    def job(self, job_id: str) -> Steps[JobSummary]:
        """A job without its items."""
        found = yield from self._document(
            dict[str, Any], Request("GET", _job(job_id), {"limit": 0})
        )
        del found["items"]
        return cast("JobSummary", found)

    @operation
    def items(self, job_id: str, limit: int = 1000, offset: int = 0) -> Steps[list[JobItem]]:
        """Some items of a job."""
        query = {"limit": limit, "offset": offset}
        found = yield from self._document(dict[str, Any], Request("GET", _job(job_id), query))
        return cast("list[JobItem]", found["items"])

    @operation
    def results(self, job_id: str) -> Steps[list[JobItem]]:
        """All items of a job, with what came of them."""
        found = yield from self._document(
            dict[str, Any], Request("GET", f"{_job(job_id)}/results.json")
        )
        return cast("list[JobItem]", found["items"])

    @operation
    def job_opportunities(self, job_id: str) -> Steps[Rows]:
        """What kernels could take to make a job's plans cheaper, ranked by their options."""
        request = Request("GET", f"{_job(job_id)}/opportunities")
        return (yield from self._document(Rows, request))

    @operation
    def file(self, job_id: str, kind: Literal["csv", "json"]) -> Steps[bytes]:
        """The results of a job as the bytes of a file."""
        return (yield from self._ask(Request("GET", f"{_job(job_id)}/results.{kind}"))).content

    @operation
    def cancel(self, job_id: str) -> Steps[int]:
        """Cancels a job; returns how many tasks that stops."""
        changed = yield from self._document(
            dict[str, Any], Request("POST", f"{_job(job_id)}/cancel", repeats=True)
        )
        return cast("int", changed["tasks"])

    @operation
    def retry(self, job_id: str) -> Steps[int]:
        """Queues again what failed or was cancelled of a job; returns how many tasks."""
        changed = yield from self._document(
            dict[str, Any], Request("POST", f"{_job(job_id)}/retry")
        )
        return cast("int", changed["tasks"])

    @operation
    def delete_job(self, job_id: str) -> Steps[None]:
        """Forgets a job; its plans stay."""
        yield from self._ask(Request("DELETE", _job(job_id)))

    @operation
    def workers(self) -> Steps[list[WorkerSummary]]:
        """The workers that are alive."""
        return (yield from self._document(list[WorkerSummary], Request("GET", "/workers")))

    # Devices

    @operation
    def devices(self) -> Steps[list[DeviceSummary]]:
        """Every device."""
        found = yield from self._document(dict[str, Any], Request("GET", "/devices"))
        return cast("list[DeviceSummary]", found["devices"])

    @operation
    def add_device(self, name: str, **device: Unpack[DeviceRequest]) -> Steps[DeviceSummary]:
        """Adds a device; the same again changes nothing."""
        request = Request("POST", "/devices", json={"name": name, **device}, repeats=True)
        return (yield from self._document(DeviceSummary, request))

    @operation
    def device(self, name: str) -> Steps[DeviceSummary | None]:
        """A device; None where there is none."""
        answer = yield from self._ask(Request("GET", _device(name), absent=_NONE))
        return None if answer.status_code in _NONE else _read(DeviceSummary, answer)

    @operation
    def delete_device(self, name: str) -> Steps[None]:
        """Deletes a device with its runs; the plans for it stay."""
        yield from self._ask(Request("DELETE", _device(name)))

    @operation
    def avoid(self, name: str) -> Steps[Rows]:
        """The avoid list of a device."""
        return (yield from self._document(Rows, Request("GET", f"{_device(name)}/avoid")))

    @operation
    def replace_avoid(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Steps[Rows]:
        """Gives a device another avoid list; returns it."""
        request = Request("PUT", f"{_device(name)}/avoid", json=list(rows))
        return (yield from self._document(Rows, request))

    @operation
    def add_avoid(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Steps[Rows]:
        """Adds to a device's avoid list what is not there yet; returns all of it."""
        request = Request("POST", f"{_device(name)}/avoid", json=list(rows), repeats=True)
        return (yield from self._document(Rows, request))

    @operation
    def runs(self, name: str, limit: int = 100, offset: int = 0) -> Steps[list[RunSummary]]:
        """The runs of a device, the newest first."""
        query = {"limit": limit, "offset": offset}
        return (
            yield from self._document(
                list[RunSummary], Request("GET", f"{_device(name)}/runs", query)
            )
        )

    @operation
    def add_run(
        self,
        name: str,
        etdump: Source,
        program: Source,
        etdump_name: str | None = None,
        program_name: str | None = None,
    ) -> Steps[tuple[RunSummary, bool]]:
        """Adds a run to a device; returns it, and whether it is new there.

        The program may be without its constants.
        """
        run = {
            "etdump": {
                "name": etdump_name or _name_of(etdump) or "run.etdump",
                "sha256": (yield from self._upload(etdump)),
            },
            "program": {
                "name": program_name or _name_of(program) or "program.pte",
                "sha256": (yield from self._upload(program)),
            },
        }
        request = Request("POST", f"{_device(name)}/runs", json=run, repeats=True, is_long=True)
        answer = yield from self._ask(request)
        return _read(RunSummary, answer), answer.status_code == httpx.codes.CREATED

    @operation
    def delete_run(self, name: str, run_id: str) -> Steps[None]:
        """Deletes a run of a device: what it taught is forgotten."""
        yield from self._ask(Request("DELETE", f"{_device(name)}/runs/{quote(run_id, '')}"))

    @operation
    def fit(self, name: str) -> Steps[DeviceFit]:
        """How well a device is known."""
        request = Request("GET", f"{_device(name)}/fit", is_long=True)
        return (yield from self._document(DeviceFit, request))

    @operation
    def device_file(self, name: str) -> Steps[bytes | None]:
        """All that is known of a device, as the bytes of its file; None where it has no runs."""
        request = Request("GET", f"{_device(name)}/device.json", absent=_UNKNOWN)
        return _content((yield from self._ask(request)))

    @operation
    def tunings(self, name: str) -> Steps[list[TuningSummary]]:
        """The newest tunings on a device."""
        return (
            yield from self._document(
                list[TuningSummary], Request("GET", f"{_device(name)}/tunings")
            )
        )

    @operation
    def begin_tuning(self, name: str, program: str) -> Steps[str]:
        """Begins to tell of a tuning on a device; returns its id."""
        request = Request("POST", f"{_device(name)}/tunings", json={"program": program})
        return cast("str", (yield from self._document(dict[str, Any], request))["id"])

    @operation
    def tuning(self, name: str, tuning_id: str) -> Steps[TuningDetail | None]:
        """A tuning; None where there is none."""
        request = Request("GET", _tuning(name, tuning_id), absent=_NONE)
        answer = yield from self._ask(request)
        return None if answer.status_code in _NONE else _read(TuningDetail, answer)

    @operation
    def tell_tuning(self, name: str, tuning_id: str, progress: TuningProgress) -> Steps[None]:
        """Tells how a tuning goes."""
        yield from self._ask(Request("PUT", _tuning(name, tuning_id), json=progress))

    # Calibrations: what a page does in a browser

    @operation
    def calibration_link(self, device: str) -> Steps[LinkDocument]:
        """An address, and a QR code of it, that calibrates a device in its browser."""
        request = Request("POST", f"{_CALIBRATIONS}/links", json={"device": device}, repeats=True)
        return (yield from self._document(LinkDocument, request))

    @operation
    def sweep(self, name: str) -> Steps[SweepDocument]:
        """What a calibration measures."""
        return (yield from self._document(SweepDocument, Request("GET", _sweep(name))))

    @operation
    def sweep_shape(self, name: str, number: int) -> Steps[dict[str, Any]]:
        """What is measured of a shape of a sweep: tensors, shaders and their bindings."""
        request = Request("GET", f"{_sweep(name)}/{number}")
        return (yield from self._document(dict[str, Any], request))

    @operation
    def begin_calibration(self, device: str, sweep: str) -> Steps[CalibrationBegun]:
        """Begins a calibration of a device; nothing of it is kept."""
        wanted = {"device": device, "sweep": sweep}
        request = Request("POST", _CALIBRATIONS, json=wanted, repeats=True)
        return (yield from self._document(CalibrationBegun, request))

    @operation
    def check_samples(self, samples: Mapping[str, Any]) -> Steps[ReplaysWanted]:
        """Hands in what was measured, and asks what to measure again."""
        path = f"{_CALIBRATIONS}/samples"
        request = Request("POST", path, json=dict(samples), repeats=True, is_long=True)
        return (yield from self._document(ReplaysWanted, request))

    @operation
    def keep_samples(self, samples: Mapping[str, Any]) -> Steps[CalibratedDevice]:
        """Hands in what was measured, also again, and has a profile made of it."""
        path = f"{_CALIBRATIONS}/profiles"
        request = Request("POST", path, json=dict(samples), repeats=True, is_long=True)
        return (yield from self._document(CalibratedDevice, request))

    # The service

    @operation
    def health(self) -> Steps[Health]:
        """That the service runs, and its version."""
        return (yield from self._document(Health, Request("GET", "/health")))

    @operation
    def readiness(self) -> Steps[Readiness]:
        """Whether the service can do its work."""
        busy = frozenset((httpx.codes.SERVICE_UNAVAILABLE,))
        return _read(Readiness, (yield from self._ask(Request("GET", "/readyz", absent=busy))))

    @operation
    def metrics(self) -> Steps[str]:
        """Figures in Prometheus's text format."""
        return (yield from self._ask(Request("GET", "/metrics"))).text

    @operation
    def problem_kind(self, name: str) -> Steps[ProblemKindDetails]:
        """What a kind of problem is: ``name`` is the last part of a problem's ``type``."""
        request = Request("GET", f"/problems/{quote(name, safe='')}")
        return (yield from self._document(ProblemKindDetails, request))

    # Steps that several of these take

    def _ask(self, request: Request) -> Steps[httpx.Response]:
        answer = yield from self.link.answer(request)
        return answer if answer.status_code in request.absent else checked(answer)

    def _document(self, kind: type[T], request: Request) -> Steps[T]:
        return _read(kind, (yield from self._ask(request)))

    def _keep_profile(self, document: Mapping[str, Any]) -> Steps[Profile]:
        request = Request("POST", "/profiles", json=dict(document), repeats=True)
        return (yield from self._document(Profile, request))

    def _has_input(self, sha256: str) -> Steps[bool]:
        # A server of an earlier release does not know this question.
        absent = frozenset((404, 405))
        answer = yield from self._ask(Request("HEAD", f"/inputs/{sha256}", absent=absent))
        return answer.is_success

    def _upload(self, source: Source, on_stage: OnStage | None = None) -> Steps[str]:
        sha256: str = yield Digest(source)
        if not (yield from self._has_input(sha256)):
            if on_stage is not None:
                on_stage("sending the program")
            request = Request("POST", "/inputs", content=source, repeats=True)
            kept = yield from self._document(UploadedInput, request)
            if kept["sha256"] != sha256:
                raise InputError(f"{source!s} changed while it was sent: try again")
        return sha256

    def _plan(
        self,
        source: Source,
        query: PlanQuery,
        headers: Mapping[str, str],
        on_stage: OnStage | None = None,
    ) -> Steps[ServerPlan | JobSummary]:
        name = query.get("name", _name_of(source))
        sha256 = yield from self._upload(source, on_stage)
        params = {**query, "name": name, "input": sha256}
        request = Request("POST", "/plan", params, headers=headers, repeats=True, is_long=True)
        answer = yield from self._ask(request)
        if answer.status_code == httpx.codes.ACCEPTED:
            return _read(JobSummary, answer)
        return ServerPlan(answer.headers["location"].rpartition("/")[2], answer.content)


def _name_of(source: Source) -> str | None:
    return source.name if isinstance(source, Path) else None


def _plan(plan_id: str) -> str:
    return f"/plans/{quote(plan_id, '')}"


def _job(job_id: str) -> str:
    return f"/jobs/{quote(job_id, '')}"


def _device(name: str) -> str:
    return f"/devices/{quote(name, '')}"


def _sweep(name: str) -> str:
    return f"{_CALIBRATIONS}/sweeps/{quote(name, '')}"


def _tuning(name: str, tuning_id: str) -> str:
    return f"{_device(name)}/tunings/{quote(tuning_id, '')}"


def _content(answer: httpx.Response) -> bytes | None:
    return answer.content if answer.is_success else None


def _read(kind: type[T], answer: httpx.Response) -> T:
    """What an answer has, which is taken to be of a kind."""
    try:
        return cast("T", answer.json())
    except ValueError:
        raise OptionError(
            f"{answer.url.copy_with(path='/', query=None)} does not answer as a server of plans "
            "does: is it a Layout Planner?"
        ) from None
