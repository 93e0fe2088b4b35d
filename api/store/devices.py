"""Devices: what was measured on each, and what is known of it by that."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from api.store.blobs import LostBlobError
from api.store.clock import Ago
from api.store.plans import PlanStore
from api.store.tables import (
    Calibration,
    DeviceFit,
    DeviceRecord,
    DeviceRun,
    Profile,
    TuningRecord,
)
from planner.costs.profile import DeviceProfile
from planner.costs.profile_file import parse_profile
from planner.errors import OptionError
from planner.measured.database import RunRecord
from planner.measured.device import (
    Device,
    device_source,
    load_device,
    profile_of,
    read_device,
    read_run,
    shipped_devices,
    with_device,
    write_run,
)
from planner.options import PlanOptions
from planner.result.revision import PLANNER

MOST_RUNS: Final = 1000
"""Runs of a device: a planning process learns from all of them."""

_MOST_ROWS: Final = 500
"""Rows of an avoid list."""

_MOST_BYTES: Final = 16 * 2**20
"""Bytes of a device's file that is uploaded: a hundred runs take fewer."""

_SHA256: Final = re.compile("[0-9a-f]{64}")


class UnknownDeviceError(Exception):
    """There is no device of this name."""


class ConflictError(Exception):
    """What is to be made is there already, and is another."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The profile that a device was calibrated with last, and when."""

    profile: DeviceProfile
    created: datetime


