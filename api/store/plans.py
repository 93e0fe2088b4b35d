"""Plans, kept for good: their figures are in the database, their files are blobs."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from sqlalchemy import ColumnElement, Insert, delete, exists, func, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from api.store.accounts import Account, Accounts, discharge, discharge_swept
from api.store.blobs import BlobStore, DirectoryBlobs, LostBlobError
from api.store.claims import Claims, DatabaseClaims, FileClaims
from api.store.clock import Ago
from api.store.database import Database
from api.store.files import PlanFiles
from api.store.options import write_options
from api.store.room import FullDiskError, Reserve
from api.store.tables import Blob, BlobHome, Plan, Profile, blob_references
from planner.costs.model import CostSource
from planner.costs.profile import DeviceProfile
from planner.costs.profile_file import parse_profile
from planner.errors import OptionError
from planner.extras import require
from planner.measured.costs import MeasuredSource
from planner.options import PlanOptions
from planner.result.report import PlanFigures, Report, read_report
from planner.result.revision import PLANNER

T = TypeVar("T")

GRACE: Final = timedelta(hours=1)
"""How long a blob stays that nothing refers to: much longer than putting a plan takes."""

MOST_HISTORY: Final = 1000
"""How many plans of a model are its history."""

FIGURES: Final = tuple(
    field.name for field in fields(PlanFigures) if field.name in Plan.__table__.columns
)
"""The figures of a report that plans are listed with: those that have a column."""

_BLOBS: Final = ("source_sha256", "report_sha256", "graph_sha256", "program_sha256")
_BLOCK: Final = 500
"""Rows of one statement."""
UNFINISHED: Final = "restore-unfinished"
"""What is in a data directory until a backup is brought back as a whole."""
_PUTS: Final = 5
"""How often bytes are put that others delete at the same moment."""
_USED: Final = timedelta(hours=1)
"""How old a plan's last use may be before another one is taken note of."""
_PLAN_ID: Final = re.compile(r"[0-9a-f]{32}")
Sort = Literal["created", "name", "ratio", "repack_cost", "saved_cost", "objective_cost"]

# The last column makes the order of equals the same in every page; an index has each of these.
_ORDERS: Final[dict[Sort, tuple[InstrumentedAttribute[Any], ...]]] = {
    "created": (Plan.created, Plan.id),
    "name": (Plan.folded_name, Plan.created, Plan.id),
    "ratio": (Plan.ratio, Plan.id),
    "repack_cost": (Plan.repack_cost, Plan.id),
    "saved_cost": (Plan.saved_cost, Plan.id),
    "objective_cost": (Plan.objective_cost, Plan.id),
}


class _UndoneError(Exception):
    """Undoes a transaction."""


