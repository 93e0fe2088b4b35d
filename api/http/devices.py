"""Requests about devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import fastapi
from fastapi import APIRouter, Body, Depends, Query, Request, Response
from fastapi.responses import FileResponse

from api.http.callers import Callers
from api.http.device_models import (
    EXAMPLE_DEVICE,
    DeviceFit,
    DeviceList,
    DeviceRequest,
    DeviceSummary,
    RunRequest,
    RunSummary,
    TuningBegun,
    TuningDetail,
    TuningProgress,
    TuningRequest,
    TuningSummary,
)
from api.http.measuring import DeviceService
from api.http.problem_kinds import ProblemKind
from api.http.problems import ProblemError, problems
from api.http.queue import while_waited_for


async def _service(request: Request) -> DeviceService:
    service: DeviceService = request.app.state.devices
    return service


Service = Annotated[DeviceService, Depends(_service)]
Name = Annotated[str, fastapi.Path(description="The name of a device.", examples=[EXAMPLE_DEVICE])]
RunId = Annotated[str, fastapi.Path(description="The id of a run.")]
TuningId = Annotated[str, fastapi.Path(description="The id of a tuning.")]

_NONE: Final = problems(status_404="There is no such device.")
_FIXED: Final = problems(
    status_404="There is no such device.",
    status_409="The device ships with the planner and cannot be changed.",
)

router = APIRouter(prefix="/devices", tags=["devices"])


@router.get("", summary="List the devices")
def get_devices(service: Service) -> DeviceList:
    """All devices by name; those that ship with the planner come last."""
    return DeviceList(devices=[DeviceSummary.of(each) for each in service.devices.all()])


@router.post(
    "",
    summary="Add a device",
    status_code=201,
    responses={
        200: {"model": DeviceSummary, "description": "The device was there already, as given."},
        **problems(
            status_409="There is another device of this name.",
            status_422="A field is wrong, or a row of the avoid list.",
        ),
    },
)
def post_device(service: Service, device: DeviceRequest, response: Response) -> DeviceSummary:
    """Adds a device without runs. The same again changes nothing."""
    if not service.devices.add(device.device()):
        response.status_code = 200
    response.headers["Location"] = f"/devices/{device.location()}"
    return DeviceSummary.of(service.devices.get(device.name))


@router.get("/{name}", summary="Read a device", responses=_NONE)
def get_device(service: Service, name: Name) -> DeviceSummary:
    """What a device is, what is avoided on it, and how many runs it has."""
    return DeviceSummary.of(service.devices.get(name))


@router.delete(
    "/{name}",
    summary="Delete a device",
    status_code=204,
    responses={204: {"description": "The device was deleted."}, **_FIXED},
)
def delete_device(service: Service, name: Name) -> None:
    """Deletes a device with its runs and tunings. Plans that were made for it stay."""
    service.devices.delete(name)


Rows = Annotated[
    list[dict[str, Any]],
    Body(
        description="Rows of what is wrong on the device, as `--avoid` takes them.",
        examples=[
            [
                {
                    "operators": ["aten.linear.default"],
                    "representations": ["texture:WIDTH_PACKED"],
                    "effect": "wrong values",
                    "source": "a run",
                    "state": "open",
                    "seen": "off by 0.3",
                }
            ]
        ],
    ),
]


@router.get("/{name}/avoid", summary="Read a device's avoid list", responses=_NONE)
def get_avoid(service: Service, name: Name) -> list[dict[str, Any]]:
    """The rows of what is wrong on a device, which plans for it avoid."""
    return list(service.devices.get(name).device.avoid)


@router.put(
    "/{name}/avoid",
    summary="Replace a device's avoid list",
    responses={**_FIXED, **problems(status_422="A row is wrong.")},
)
def put_avoid(service: Service, name: Name, rows: Rows) -> list[dict[str, Any]]:
    """Gives a device another avoid list."""
    return list(service.devices.avoid(name, rows, add=False).avoid)


@router.post(
    "/{name}/avoid",
    summary="Add to a device's avoid list",
    responses={**_FIXED, **problems(status_422="A row is wrong.")},
)
def post_avoid(service: Service, name: Name, rows: Rows) -> list[dict[str, Any]]:
    """Adds rows that are not there yet."""
    return list(service.devices.avoid(name, rows, add=True).avoid)


@router.get("/{name}/runs", summary="List the runs of a device", responses=_NONE)
def get_runs(
    service: Service,
    name: Name,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many runs at most.")] = 100,
    offset: Annotated[int, Query(ge=0, lt=2**63, description="How many to leave out.")] = 0,
) -> list[RunSummary]:
    """The runs, the newest first. Those of a device that ships with the planner are its fit's."""
    return [RunSummary.of(run) for run in service.devices.runs(name, limit, offset)]