@dataclass(frozen=True, slots=True)
class DeviceSummary:
    """A device, how many runs it has, when the last one came, and how it was calibrated."""

    device: Device
    runs: int
    created: datetime | None
    last_run: datetime | None
    is_shipped: bool
    calibration: Calibrated | None = None


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A device as it is known now, without its runs; these are in its file, a blob."""

    device: Device
    path: Path
    sha256: str

    def options(self, options: PlanOptions) -> PlanOptions:
        """Options for plans on it, as ``with_device``: a profile prices what was not measured.

        It is that of the options, or where that is the default the device's own. Raises
        ``OptionError`` for a profile that does not count in ns.
        """
        profile = profile_of(self.device, options.profile)
        source = device_source(self.device.name, self.path, profile)
        return with_device(options, self.device, source)


@dataclass(frozen=True, slots=True)
class MeasuredFiles:
    """A run that was read: its name, the program's name without folders, and files of both.

    ``program`` is without its constants.
    """

    record: RunRecord
    program_name: str
    etdump: Path
    program: Path


class DeviceStore:
    """Keeps devices by name. Methods raise ``UnreachableError`` and ``UnknownDeviceError``.

    Devices that ship with the planner are there, and cannot be changed.
    """

    def __init__(self, store: PlanStore) -> None:
        self._store = store
        self._database = store.database

    def all(self) -> list[DeviceSummary]:
        """Every device, by name; those that ship with the planner come last."""
        runs = func.count(DeviceRun.id), func.max(DeviceRun.created)
        query = (
            select(DeviceRecord, *runs)
            .outerjoin(DeviceRun, DeviceRun.device == DeviceRecord.name)
            .group_by(DeviceRecord.name)
            .order_by(DeviceRecord.name)
        )
        with self._database.reading() as session:
            rows = session.execute(query).all()
            calibrated = _calibrations(session)
        return [
            *(
                DeviceSummary(_device(row), n, row.created, last, False, calibrated.get(row.name))
                for row, n, last in rows
            ),
            *map(_shipped, shipped_devices()),
        ]

    def get(self, name: str) -> DeviceSummary:
        """A device."""
        if name in shipped_devices():
            return _shipped(name)
        runs = select(func.count(DeviceRun.id), func.max(DeviceRun.created))
        with self._database.reading() as session:
            record = _find(session, name)
            count, last = session.execute(runs.where(DeviceRun.device == name)).one()
            calibration = _calibrations(session, name).get(name)
        return DeviceSummary(_device(record), count, record.created, last, False, calibration)

    def add(self, device: Device) -> bool:
        """Adds a device without runs; False if it is there already, as it is given.

        Raises ``ConflictError`` if another of its name is, ``OptionError`` for wrong avoid rows.
        """
        _check_avoid(device)
        if device.name in shipped_devices():
            raise ConflictError(
                f"the device {device.name!r} ships with the planner and cannot be changed: choose "
                "another name"
            )
        row = {
            "name": device.name,
            "created": Ago(),
            "driver": device.driver,
            "gpu": device.gpu,
            "texture_limits": device.texture_limits,
            "buffer_limit": device.buffer_limit,
            "avoid": json.dumps(device.avoid),
            "changes": 0,
        }
        insert = self._database.insert(DeviceRecord).values(**row).on_conflict_do_nothing()
        with self._database.writing() as session:
            is_new = session.execute(insert.returning(DeviceRecord.name)).first() is not None
            kept = _device(session.get_one(DeviceRecord, device.name))
        if not is_new and kept != device:
            wrong = "driver" if kept.driver != device.driver else "description"
            raise ConflictError(
                f"there is a device {device.name!r} with another {wrong}: choose another name, or "
                "leave it as it is"
            )
        return is_new

    def avoid(self, name: str, rows: Sequence[dict[str, Any]], *, add: bool) -> Device:
        """Gives a device another avoid list, or adds rows to it; raises ``OptionError``."""
        with self._changing(name) as (session, record):
            kept: list[dict[str, Any]] = json.loads(record.avoid) if add else []
            kept += [row for row in rows if row not in kept]
            changed = replace(_device(record), avoid=tuple(kept))
            _check_avoid(changed)
            record.avoid = json.dumps(kept)
            _changed(session, record)
            return changed

    def delete(self, name: str) -> None:
        """Deletes a device with its runs and tunings. Plans for it stay."""
        self._store.reserve.spend(lambda: self._delete(name))

    def _delete(self, name: str) -> None:
        with self._changing(name) as (session, record):
            _changed(session, record)
            session.delete(record)

    def check_changeable(self, name: str) -> None:
        """Raises ``ConflictError`` for a device that ships with the planner."""
        if name in shipped_devices():
            raise ConflictError(f"the device {name!r} ships with the planner: add one of yours")

    def calibrate(self, name: str, profile: DeviceProfile) -> None:
        """Gives a device its profile, in the place of an earlier one; adds one that is not there.

        Raises ``ConflictError``.
        """
        self.check_changeable(name)
        with suppress(ConflictError):  # it is there, with a driver and limits: these stay
            self.add(Device(name))
        row = {"device": name, "created": Ago(), "profile_hash": profile.digest}
        with self._changing(name) as (session, device):
            self._store.keep_profile(session, profile)
            kept = self._database.insert(Calibration).values(row)
            changed = {"created": Ago(), "profile_hash": profile.digest}
            session.execute(kept.on_conflict_do_update(index_elements=["device"], set_=changed))
            _changed(session, device)

    # Runs.

    def add_run(self, name: str, run: MeasuredFiles) -> tuple[DeviceRun, bool]:
        """Keeps a run of a device; False if it was there already.

        Raises ``OptionError`` for a device that has all the runs that it may have.
        """
        record = run.record
        text = json.dumps([name, record.run.etdump_sha256, record.run.graph_sha256])
        id_ = hashlib.sha256(text.encode()).hexdigest()[:32]
        blobs = self._store.blobs
        kept = {
            "etdump_sha256": blobs.put(run.etdump),
            "program_sha256": blobs.put(run.program),
            "run_sha256": blobs.put(json.dumps(write_run(record)).encode()),
        }
        with self._changing(name) as (session, device):
            found = session.get(DeviceRun, id_)
            if found is not None:
                return found, False
            count = select(func.count(DeviceRun.id)).where(DeviceRun.device == name)
            if (session.scalar(count) or 0) >= MOST_RUNS:
                raise OptionError(
                    f"device {name!r} has {MOST_RUNS} runs, and no more are taken: delete old ones"
                )
            self._store.keep_blobs(session, set(kept.values()))
            row = {
                "id": id_,
                "device": name,
                "created": Ago(),
                "source": record.run.source,
                "program_name": run.program_name,
                **kept,
                "total_ns": record.total,
                "joined_ns": record.joined,
                "samples": len(record.samples),
            }
            session.execute(self._database.insert(DeviceRun).values(**row))
            _changed(session, device)
            return session.get_one(DeviceRun, id_), True

    def runs(self, name: str, limit: int | None = None, offset: int = 0) -> list[DeviceRun]:
        """The runs of a device, the newest first."""
        query = (
            select(DeviceRun)
            .where(DeviceRun.device == name)
            .order_by(DeviceRun.created.desc(), DeviceRun.id.desc())
            .limit(limit)
            .offset(offset)
        )
        with self._database.reading() as session:
            if name not in shipped_devices():
                _find(session, name)
            return list(session.scalars(query))

    def delete_run(self, name: str, id_: str) -> bool:
        """Deletes a run; False where there is none. What it taught is forgotten."""
        return self._store.reserve.spend(lambda: self._delete_run(name, id_))

    def _delete_run(self, name: str, id_: str) -> bool:
        with self._changing(name) as (session, device):
            query = delete(DeviceRun).where(DeviceRun.id == id_, DeviceRun.device == name)
            found = session.execute(query.returning(DeviceRun.id)).first() is not None
            if found:
                _changed(session, device)
            return found

    # What is known.

    def known(self, name: str) -> KnownDevice:
        """A device as it is known now, by its name or by the SHA-256 of a file that was uploaded.

        Raises ``OptionError`` for one without any runs or profile, ``InputError`` for a damaged
        file.
        """
        if name in shipped_devices():
            return self._kept(load_device(name))
        if _SHA256.fullmatch(name):
            return self._uploaded(name)
        with self._database.reading() as session:
            record = _find(session, name)
            device, changes, sha256 = _device(record), record.changes, record.file_sha256
            if (calibration := _calibrations(session, name).get(name)) is not None:
                device = replace(device, profile=calibration.profile)
        if sha256 is not None:
            # A damaged one is made again from the runs.
            with suppress(LostBlobError):
                return KnownDevice(device, self._store.path(sha256), sha256)
        records = tuple(self._read(run, device) for run in reversed(self.runs(name)))
        if not records and device.profile is None:
            raise OptionError(
                f"device {name!r} has no runs yet: POST one to /devices/{name}/runs, tune a "
                "program there ('layout-planner tune --server'), or calibrate it in its browser "
                "(/calibrate)"
            )
        known = self._kept(replace(device, runs=records))
        # It may have changed meanwhile: then the file is good for this request alone.
        mine = update(DeviceRecord).where(
            DeviceRecord.name == name, DeviceRecord.changes == changes
        )
        with self._database.writing() as session:
            self._store.keep_blobs(session, [known.sha256])
            session.execute(mine.values(file_sha256=known.sha256))
        return known

    def _uploaded(self, sha256: str) -> KnownDevice:
        blobs = self._store.blobs
        try:
            path = self._store.renew(sha256)  # no sweep takes it before it is used
            if (size := blobs.size(sha256)) > _MOST_BYTES:
                raise OptionError(
                    f"a device's file of {size:,} bytes is larger than the {_MOST_BYTES:,} that "
                    "are taken here: add its runs to a device (POST /devices)"
                )
        except FileNotFoundError:
            raise UnknownDeviceError(
                f"there is no device's file {sha256}: POST its bytes to /inputs first"
            ) from None
        device = read_device(path.read_bytes(), "the device's file")
        return KnownDevice(replace(device, runs=()), path, sha256)

    def _kept(self, device: Device) -> KnownDevice:
        sha256 = self._store.blobs.put(device.to_json())
        return KnownDevice(replace(device, runs=()), self._store.path(sha256), sha256)

    def _read(self, run: DeviceRun, device: Device) -> RunRecord:
        data = self._store.path(run.run_sha256).read_bytes()
        return read_run(json.loads(data), device.name, device.driver)

    def fit(self, file_sha256: str) -> bytes | None:
        """The document of a device's fit, by its file; None if it was not computed yet."""
        with self._database.reading() as session:
            found = session.get(DeviceFit, (file_sha256, PLANNER))
        try:
            return None if found is None else self._store.path(found.fit_sha256).read_bytes()
        except LostBlobError:
            return None

    def keep_fit(self, file_sha256: str, fit: bytes) -> None:
        """Keeps the document of a device's fit."""
        sha256 = self._store.blobs.put(fit)
        row = {"file_sha256": file_sha256, "planner": PLANNER, "fit_sha256": sha256}
        with self._database.writing() as session:
            self._store.keep_blobs(session, [sha256])
            kept = self._database.insert(DeviceFit).values(row)
            keys = [DeviceFit.file_sha256, DeviceFit.planner]
            session.execute(
                kept.on_conflict_do_update(index_elements=keys, set_={"fit_sha256": sha256})
            )

    # Tunings.

    def begin_tuning(self, name: str, program_name: str) -> str:
        """Takes note of a tuning on a device; returns its id."""
        id_ = uuid.uuid4().hex
        row = {
            "id": id_,
            "device": name,
            "created": Ago(),
            "updated": Ago(),
            "program_name": program_name,
            "ended": None,
            "document": "{}",
        }
        with self._changing(name) as (session, _):
            session.execute(self._database.insert(TuningRecord).values(**row))
        return id_

    def tell_tuning(self, name: str, id_: str, document: dict[str, Any], ended: str | None) -> bool:
        """Keeps how a tuning goes; False where there is none."""
        told = {"document": json.dumps(document), "ended": ended, "updated": Ago()}
        mine = update(TuningRecord).where(TuningRecord.id == id_, TuningRecord.device == name)
        with self._database.writing() as session:
            return session.execute(mine.values(told).returning(TuningRecord.id)).first() is not None

    def tunings(self, name: str, limit: int = 50) -> list[TuningRecord]:
        """The newest tunings on a device."""
        query = (
            select(TuningRecord)
            .where(TuningRecord.device == name)
            .order_by(TuningRecord.created.desc(), TuningRecord.id.desc())
            .limit(limit)
        )
        with self._database.reading() as session:
            return list(session.scalars(query))

    def tuning(self, name: str, id_: str) -> TuningRecord | None:
        """A tuning on a device; None where there is none."""
        with self._database.reading() as session:
            found = session.get(TuningRecord, id_)
            return found if found is not None and found.device == name else None

    @contextmanager
    def _changing(self, name: str) -> Iterator[tuple[Session, DeviceRecord]]:
        """A transaction that changes a device; others that would wait for its end."""
        self.check_changeable(name)
        with self._database.writing() as session:
            yield session, _find(session, name, is_changed=True)