@dataclass(frozen=True, slots=True)
class PlanFilter:
    """Which plans to list: those for which everything holds that is not None.

    ``name`` is a part of the source's name, in upper or lower case; ``source_name`` is all of it,
    as it is. Ratios are of repack costs, and
    include their ends. Points in time have a zone; ``created_before`` itself is left out.
    """

    name: str | None = None
    profile: str | None = None
    device: str | None = None
    objective: str | None = None
    status: str | None = None
    min_ratio: float | None = None
    max_ratio: float | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    source_name: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The conditions on ``Plan``."""
        found: list[ColumnElement[bool]] = []
        if self.name is not None:
            found.append(Plan.folded_name.contains(self.name.casefold(), autoescape=True))
        if self.profile is not None:
            found.append(Plan.profile_name == self.profile)
        if self.device is not None:
            found.append(Plan.device == self.device)
        if self.objective is not None:
            found.append(Plan.objective == self.objective)
        if self.status is not None:
            found.append(Plan.status == self.status)
        if self.min_ratio is not None:
            found.append(Plan.ratio >= self.min_ratio)
        if self.max_ratio is not None:
            found.append(Plan.ratio <= self.max_ratio)
        if self.created_after is not None:
            found.append(Plan.created >= self.created_after)
        if self.created_before is not None:
            found.append(Plan.created < self.created_before)
        if self.source_name is not None:
            # Folded names are in an index.
            found.append(Plan.folded_name == self.source_name.casefold())
            found.append(Plan.source_name == self.source_name)
        return found


@dataclass(frozen=True, slots=True)
class Saved:
    """What the plans of one unit save: repack costs of their baselines, and less them of theirs."""

    unit: str
    baseline_cost: float
    cost: float


@dataclass(frozen=True, slots=True)
class Totals:
    """Figures of all plans of a list: how many are proven optimal, of how many models by name."""

    plans: int
    proven: int
    models: int
    saved: tuple[Saved, ...]


@dataclass(frozen=True, slots=True)
class PlanPage:
    """Some plans of a list, and how many there are in the whole list."""

    total: int
    plans: list[Plan]


def plan_id(source_sha256: str, options: PlanOptions) -> str:
    """An id that is the same for, and only for, the same file, options and planner.

    The planner counts with its revision: see ``planner.result.revision``.
    """
    request = {
        "planner": PLANNER,
        "source": source_sha256,
        "profile": options.costs.digest,
        "objective": options.objective,
        "texture_limits": options.texture_limits,
        "buffer_limit": options.buffer_limit,
        "excluded_layouts": sorted(layout.name for layout in options.excluded_layouts),
        "runtime": None if options.runtime is None else str(options.runtime),
        "gpu": options.gpu,
        "avoid": options.avoid.digest,
        "compile_options": dict(options.compile_options),
    }
    if options.alternatives:
        request["alternatives"] = options.alternatives
    if options.wanted:
        request["limits"] = sorted(options.wanted)
    if options.target is not None:
        request["target"] = options.target
    text = json.dumps(request, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan whose blobs are kept, and whose row is still to be inserted."""

    row: dict[str, Any]
    profile: DeviceProfile


