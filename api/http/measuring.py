"""The service behind the requests about devices: reads runs, and judges devices once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from starlette.concurrency import run_in_threadpool

from api.http.device_models import UploadedFile
from api.http.queue import Queue
from api.http.service import PlanningPool
from api.http.uploads import Uploads
from api.planning.measuring import JudgeDevice, ReadRun
from api.store.devices import DeviceStore, KnownDevice, MeasuredFiles
from api.store.plans import PlanStore
from api.store.room import needs_room
from api.store.tables import DeviceRun
from planner.errors import OptionError
from planner.measured.device import read_run

_MOST_PROGRAMS: Final = 4
"""Programs of a device, the newest, that its fit says what to measure next of."""


class DeviceService:
    """The devices of a server: what takes long is done in its planning processes."""

    def __init__(
        self, store: PlanStore, pool: PlanningPool, uploads: Uploads, queue: Queue
    ) -> None:
        self.store, self.devices = store, DeviceStore(store)
        self._pool, self._uploads, self._queue = pool, uploads, queue
        self._fitting: dict[str, asyncio.Task[bytes]] = {}

    async def add_run(
        self, name: str, etdump: UploadedFile, program: UploadedFile
    ) -> tuple[DeviceRun, bool]:
        """Reads a run whose files were uploaded, and keeps it; False if it was there already.

        Raises ``OptionError`` for a file that was not uploaded, ``InputError`` for a damaged one.
        """
        device = (await run_in_threadpool(self.devices.get, name)).device
        paths = [await run_in_threadpool(self._uploaded, each) for each in (etdump, program)]
        with needs_room("the run"), self._uploads.folder() as folder:
            bare, output = folder.path / "program", folder.path / "run"
            work = ReadRun(paths[0], etdump.name, paths[1], program.name, bare, output)
            with self._queue.place():
                await self._pool.run(work)
            record = read_run(json.loads(output.read_bytes()), device.name, device.driver)
            files = MeasuredFiles(record, program.name, paths[0], bare)
            return await run_in_threadpool(self.devices.add_run, name, files)

    def _uploaded(self, file: UploadedFile) -> Path:
        try:
            return self.store.renew(file.sha256)  # no sweep takes it while it is read
        except FileNotFoundError:
            raise OptionError(
                f"the file {file.name} has not been uploaded: POST its bytes to /inputs first"
            ) from None

    async def fit(self, name: str) -> bytes:
        """How well a device is known, as a JSON document; computed once for what is known now."""
        known = await run_in_threadpool(self.devices.known, name)
        found = await run_in_threadpool(self.devices.fit, known.sha256)
        if found is not None:
            return found
        if known.sha256 not in self._fitting:
            task = asyncio.create_task(self._judge(known))
            task.add_done_callback(lambda _: self._fitting.pop(known.sha256, None))
            self._fitting[known.sha256] = task
        return await asyncio.shield(self._fitting[known.sha256])

    async def close(self) -> None:
        """Returns once nothing is judged any more; the pool has to be stopped before."""
        await asyncio.gather(*self._fitting.values(), return_exceptions=True)

    async def _judge(self, known: KnownDevice) -> bytes:
        name = known.device.name
        runs = await run_in_threadpool(self.devices.runs, name)
        programs = tuple(self._newest(runs))
        with needs_room("what is known"), self._uploads.folder() as folder:
            output = folder.path / "fit"
            with self._queue.place():
                await self._pool.run(JudgeDevice(known.path, name, programs, output))
            document = json.loads(output.read_bytes())
        by_files = {(run.etdump_sha256, run.program_sha256): run for run in runs}
        for each in document["runs"]:
            run = by_files.get((each["etdump_sha256"], each["graph_sha256"]))
            each["id"] = None if run is None else run.id
            each["program"] = "" if run is None else run.program_name
            each["created"] = None if run is None else run.created.isoformat()
        fit = json.dumps(document).encode()
        await run_in_threadpool(self.devices.keep_fit, known.sha256, fit)
        return fit

    def _newest(self, runs: list[DeviceRun]) -> Iterator[tuple[str, Path]]:
        """The newest program of each name, of the names that ran last."""
        seen: dict[str, DeviceRun] = {}
        for run in runs:
            seen.setdefault(run.program_name, run)
        for name, run in list(seen.items())[:_MOST_PROGRAMS]:
            yield name, self.store.path(run.program_sha256)
