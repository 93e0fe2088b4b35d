"""The pages, and the documents that their scripts read."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import StrictUndefined
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from api.dashboard.graph import GraphView, read_views
from api.dashboard.headers import HEADERS
from api.dashboard.query import OBJECTIVES, PAGE_SIZES, STATUSES, CalibrateQuery, OverviewQuery
from api.dashboard.text import age_text, cost_text, gain_text, ratio_text
from api.dashboard.trend import Series, series_of
from api.dashboard.tunings import TuningRow
from api.dashboard.vendor import API_SCRIPT, API_STYLE, CHARTS, LIBRARIES, read_library
from api.dashboard.views import Views
from api.store.devices import DeviceStore, DeviceSummary, UnknownDeviceError
from api.store.plans import PlanStore
from api.store.tables import Plan
from gpu.probes import SWEEPS
from planner.compare.plans import DelegateChange, compare_plans
from planner.costs.profile_file import builtin_names, load_profile
from planner.errors import InputError
from planner.ir.representation import FLOAT_LAYOUTS, QUANTIZED_LAYOUTS, short_name
from planner.kernels.releases import RELEASES, TARGET_NAMES
from planner.options import COMPILE_OPTIONS
from planner.result.explanation import read_explanation
from planner.result.opportunities import read_opportunities
from planner.result.outline import read_outlines
from planner.result.report import read_report
from planner.tuning.result import BASELINE

_HERE: Final = Path(__file__).parent
_IMMUTABLE: Final = "public, max-age=31536000, immutable"
# The id is a digest of what was planned, but it can be deleted, and drawn otherwise by a release.
_KEPT: Final = "private, max-age=300"

_MOST_OTHERS: Final = 50
_MOST_ROWS: Final = 200

# Columns of the overview that it can be sorted by; figures are sorted largest first at first.
_HEADINGS: Final = {
    "name": "Model",
    "repack_cost": "After",
    "saved_cost": "Saved",
    "ratio": "Ratio",
    "created": "Made",
}

_templates = Jinja2Templates(_HERE / "templates")
_templates.env.undefined = StrictUndefined
_templates.env.filters |= {
    "cost": cost_text,
    "ratio": ratio_text,
    "age": age_text,
    "gain": gain_text,
    "query": lambda parameters: "?" + urlencode(parameters),
    # A name as one part of a path: the router puts it there as it is.
    "part": lambda name: quote(name, safe=""),
}
static_files = StaticFiles(directory=_HERE / "static")
router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Shown:
    """What the pages of an app show: the plans of a store, and their graphs once drawn."""

    store: Callable[[], PlanStore]
    views: Views = field(default_factory=Views)


def _shown(request: Request) -> Shown:
    shown: Shown = request.app.state.dashboard
    return shown


def _store(request: Request) -> PlanStore:
    return _shown(request).store()


Store = Annotated[PlanStore, Depends(_store)]


def _find(store: Store, plan_id: str) -> Plan:
    found = store.get(plan_id)
    if found is None:
        raise HTTPException(404, f"there is no plan {plan_id!r}: it may have been deleted")
    return found


Found = Annotated[Plan, Depends(_find)]


@router.get("/", response_class=HTMLResponse)
def overview(request: Request, store: Store, query: Annotated[OverviewQuery, Query()]) -> Response:
    """Every plan: a table that is searched, filtered, sorted and paged by the address alone."""
    which = query.filter()
    page = store.page(
        which,
        query.sort,
        descending=query.order == "desc",
        limit=query.size,
        offset=(query.page - 1) * query.size,
    )
    context = {
        "query": query,
        "plans": page.plans,
        "total": page.total,
        "totals": store.totals(which),
        "pages": max(1, -(-page.total // query.size)),
        "choices": {
            "profile": store.profile_names(),
            "device": store.device_names(),
            "objective": OBJECTIVES,
            "status": STATUSES,
        },
        "headings": _HEADINGS,
        "page_sizes": PAGE_SIZES,
    }
    return _templates.TemplateResponse(request, "overview.html", context)


@router.get("/view/{plan_id}", response_class=HTMLResponse)
def plan_page(request: Request, store: Store, plan: Found) -> Response:
    """A plan: its figures, its graph before and after, and what each transition costs."""
    document = json.loads(store.path(plan.report_sha256).read_bytes())
    report = read_report(document)
    explanation, opportunities = document.get("explanation"), document.get("opportunities")
    tradeoffs = document.get("tradeoffs")
    delegates = report.delegates
    # The first of the largest, not the last: a plan's order is the program's.
    largest = max(range(len(delegates)), key=lambda n: delegates[n].operators, default=0)
    history = store.history(plan.source_name, _MOST_OTHERS)
    context = {
        "plan": plan,
        "report": report,
        "explanation": explanation and read_explanation(explanation),
        "opportunities": opportunities and read_opportunities(opportunities),
        "tradeoffs": tradeoffs and read_outlines(tradeoffs),
        "most": _MOST_ROWS,
        "largest": largest,
        "charts": CHARTS,
        # Plans for a device stay when it is deleted.
        "has_device": plan.device is not None and _has_device(store, plan.device),
        "others": [other for other in reversed(history) if other.id != plan.id],
    }
    return _templates.TemplateResponse(request, "plan.html", context)


def _has_device(store: PlanStore, name: str) -> bool:
    try:
        DeviceStore(store).get(name)
    except UnknownDeviceError:
        return False
    return True


@router.get("/compare", response_class=HTMLResponse)
def compare_page(request: Request, store: Store, a: str, b: str) -> Response:
    """Two plans: their figures side by side, and what differs in their graphs."""
    first, second = _find(store, a), _find(store, b)
    delegates: Sequence[DelegateChange] = ()
    problem = ""
    try:
        graphs = [store.path(plan.graph_sha256).read_bytes() for plan in (first, second)]
        delegates = compare_plans(*graphs)
    except InputError as error:
        problem = str(error)
    context = {"a": first, "b": second, "delegates": delegates, "problem": problem}
    return _templates.TemplateResponse(request, "compare.html", context | {"most": _MOST_ROWS})


# The rest is on in ExecuTorch unless it is turned off.
_COMPILE_OPTIONS: Final = tuple(name for name in COMPILE_OPTIONS if name != "downcast_64_bit")


@router.get("/upload", response_class=HTMLResponse)
def upload_page(
    request: Request, store: Store, device: Annotated[str, Query(max_length=100)] = ""
) -> Response:
    """A form to plan a program with, by drag and drop or not; for a device, if it is named."""
    profiles = {name: load_profile(name).description for name in builtin_names()}
    layouts = {layout.name: short_name(layout) for layout in FLOAT_LAYOUTS + QUANTIZED_LAYOUTS}
    context = {
        "profiles": profiles,
        "devices": DeviceStore(store).all(),
        "chosen": device,
        "objectives": OBJECTIVES,
        "layouts": layouts,
        "releases": RELEASES,
        "targets": TARGET_NAMES,
        "compile_options": _COMPILE_OPTIONS,
    }
    return _templates.TemplateResponse(request, "upload.html", context)


@router.get("/job", response_class=HTMLResponse)
def jobs_page(request: Request) -> Response:
    """The jobs: its script reads them."""
    return _templates.TemplateResponse(request, "jobs.html")


@router.get("/job/{job_id}", response_class=HTMLResponse)
def job_page(request: Request, job_id: str) -> Response:
    """A job: live progress, and its results as a matrix of models and options."""
    if re.fullmatch(r"[0-9a-f]{32}", job_id) is None:
        raise HTTPException(404, f"there is no job {job_id!r}")
    return _templates.TemplateResponse(request, "job.html", {"job_id": job_id})


def _devices(store: Store) -> DeviceStore:
    return DeviceStore(store)


Devices = Annotated[DeviceStore, Depends(_devices)]


def _find_device(devices: Devices, name: str) -> DeviceSummary:
    return devices.get(name)


FoundDevice = Annotated[DeviceSummary, Depends(_find_device)]


@router.get("/device", response_class=HTMLResponse)
def devices_page(request: Request, devices: Devices) -> Response:
    """The devices, and a form to add one."""
    return _templates.TemplateResponse(request, "devices.html", {"devices": devices.all()})


@router.get("/calibrate", response_class=HTMLResponse)
def calibrate_page(request: Request, query: Annotated[CalibrateQuery, Query()]) -> Response:
    """Calibrates the device that looks at it; its scripts run the sweep through WebGPU."""
    context = {
        "device": query.device,
        "linked": query.link is not None,
        "chosen": query.sweep,
        "timing": query.timing,
        "sweeps": SWEEPS.values(),
        "repeats": query.batches,
        "charts": CHARTS,
    }
    return _templates.TemplateResponse(request, "calibrate.html", context)


@router.get("/device/{name}", response_class=HTMLResponse)
def device_page(request: Request, devices: Devices, found: FoundDevice) -> Response:
    """A device: what it is, how well it is known, its runs and tunings."""
    name = found.device.name
    context = {
        "device": found.device,
        "kept": found,
        "charts": CHARTS,
        "runs": devices.runs(name),
        "tunings": [TuningRow.of(tuning) for tuning in devices.tunings(name)],
    }
    return _templates.TemplateResponse(request, "device.html", context)


@router.get("/device/{name}/tuning/{tuning_id}", response_class=HTMLResponse)
def tuning_page(request: Request, devices: Devices, found: FoundDevice, tuning_id: str) -> Response:
    """A tuning: its script follows it until it ends."""
    name = found.device.name
    tuning = devices.tuning(name, tuning_id)
    if tuning is None:
        raise HTTPException(404, f"device {name!r} has no tuning {tuning_id!r}")
    context = {"device": name, "tuning": tuning, "baseline": BASELINE, "charts": CHARTS}
    return _templates.TemplateResponse(request, "tuning.html", context)


@router.get("/docs", response_class=HTMLResponse)
def docs_page(request: Request) -> Response:
    """The service's requests, from its own description, to read and to try."""
    context = {"document": request.app.openapi(), "script": API_SCRIPT, "style": API_STYLE}
    return _templates.TemplateResponse(request, "docs.html", context)