class PlanStore:
    """Keeps plans by id. May be called from several threads, and opened by several processes.

    A plan is there from the commit on that comes after all its blobs are whole on disk; before it
    there is nothing to see. Methods raise ``UnreachableError`` if the database does not answer,
    and those that keep something ``FullDiskError``; deletions take the ``reserve`` first.
    """

    def __init__(
        self, database: Database, blobs: BlobStore, claims: Claims, reserve: Reserve
    ) -> None:
        self.database = database
        self.accounts = Accounts(database)
        self.blobs = blobs
        self.claims = claims
        self.reserve = reserve
        self._threads = ThreadPoolExecutor(len(_BLOBS), "blobs")
        # Made once: to make a statement takes longer than the database does. With its columns as
        # parameters it is the same each time.
        plan, profile = database.insert(Plan).values(created=Ago()), database.insert(Profile)
        self._plan_row = plan.on_conflict_do_nothing().returning(Plan.id)
        self._profile_row = profile.on_conflict_do_nothing()
        self._blob_row = self._blob_upsert({"created": Ago()})
        self._input_row = self._blob_upsert({"created": Ago(), "handed_in": Ago()})

    def close(self) -> None:
        """Closes the database."""
        self._threads.shutdown()
        self.database.close()
        self.claims.close()

    def get(self, plan_id: str) -> Plan | None:
        """A plan; None for an id that no plan has, or that is no id."""
        if _PLAN_ID.fullmatch(plan_id) is None:
            return None
        with self.database.reading() as session:
            return session.get(Plan, plan_id)

    def put(
        self,
        plan_id: str,
        files: PlanFiles,
        source: Path,
        options: PlanOptions,
        account: Account | None = None,
    ) -> Plan:
        """Keeps a plan of the ``source`` file; where the plan is there already, that one stays.

        Returns the plan that is kept. ``options`` are those it was asked for with; ``account`` is
        charged for it.
        """

        def keep() -> Plan:
            draft = self.prepare(plan_id, files, source, options)
            with self.database.writing() as session:
                return self.insert(session, draft, [] if account is None else [account])

        return again_if_lost(keep)

    def rehearse(self, files: PlanFiles, source: Path, options: PlanOptions) -> None:
        """As ``put``, but no plan is there in the end.

        What only the first one has to wait for, as the wording of statements, is done then.
        """
        plan_id = uuid.uuid4().hex
        self.get(plan_id)
        draft = self.prepare(plan_id, files, source, options)
        with suppress(_UndoneError), self.database.writing() as session:
            self.insert(session, draft)
            raise _UndoneError

    def replace(self, plan: Plan, files: PlanFiles, source: Path, options: PlanOptions) -> None:
        """Keeps a plan that was made again, instead of the one that there was.

        What nothing refers to any more is deleted at once: it may be damaged.
        """

        def keep() -> None:
            draft = self.prepare(plan.id, files, source, options)
            with self.database.writing() as session:
                gone = delete(Plan).where(Plan.id == plan.id).returning(Plan.created, Plan.used)
                before = session.execute(gone).first()
                made = self.insert(session, draft)
                if before is not None:
                    made.created, made.used = before

        again_if_lost(keep)
        columns = (getattr(plan, name) for name in _BLOBS)
        self.free({sha256 for sha256 in columns if sha256 is not None})

    def prepare(self, plan_id: str, files: PlanFiles, source: Path, options: PlanOptions) -> Draft:
        """Keeps the files of a plan, for ``insert``: nothing is to be seen of it yet."""
        if _PLAN_ID.fullmatch(plan_id) is None:
            raise ValueError(f"{plan_id!r} is not the id of a plan")
        # Once, for whoever wrote it may still be at it; first, so that of nonsense nothing is kept.
        document = files.report.read_bytes()
        columns = _columns(read_report(json.loads(document)), options)
        kept: dict[str, bytes | Path] = {"source": source, "report": document, "graph": files.graph}
        if files.program.stat().st_size > 0:
            kept["program"] = files.program
        # At once: what takes time is to wait for the disk, or for the network.
        puts = {name: self._threads.submit(self.blobs.put, path) for name, path in kept.items()}
        # To the last one, even where one fails: its caller may delete the files.
        wait(puts.values())
        put = {name: done.result() for name, done in puts.items()}
        blobs = {column: put.get(column.removesuffix("_sha256")) for column in _BLOBS}
        asked = {"options": json.dumps(write_options(options))}
        return Draft({"id": plan_id, **columns, **asked, **blobs}, options.profile)

    def insert(self, session: Session, draft: Draft, accounts: Sequence[Account] = ()) -> Plan:
        """Keeps a plan from the commit of a transaction on; one that is there already stays.

        The ``accounts``, in the order of their names, are charged for a new one.
        """
        blobs = {draft.row[name] for name in _BLOBS if draft.row[name] is not None}
        self.keep_blobs(session, blobs)
        self.keep_profile(session, draft.profile)
        is_new = session.execute(self._plan_row, [draft.row]).first() is not None
        for account in accounts if is_new else ():
            sizes = {sha256: self.blobs.size(sha256) for sha256 in blobs}
            self.accounts.charge(session, account, sizes)
        return session.get_one(Plan, draft.row["id"])

    def keep_blobs(
        self, session: Session, blobs: Collection[str], *, handed_in: bool = False
    ) -> None:
        """Sees to it that rows of a transaction can refer to blobs.

        Raises ``LostBlobError`` for one that is not there: it may have been deleted, with the last
        plan that referred to it, just after it was put. See ``again_if_lost``.
        """
        self.database.spare_blobs(session)
        put = self._input_row if handed_in else self._blob_row
        # In an order: two that take the same rows in different ones would wait for each other.
        found = sorted(blobs)
        for first in range(0, len(found), _BLOCK):
            block = found[first : first + _BLOCK]
            session.execute(put, [{"sha256": each, "size": self._size(each)} for each in block])

    def _blob_upsert(self, times: Mapping[str, Ago]) -> Insert:
        """Keeps a row of a blob; one that was there counts as new, so that no sweep takes it."""
        rows = self.database.insert(Blob).values(times)
        renewed = {name: rows.excluded[name] for name in times}
        return rows.on_conflict_do_update(index_elements=[Blob.sha256], set_=renewed)

    def hand_in(self, source: bytes | Path) -> str:
        """Keeps bytes that someone will name by their SHA-256, for an hour; returns that."""

        self.reserve.check("the upload")

        def keep() -> str:
            sha256 = self.blobs.put(source)
            with self.database.writing() as session:
                self.keep_blobs(session, [sha256], handed_in=True)
            return sha256

        return again_if_lost(keep)

    def _size(self, sha256: str) -> int:
        try:
            return self.blobs.size(sha256)
        except FileNotFoundError:
            raise LostBlobError(sha256, "missing") from None

    def keep_profile(self, session: Session, profile: DeviceProfile) -> None:
        """Sees to it that rows of a transaction can refer to a profile."""
        row = {"hash": profile.digest, "name": profile.name, "document": profile.to_json()}
        session.execute(self._profile_row, [row])

    def profile(self, digest: str) -> DeviceProfile | None:
        """A profile that was kept, by its SHA-256; None where there is none."""
        with self.database.reading() as session:
            found = session.get(Profile, digest)
        return None if found is None else parse_profile(found.document, found.name)

    def profiles(self) -> list[DeviceProfile]:
        """The profiles that were kept, by name."""
        with self.database.reading() as session:
            found = session.scalars(select(Profile).order_by(Profile.name, Profile.hash)).all()
        return [parse_profile(profile.document, profile.name) for profile in found]

    def device_names(self) -> list[str]:
        """The names of all devices that plans were made for, sorted."""
        names = select(Plan.device).where(Plan.device.is_not(None)).distinct().order_by(Plan.device)
        with self.database.reading() as session:
            return [name for name in session.scalars(names) if name is not None]

    def path(self, sha256: str) -> Path:
        """The file of a plan's blob, to be read only. Raises ``FileNotFoundError``."""
        return self.blobs.path(sha256)

    def renew(self, sha256: str) -> Path:
        """The file of an input, which counts as handed in just now, as its charges do.

        Raises ``FileNotFoundError``.
        """
        path = self.blobs.renew(sha256)
        with self.database.writing() as session:
            self.keep_blobs(session, [sha256], handed_in=True)
            self.accounts.renew(session, sha256)
        return path

    def whole_graph(self, plan: Plan) -> bytes | Path | None:
        """The planned program as ``BlobStore.content`` gives it, if all files of a plan are whole.

        None if one is missing, or has other bytes than it had.
        """
        try:
            for sha256 in (plan.report_sha256, plan.program_sha256):
                if sha256 is not None:
                    self.blobs.content(sha256)
            return self.blobs.content(plan.graph_sha256)
        except FileNotFoundError:
            return None

    def delete(self, plan_id: str) -> bool:
        """Deletes a plan, and at once what nothing else refers to; False where there is none."""

        def delete_row() -> Collection[str] | None:
            columns = [Plan.__table__.c[name] for name in _BLOBS]
            with self.database.writing() as session:
                gone = delete(Plan).where(Plan.id == plan_id).returning(*columns)
                row = session.execute(gone).first()
                if row is None:
                    return None
                found = {sha256 for sha256 in row if sha256 is not None}
                discharge(session, found)
                return found

        blobs = self.reserve.spend(delete_row)
        if blobs is None:
            return False
        self.free(blobs)
        return True

    def free(self, blobs: Collection[str]) -> int:
        """Deletes those of some blobs that nothing refers to; returns their bytes.

        What was handed in lately stays, and where others put blobs all the time, all of it until a
        later sweep. Who puts the same bytes at this moment finds them gone: see ``keep_blobs``.
        """
        return self.reserve.spend(lambda: self._free(sorted(blobs)))

    def _free(self, blobs: list[str]) -> int:
        freed = 0
        with self.database.deleting() as may_delete:
            if not may_delete:
                return 0
            with self.database.writing() as session:
                if not self.database.claim_blobs(session):
                    return 0
                for first in range(0, len(blobs), _BLOCK):
                    mine = Blob.sha256.in_(blobs[first : first + _BLOCK])
                    late = Ago(GRACE.total_seconds())
                    is_free = or_(Blob.handed_in.is_(None), Blob.handed_in < late)
                    gone = delete(Blob).where(mine, is_free, *_unused())
                    rows = session.execute(gone.returning(Blob.sha256, Blob.size)).all()
                    for sha256, size in rows:
                        # Before the commit: after it, they may be put again.
                        self.blobs.delete(sha256)
                        freed += size
        return freed

    def use(self, plan: Plan) -> None:
        """Takes note that a plan was asked for, unless that was noted within the hour."""
        if datetime.now(UTC) - (plan.used or plan.created) < _USED:
            return
        with suppress(FullDiskError), self.database.writing() as session:
            session.execute(update(Plan).where(Plan.id == plan.id).values(used=Ago()))

    def page(
        self,
        which: PlanFilter = PlanFilter(),
        sort: Sort = "created",
        *,
        descending: bool = True,
        limit: int = 50,
        offset: int = 0,
    ) -> PlanPage:
        """A page of the plans that pass a filter, and how many pass it."""
        conditions = which.conditions()
        order = _ORDERS[sort]
        columns = [column.desc() for column in order] if descending else order
        page = select(Plan).where(*conditions).order_by(*columns).limit(limit).offset(offset)
        count = select(func.count()).select_from(Plan).where(*conditions)
        with self.database.reading() as session:
            return PlanPage(session.scalar(count) or 0, list(session.scalars(page)))

    def totals(self, which: PlanFilter = PlanFilter()) -> Totals:
        """Figures of all plans that pass a filter."""
        conditions = which.conditions()
        proven = func.count().filter(Plan.status == "OPTIMAL")
        costs = func.sum(Plan.baseline_repack_cost), func.sum(Plan.saved_cost)
        by_unit = (
            select(Plan.unit, func.count(), proven, *costs)
            .where(*conditions)
            .group_by(Plan.unit)
            .order_by(Plan.unit)
        )
        models = select(func.count(Plan.folded_name.distinct())).where(*conditions)
        with self.database.reading() as session:
            rows = session.execute(by_unit).all()
            return Totals(
                plans=sum(row[1] for row in rows),
                proven=sum(row[2] for row in rows),
                models=session.scalar(models) or 0,
                saved=tuple(Saved(row[0], row[3], row[4]) for row in rows),
            )

    def profile_names(self) -> list[str]:
        """The names of all profiles that plans were made with, sorted."""
        names = select(Plan.profile_name).distinct().order_by(Plan.profile_name)
        with self.database.reading() as session:
            return list(session.scalars(names))

    def history(self, source_name: str, most: int = MOST_HISTORY) -> list[Plan]:
        """The latest plans of a program of this name, oldest first."""
        found = (
            select(Plan)
            .where(*PlanFilter(source_name=source_name).conditions())
            .order_by(Plan.created.desc(), Plan.id.desc())
            .limit(most)
        )
        with self.database.reading() as session:
            return list(session.scalars(found))[::-1]

    def stored_bytes(self) -> int:
        """The bytes of all blobs that it knows."""
        with self.database.reading() as session:
            return int(session.scalar(select(func.sum(Blob.size))) or 0)

    def sweep(self, grace: timedelta = GRACE) -> int:
        """Deletes the blobs that nothing refers to and that were last put ``grace`` ago or before.

        Returns how many: none while they are kept for a backup. May run in several processes at
        once, and beside puts of the same bytes.
        """
        with self.database.deleting() as may_delete:
            return self.reserve.spend(lambda: self._sweep(grace)) if may_delete else 0

    def _sweep(self, grace: timedelta) -> int:
        unused = (
            select(Blob.sha256)
            .where(Blob.created < Ago(grace.total_seconds()), *_unused())
            # PostgreSQL leaves out the rows that a put holds, and that are new when it is done.
            .with_for_update(skip_locked=True)
        )
        with self.database.writing() as session:
            session.execute(delete(Blob).where(Blob.sha256.in_(unused)))
            discharge_swept(session, grace)
        return self.blobs.sweep(self._known, grace)

    def _known(self, blobs: list[str]) -> Collection[str]:
        with self.database.reading() as session:
            return session.scalars(select(Blob.sha256).where(Blob.sha256.in_(blobs))).all()