@router.post(
    "/{name}/runs",
    summary="Add a run to a device",
    status_code=201,
    responses={
        200: {"model": RunSummary, "description": "The run was there already."},
        **_FIXED,
        **problems(
            status_422="A file was not uploaded, the ETDump or the program is damaged, or the "
            "ETDump is of another program.",
            status_501="ETDumps are not read here: ExecuTorch is not installed.",
        ),
    },
)
async def post_run(
    request: Request, service: Service, name: Name, run: RunRequest, response: Response
) -> RunSummary:
    """Reads an ETDump with the program that ran, both uploaded by `POST /inputs`, and keeps them.

    Of the program the graphs are kept, without constants. The same run again changes nothing.
    """
    callers: Callers = request.app.state.callers
    with callers.working(request):
        adding = service.add_run(name, run.etdump, run.program)
        kept, is_new = await while_waited_for(request, adding)
    if not is_new:
        response.status_code = 200
    return RunSummary.of(kept)


@router.delete(
    "/{name}/runs/{run_id}",
    summary="Delete a run",
    status_code=204,
    responses={204: {"description": "The run was deleted."}, **_FIXED},
)
def delete_run(service: Service, name: Name, run_id: RunId) -> None:
    """Deletes a run; what it taught is forgotten."""
    if not service.devices.delete_run(name, run_id):
        raise ProblemError(ProblemKind.NOT_FOUND, f"device {name!r} has no run {run_id!r}")


@router.get(
    "/{name}/fit",
    summary="Ask how well a device is known",
    responses={**_NONE, **problems(status_422="The device has no runs yet.")},
)
async def get_fit(service: Service, name: Name) -> DeviceFit:
    """Predicted against measured times by run, errors by operator, and what to measure next.

    Computed when it is first asked for after a change: that takes some seconds.
    """
    return DeviceFit.model_validate_json(await service.fit(name))


@router.get(
    "/{name}/device.json",
    summary="Download a device's file",
    response_class=FileResponse,
    responses={
        200: {
            "description": "All that is known of the device, for `layout-planner plan --device`.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        **_NONE,
        **problems(status_422="The device has no runs yet."),
    },
)
def get_file(service: Service, name: Name) -> FileResponse:
    """What is known of a device, as a file to plan with elsewhere."""
    return FileResponse(
        service.devices.known(name).path, media_type="application/json", filename=f"{name}.json"
    )


@router.get("/{name}/tunings", summary="List the tunings on a device", responses=_NONE)
def get_tunings(service: Service, name: Name) -> Sequence[TuningSummary]:
    """The newest tunings on a device."""
    service.devices.get(name)
    return [TuningSummary.of(tuning) for tuning in service.devices.tunings(name)]


@router.post(
    "/{name}/tunings", summary="Begin to tell of a tuning", status_code=201, responses=_FIXED
)
def post_tuning(service: Service, name: Name, tuning: TuningRequest) -> TuningBegun:
    """Takes note of a tuning that begins; its machine tells how it goes."""
    return TuningBegun(id=service.devices.begin_tuning(name, tuning.program))


@router.get("/{name}/tunings/{tuning_id}", summary="Read a tuning", responses=_NONE)
def get_tuning(service: Service, name: Name, tuning_id: TuningId) -> TuningDetail:
    """How far a tuning is: the plans that were measured, and its rounds."""
    found = service.devices.tuning(name, tuning_id)
    if found is None:
        raise ProblemError(ProblemKind.NOT_FOUND, f"device {name!r} has no tuning {tuning_id!r}")
    return TuningDetail.of(found)


@router.put(
    "/{name}/tunings/{tuning_id}",
    summary="Tell how a tuning goes",
    status_code=204,
    responses={204: {"description": "It was taken note of."}, **_NONE},
)
def put_tuning(service: Service, name: Name, tuning_id: TuningId, progress: TuningProgress) -> None:
    """Replaces what was told before."""
    if not service.devices.tell_tuning(
        name, tuning_id, progress.model_dump(exclude={"ended"}), progress.ended
    ):
        raise ProblemError(ProblemKind.NOT_FOUND, f"device {name!r} has no tuning {tuning_id!r}")