def error_page(request: Request, status: int, detail: str, request_id: str | None) -> Response:
    """What went wrong, as a page for those who look with a browser."""
    context = {"status": status, "detail": detail, "request_id": request_id}
    # Some errors are answered beyond the middleware that adds the headers to all others.
    return _templates.TemplateResponse(request, "error.html", context, status, HEADERS)


@router.get("/plans/{plan_id}/view")
def plan_view(request: Request, store: Store, plan: Found, delegate: int = 0) -> Response:
    """Operators with their places, tensors, and both sides' representations and transitions."""
    documents = _shown(request).views.get(plan.id, lambda: _draw(store, plan))
    if not 0 <= delegate < len(documents):
        raise HTTPException(404, f"plan {plan.id!r} has no delegate {delegate}")
    return _compressed(request, documents[delegate], "application/json", {"Cache-Control": _KEPT})


def _draw(store: PlanStore, plan: Plan) -> Sequence[GraphView]:
    return read_views(store.path(plan.graph_sha256).read_bytes())


@router.get("/trend")
def trend(store: Store, model: Annotated[str, Query(max_length=1000)]) -> Sequence[Series]:
    """A model's plans over time: a series for each way in which it was planned."""
    return series_of(store.history(model))


@router.get("/static/vendor/{name:path}")
def vendor(request: Request, name: str) -> Response:
    """A library's file, compressed where the browser takes that."""
    if name not in LIBRARIES:
        raise HTTPException(404, f"no library is called {name!r}")
    library = read_library(name)
    headers = {"ETag": f'"{library.sha256}"', "Cache-Control": _IMMUTABLE}
    media_type = "text/css" if name.endswith(".css") else "text/javascript"
    return _compressed(request, library.gzipped, media_type, headers)


def _compressed(
    request: Request, gzipped: bytes, media_type: str, headers: dict[str, str]
) -> Response:
    """Bytes that are kept compressed, for a browser that takes them so, and for others."""
    headers = {**headers, "Vary": "Accept-Encoding"}
    if re.search(r"\bgzip\b", request.headers.get("accept-encoding", "")):
        headers["Content-Encoding"] = "gzip"
        return Response(gzipped, media_type=media_type, headers=headers)
    return Response(gzip.decompress(gzipped), media_type=media_type, headers=headers)