def again_if_lost(call: Callable[[], T]) -> T:
    """What a call returns that puts blobs and refers to them, again if one was deleted meanwhile.

    Raises ``LostBlobError`` if that goes on.
    """
    for _ in range(_PUTS - 1):
        with suppress(LostBlobError):
            return call()
    return call()


def open_store(
    data_dir: Path,
    database_url: str | None = None,
    blobs_url: str | None = None,
    reserve_bytes: int = 0,
) -> PlanStore:
    """The store of a data directory, which is made if it is not there.

    Without a URL the database is in the directory, too, and so are the blobs. So much room is kept
    there for deleting on a full disk. Raises ``OptionError`` for a directory that cannot be written
    to, for blobs that are not those that the database goes with, and as ``Database`` and
    ``S3Blobs`` do.
    """
    if (data_dir / UNFINISHED).exists():
        raise OptionError(
            f"a backup is brought back into {data_dir} now, or was not to its end: see that "
            "'layout-planner store restore' ends, or begin it again"
        )
    blobs = open_blobs(_made(data_dir), blobs_url)
    reserve = Reserve(data_dir / "reserve", reserve_bytes)
    try:
        # Even to read, SQLite takes a little room.
        database = reserve.spend(lambda: open_database(data_dir, database_url))
    except FullDiskError as error:
        raise OptionError(str(error)) from error
    try:
        _check_home(database, blobs, blobs_url or str(data_dir))
        if database.url.get_backend_name() == "sqlite":
            return PlanStore(database, blobs, FileClaims(data_dir / "claims"), reserve)
        # Its processes need not share the directory.
        return PlanStore(database, blobs, DatabaseClaims(database.url), reserve)
    except BaseException:
        database.close()
        raise


