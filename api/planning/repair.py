"""Mends a store: what can be made again is made again, and the rest is forgotten or said."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sqlalchemy import delete, update

from api.planning.pool import Pool
from api.planning.process import ProcessError
from api.planning.work import PlanWork
from api.store.check import Damage
from api.store.files import PlanFiles
from api.store.options import read_options
from api.store.plans import PlanStore, plan_id
from api.store.tables import DeviceFit, DeviceRecord, Plan, Task
from planner.errors import IN_PYTHON, PlannerError, Remedy
from planner.files.kinds import MAGIC_BYTES, is_lowered
from planner.options import PlanOptions

_RESULTS: Final = frozenset(("plan.report_sha256", "plan.graph_sha256", "plan.program_sha256"))


@dataclass(frozen=True, slots=True)
class Mended:
    """What became of something damaged: whether it is mended, or only forgotten or said."""

    what: str
    how: str
    is_mended: bool


async def repair(
    store: PlanStore,
    damages: Iterable[Damage],
    pool: Pool,
    scratch: Path,
    wording: Mapping[Remedy, str] = IN_PYTHON,
) -> AsyncIterator[Mended]:
    """Does about each damage what can be done; programs are planned in ``pool``, and what
    cannot be planned is said in ``wording``.

    May run beside a server. Raises ``UnreachableError`` and ``FullDiskError``.
    """
    by_row: dict[tuple[str, str], list[Damage]] = defaultdict(list)
    for damage in damages:
        table = damage.column.partition(".")[0]
        by_row[table, damage.key or damage.sha256].append(damage)
    for (table, key), found in by_row.items():
        columns, name = {damage.column for damage in found}, found[0].name
        if table == "plan" and columns & _RESULTS:
            yield await _plan_again(store, key, pool, scratch, wording)
        elif "task.output_sha256" in columns:
            _forget_lowering(store, key)
            yield Mended(f"what {name} was lowered to", "is made again when it is needed", True)
        elif table == "device":
            with store.database.writing() as session:
                mine = update(DeviceRecord).where(DeviceRecord.name == key)
                session.execute(mine.values(file_sha256=None))
            yield Mended(f"the file of device {key}", "is made again from its runs", True)
        elif table == "device_fit":
            with store.database.writing() as session:
                bad = DeviceFit.fit_sha256 == found[0].sha256
                session.execute(delete(DeviceFit).where(bad))
            yield Mended("how well a device is known", "is computed again when asked for", True)
        elif not table:
            store.blobs.delete(found[0].sha256)
            yield Mended(f"file {found[0].sha256}", "is deleted: nothing refers to it", True)
        else:
            said = f"{found[0].column} of {key}" + (f" ({name})" if name else "")
            yield Mended(said, f"is {found[0].how}: {found[0].remedy}", False)


async def _plan_again(
    store: PlanStore, id_: str, pool: Pool, scratch: Path, wording: Mapping[Remedy, str]
) -> Mended:
    plan = store.get(id_)
    if plan is None:
        return Mended(f"plan {id_}", "was deleted meanwhile", True)
    what = f"plan {id_} of {plan.source_name}"
    try:
        source, options = store.path(plan.source_sha256), _options(store, plan)
    except FileNotFoundError as error:
        return _forgotten(store, plan, what, str(error))
    if options is None:
        return _forgotten(
            store, plan, what, "what it was asked for with is not known to this release"
        )
    with TemporaryDirectory(dir=scratch) as folder:
        files = PlanFiles.within(Path(folder))
        with source.open("rb") as file:
            needs_no_torch = is_lowered(file.read(MAGIC_BYTES))
        work = PlanWork(
            source, plan.source_name, options, files, needs_no_torch, plan.source_sha256
        )
        try:
            await pool.run(work)
        except PlannerError as error:
            return _forgotten(store, plan, what, error.worded(wording))
        except ProcessError as error:
            return _forgotten(store, plan, what, str(error))
        store.replace(plan, files, source, options)
    return Mended(what, "was planned again", True)


def _forgotten(store: PlanStore, plan: Plan, what: str, why: str) -> Mended:
    store.delete(plan.id)
    said = f"is forgotten, for it could not be planned again ({why}): hand in its program again"
    return Mended(what, said, False)


def _options(store: PlanStore, plan: Plan) -> PlanOptions | None:
    """What a plan was asked for with; None if that, or the planner, was another then.

    Raises ``FileNotFoundError`` if the file of its device is gone.
    """
    profile = store.profile(plan.profile_hash)
    if plan.options is None or profile is None:
        return None
    written = json.loads(plan.options)
    sha256 = written["device_sha256"]
    device = None if sha256 is None else store.path(sha256)
    with suppress(PlannerError):
        options = read_options(written, profile.to_json(), device)
        if plan_id(plan.source_sha256, options) == plan.id:
            return options
    return None


def _forget_lowering(store: PlanStore, id_: str) -> None:
    mine = update(Task).where(Task.id == id_, Task.state == "done")
    with store.database.writing() as session:
        session.execute(mine.values(state="cancelled", output_sha256=None))
