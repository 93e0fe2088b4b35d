"""Requests about calibrations of devices in a browser."""

from __future__ import annotations

import base64
import gzip
import io
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Final, TypeVar
from urllib.parse import urlencode

import fastapi
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from api.http.access import LINK, LINKED
from api.http.calibrating import CalibrationService
from api.http.calibration_models import (
    CalibratedDevice,
    CalibrationBegun,
    CalibrationRequest,
    LinkDocument,
    LinkRequest,
    ProfileRequest,
    ReplaysWanted,
    SamplesRequest,
    ShapeDocument,
    SweepDocument,
)
from api.http.callers import Callers
from api.http.problem_kinds import ProblemKind
from api.http.problems import ProblemError, problems
from gpu.probes import SWEEPS, Shape, SweepName

Asked = TypeVar("Asked", bound=BaseModel)
Answered = TypeVar("Answered")

_LINK_SECONDS: Final = 3600
_REFUSED: Final = "The samples cannot be believed, or are none."
_OTHER: Final = "The link is for another device."


async def _service(request: Request) -> CalibrationService:
    service: CalibrationService = request.app.state.calibrations
    return service


Service = Annotated[CalibrationService, Depends(_service)]
Sweeps = Annotated[SweepName, fastapi.Path(description="How much is measured.")]

router = APIRouter(prefix="/calibrations", tags=["calibrations"])


@router.get("/sweeps/{sweep}", summary="Read what a calibration measures")
def get_sweep(service: Service, sweep: Sweeps) -> SweepDocument:
    """The shapes of a sweep, and the WGSL that all of its shaders share."""
    return service.sweep(sweep)


@router.get(
    "/sweeps/{sweep}/{number}",
    summary="Read what is measured of a shape",
    response_model=ShapeDocument,
    responses=problems(status_404="The sweep has no such shape."),
)
def get_shape(
    request: Request,
    sweep: Sweeps,
    number: Annotated[int, fastapi.Path(ge=0, lt=1000, description="The shape's number.")],
) -> Response:
    """A shape's tensors and probes: shaders, their bindings, and what they move."""
    shapes = SWEEPS[sweep].shapes
    if number >= len(shapes):
        raise ProblemError(ProblemKind.NOT_FOUND, f"sweep {sweep} has {len(shapes)} shapes")
    compressed = _shape(shapes[number])
    headers = {"Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(compressed, media_type="application/json", headers=headers)
    return Response(gzip.decompress(compressed), media_type="application/json", headers=headers)


@lru_cache(maxsize=64)
def _shape(shape: Shape) -> bytes:
    return gzip.compress(ShapeDocument.of(shape).model_dump_json().encode(), 6)


@router.post("/links", summary="Make a link that calibrates a device")
def post_link(request: Request, service: Service, wanted: LinkRequest) -> LinkDocument:
    """An address, and a QR code of it, that opens the page on another device.

    Where the service wants tokens, the address lets whoever has it calibrate this one device for
    an hour, and do nothing else.
    """
    query = {"device": wanted.device}
    if service.needs_links:
        query["link"] = service.signer.sign(LINK, query, _LINK_SECONDS)
    # A browser knows whether a proxy before the service speaks https.
    origin = request.headers.get("origin") or str(request.base_url).rstrip("/")
    url = f"{origin}/calibrate?{urlencode(query)}"
    seconds = _LINK_SECONDS if service.needs_links else None
    return LinkDocument(url=url, qr=_qr(url), seconds=seconds)


def _qr(url: str) -> str:
    import segno

    image = io.BytesIO()
    segno.make(url, micro=False, error="l").save(image, kind="svg", scale=4, border=4, light="#fff")
    return f"data:image/svg+xml;base64,{base64.b64encode(image.getvalue()).decode()}"


@router.post(
    "",
    summary="Begin a calibration",
    responses=problems(status_403=_OTHER, status_409="The device ships with the planner."),
)
def post_calibration(
    request: Request, service: Service, wanted: CalibrationRequest
) -> CalibrationBegun:
    """Draws the seed of what tensors are filled with. Nothing is kept."""
    _check_linked(request, wanted.device)
    service.devices.check_changeable(wanted.device)
    return service.begin(wanted)


@router.post(
    "/samples",
    summary="Hand in what was measured",
    responses=problems(status_403=_OTHER, status_422=_REFUSED),
)
async def post_samples(
    request: Request, service: Service, samples: SamplesRequest
) -> ReplaysWanted:
    """Checks samples, and says what to measure again before they are taken. Nothing is kept."""
    return await _judged(request, service, service.judge, samples)


@router.post(
    "/profiles",
    summary="Make a device's profile of what was measured",
    status_code=201,
    responses=problems(
        status_403=_OTHER, status_409="The device ships with the planner.", status_422=_REFUSED
    ),
)
async def post_calibrated(
    request: Request, service: Service, profile: ProfileRequest
) -> CalibratedDevice:
    """Checks the samples once more, and what was measured again; keeps the profile alone.

    The device is added if it is not there; the profile takes the place of an earlier one.
    """
    return await _judged(request, service, service.keep, profile)


async def _judged(
    request: Request,
    service: CalibrationService,
    judge: Callable[[Asked], Answered],
    samples: Asked,
) -> Answered:
    """What judging samples gives, which counts as a plan that is made: it takes seconds."""
    assert isinstance(samples, SamplesRequest)
    _check_linked(request, service.device_of(samples))
    callers: Callers = request.app.state.callers
    with callers.working(request), request.app.state.queue.place():
        return await run_in_threadpool(judge, samples)


def _check_linked(request: Request, device: str) -> None:
    """Raises ``ProblemError`` where who asks has a link, and it is for another device."""
    linked = request.scope.get(LINKED)
    if linked is not None and linked != device:
        raise ProblemError(
            ProblemKind.SCOPE_TOO_SMALL, f"this link is for the device {linked!r} alone"
        )