def open_database(data_dir: Path, database_url: str | None = None) -> Database:
    """The database of a store alone. Raises ``OptionError`` as ``open_store`` does."""
    return Database(database_url) if database_url else Database.within(_made(data_dir))


def _made(data_dir: Path) -> Path:
    with _writable(data_dir):
        # For its owner alone: what is planned is whoever's asked for it.
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return data_dir


def open_blobs(data_dir: Path, url: str | None) -> BlobStore:
    """The blobs of a store alone. Raises ``OptionError`` as ``open_store`` does."""
    with _writable(data_dir):
        if url is None:
            return DirectoryBlobs(data_dir / "blobs")
        require("--blobs", "boto3")
        from api.store.cache import Cache
        from api.store.s3 import S3Blobs

        return S3Blobs(url, Cache(data_dir / "cache"))


@contextmanager
def _writable(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OptionError(
            f"cannot keep plans in {data_dir}: {error.strerror}; name another directory"
        ) from error


def _check_home(database: Database, blobs: BlobStore, place: str) -> None:
    """Refuses to refer, in a database that others share, to blobs that they do not reach."""
    row = {"number": 1, "identity": blobs.identity}
    with database.writing() as session:
        session.execute(database.insert(BlobHome).on_conflict_do_nothing(), [row])
        if session.get_one(BlobHome, 1).identity != blobs.identity:
            raise OptionError(
                f"the database goes with other files than those of {place}: name the data "
                "directory, or the store (--blobs), that it goes with and that every machine must "
                "reach, or another database"
            )


def _unused() -> list[ColumnElement[bool]]:
    """The conditions on ``Blob`` for that nothing refers to it."""
    return [~exists().where(column == Blob.sha256) for column in blob_references()]


def _device(costs: CostSource) -> str | None:
    return costs.times.device if isinstance(costs, MeasuredSource) else None


def _columns(report: Report, options: PlanOptions) -> dict[str, Any]:
    """A plan's columns that come from what was asked for, and from the report of it."""
    total, name = report.total, report.source.name
    figures = {figure: getattr(total, figure) for figure in FIGURES}
    # So that an infinite ratio sorts as the largest.
    infinite = {figure: inf for figure, value in figures.items() if value is None}
    return {
        "planner_version": report.planner_version,
        "kind": report.kind,
        "source_name": name,
        "folded_name": name.casefold(),
        "profile_name": options.profile.name,
        "profile_hash": options.profile.digest,
        "costs_name": options.costs.name,
        "device": _device(options.costs),
        "costs_hash": options.costs.digest,
        "objective": report.objective,
        "texture_limits": report.texture_limits,
        "buffer_limit": options.buffer_limit,
        "excluded_layouts": report.excluded_layouts,
        "runtime": report.runtime,
        "unit": report.unit,
        **figures,
        **infinite,
        "saved_cost": total.baseline_repack_cost - total.repack_cost,
        "delegates": len(report.delegates),
    }