def _find(session: Session, name: str, *, is_changed: bool = False) -> DeviceRecord:
    query = select(DeviceRecord).where(DeviceRecord.name == name)
    found = session.scalar(query.with_for_update() if is_changed else query)
    if found is None:
        raise UnknownDeviceError(
            f"there is no device {name!r}: GET /devices lists those there are, POST adds one"
        )
    return found


def _calibrations(session: Session, name: str | None = None) -> dict[str, Calibrated]:
    """The profiles of devices, or of one, by the devices' names."""
    query = select(Calibration, Profile).join(Profile, Profile.hash == Calibration.profile_hash)
    if name is not None:
        query = query.where(Calibration.device == name)
    return {
        made.device: Calibrated(parse_profile(kept.document, kept.name), made.created)
        for made, kept in session.execute(query).all()
    }


def _changed(session: Session, record: DeviceRecord) -> None:
    """Takes note that more, or less, is known of a device than its file has."""
    if record.file_sha256 is not None:
        session.execute(delete(DeviceFit).where(DeviceFit.file_sha256 == record.file_sha256))
    record.file_sha256 = None
    record.changes += 1


def _device(record: DeviceRecord) -> Device:
    """A device without its runs."""
    limits = record.texture_limits
    return Device(
        record.name,
        record.driver,
        record.gpu,
        None if limits is None else (limits[0], limits[1], limits[2]),
        record.buffer_limit,
        tuple(json.loads(record.avoid)),
    )


@cache
def _shipped(name: str) -> DeviceSummary:
    device = load_device(name)
    return DeviceSummary(replace(device, runs=()), len(device.runs), None, None, True)


def _check_avoid(device: Device) -> None:
    if len(device.avoid) > _MOST_ROWS:
        raise OptionError(f"an avoid list has at most {_MOST_ROWS} rows, not {len(device.avoid)}")
    device.faults()
