"""The tables of the database. What changes here needs a migration: see ``migrations``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from planner.kernels.releases import Target, parse_target


class Utc(TypeDecorator[datetime]):
    """A point in time, always with its zone: UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The point in time for the database; refuses one that does not say its zone."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} does not say its time zone")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The point in time in UTC; SQLite gives it back without a zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Names(TypeDecorator[tuple[str, ...]]):
    """Names without commas in them, as one text: equal ones can be grouped."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: Dialect) -> str | None:
        """The names, joined by commas."""
        return None if value is None else ",".join(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[str, ...] | None:
        """The names."""
        return None if value is None else tuple(value.split(",")) if value else ()


class Sizes(TypeDecorator[tuple[int, ...]]):
    """Whole numbers as one text, as in 2048,2048,2048."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[int, ...] | None, dialect: Dialect) -> str | None:
        """The numbers, joined by commas."""
        return None if value is None else ",".join(map(str, value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[int, ...] | None:
        """The numbers."""
        return None if value is None else tuple(map(int, value.split(",")))


State = Literal["waiting", "queued", "running", "done", "failed", "cancelled"]

_SHA256 = String(64)
# Sorted by code point, as SQLite does it, whatever the language of the PostgreSQL server.
_SORTED = Text().with_variant(Text(collation="C"), "postgresql")


class Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
    """What the tables share: constraints have names, so that later migrations can change them."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        }
    )


class Blob(Base):
    """Bytes that rows refer to; they are in the store of blobs under the same SHA-256."""

    __tablename__ = "blob"

    sha256: Mapped[str] = mapped_column(_SHA256, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[datetime] = mapped_column(Utc)
    """When it was last put: what nothing refers to stays for a while."""
    handed_in: Mapped[datetime | None] = mapped_column(Utc, default=None)
    """When it was last handed in to be named later: it stays so long, whatever is deleted."""


class BlobHome(Base):
    """Which store of blobs the database goes with; there is one row."""

    __tablename__ = "blob_home"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Always 1."""
    identity: Mapped[str] = mapped_column(String(32))


class ServerSecret(Base):
    """What servers know each other's forms, and signatures, by: see ``secret_of``."""

    __tablename__ = "server_secret"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[str] = mapped_column(String(64))


class Profile(Base):
    """A device profile that plans were made with."""

    __tablename__ = "profile"

    hash: Mapped[str] = mapped_column(_SHA256, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    document: Mapped[str] = mapped_column(Text)
    """The profile as JSON."""


class Plan(Base):
    """A plan: where it comes from, how it was asked for, what it costs, where its files are.

    Costs are in ``unit``. ``baseline`` is ExecuTorch's own pass, or the layouts that a lowered
    program came with. A ratio is the baseline's cost over the plan's: infinite where only the
    plan's is 0.
    """

    __tablename__ = "plan"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    created: Mapped[datetime] = mapped_column(Utc)
    planner_version: Mapped[str] = mapped_column(Text)

    kind: Mapped[str] = mapped_column(String(16))
    source_name: Mapped[str] = mapped_column(Text)
    folded_name: Mapped[str] = mapped_column(_SORTED)
    """The source's name to search and to sort by: upper case is as lower case."""
    source_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)

    profile_name: Mapped[str] = mapped_column(Text)
    profile_hash: Mapped[str] = mapped_column(ForeignKey("profile.hash"), index=True)
    costs_name: Mapped[str] = mapped_column(Text)
    """What the costs are called: the profile, or the device that they were learned from."""
    costs_hash: Mapped[str] = mapped_column(_SHA256)
    objective: Mapped[str] = mapped_column(String(16))
    texture_limits: Mapped[tuple[int, ...]] = mapped_column(Sizes)
    """Width, height and depth in texels."""
    buffer_limit: Mapped[int | None] = mapped_column(BigInteger)
    excluded_layouts: Mapped[tuple[str, ...]] = mapped_column(Names)
    runtime: Mapped[str] = mapped_column(String(16), server_default="")
    """The releases of ExecuTorch that the plan is for; empty for plans of earlier releases."""
    device: Mapped[str | None] = mapped_column(_SORTED)
    """The device whose measured times it was planned with; None if a profile's prices alone."""
    unit: Mapped[str] = mapped_column(String(8))

    status: Mapped[str] = mapped_column(String(16))
    """OPTIMAL, with a proof, or FEASIBLE."""
    bound: Mapped[float] = mapped_column(Double)
    """No plan has a lower objective cost."""
    repack_cost: Mapped[float] = mapped_column(Double)
    baseline_repack_cost: Mapped[float] = mapped_column(Double)
    saved_cost: Mapped[float] = mapped_column(Double)
    """Repack cost of the baseline less the plan's."""
    ratio: Mapped[float] = mapped_column(Double)
    objective_cost: Mapped[float] = mapped_column(Double)
    baseline_objective_cost: Mapped[float] = mapped_column(Double)
    objective_ratio: Mapped[float] = mapped_column(Double)
    transitions: Mapped[int]
    baseline_transitions: Mapped[int]
    operators: Mapped[int]
    delegates: Mapped[int]
    plan_seconds: Mapped[float] = mapped_column(Double)

    report_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)
    graph_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)
    program_sha256: Mapped[str | None] = mapped_column(ForeignKey("blob.sha256"), index=True)
    """None where the plan is of a VkGraph alone."""
    used: Mapped[datetime | None] = mapped_column(Utc, default=None)
    """When it was last asked for, to the hour; None if not since it was made."""
    options: Mapped[str | None] = mapped_column(Text, default=None)
    """What it was asked for with, as JSON; None for plans of earlier releases."""

    @property
    def is_proven(self) -> bool:
        """Whether it is proven that no plan costs less."""
        return self.status == "OPTIMAL"

    @property
    def gap(self) -> float:
        """How much less the best plan may cost, as a share of this one's cost: 0 if proven."""
        cost = self.objective_cost
        return max(0.0, (cost - self.bound) / cost) if cost > 0 else 0.0

    @property
    def target(self) -> Target:
        """The backend whose runtime it is for: what was asked for, else Vulkan."""
        asked = {} if self.options is None else json.loads(self.options)
        return parse_target(asked.get("target", "vulkan"))

    @property
    def has_program(self) -> bool:
        """Whether there is a program for the runtime, and not only a graph."""
        return self.program_sha256 is not None

    __table_args__ = (
        # Each order in which plans are listed, to its last column: see ``plans``.
        Index(None, "created", "id"),
        Index(None, "folded_name", "created", "id"),
        Index(None, "ratio", "id"),
        Index(None, "repack_cost", "id"),
        Index(None, "saved_cost", "id"),
        Index(None, "objective_cost", "id"),
        Index(None, "profile_name", "created", "id"),
        Index(None, "device", "created", "id"),
    )


class Job(Base):
    """Many inputs, each with many options, that were handed in together."""

    __tablename__ = "job"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(Utc)
    cancelled: Mapped[datetime | None] = mapped_column(Utc)
    request: Mapped[str] = mapped_column(Text)
    """The matrix that was asked for, as JSON."""
    account: Mapped[str | None] = mapped_column(Text, default=None)
    """Who is charged for what it makes; None for whom there are no limits."""

    __table_args__ = (Index(None, "created", "id"),)


class Task(Base):
    """A program to plan or to lower. Jobs that want the same share it.

    Its states: ``waiting`` for the task that it ``needs``, ``queued``, ``running``; and at the end
    ``done``, ``failed`` or ``cancelled``. Points in time are by the database's clock.
    """

    __tablename__ = "task"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    """The id of the plan that it makes; of a lowering, ``lower-`` and a hash."""
    kind: Mapped[str] = mapped_column(String(16))
    """``plan`` or ``lower``."""
    version: Mapped[str] = mapped_column(Text)
    """The planner's release and revision: its workers alone may do it."""
    input_name: Mapped[str] = mapped_column(Text)
    input_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)
    profile_hash: Mapped[str | None] = mapped_column(ForeignKey("profile.hash"), index=True)
    options: Mapped[str] = mapped_column(Text)
    """As JSON; of a lowering only its limits."""
    needs: Mapped[str | None] = mapped_column(ForeignKey("task.id"), index=True)
    state: Mapped[State] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    """How often it was begun since it was queued."""
    device_sha256: Mapped[str | None] = mapped_column(
        ForeignKey("blob.sha256"), index=True, default=None
    )
    """The file of the device that it plans for, as the device was known when it was asked for."""
    error: Mapped[str | None] = mapped_column(Text, default=None)
    worker_id: Mapped[str | None] = mapped_column("executor_id", Text, default=None)
    """The worker that began it last."""
    output_sha256: Mapped[str | None] = mapped_column(
        ForeignKey("blob.sha256"), index=True, default=None
    )
    """What a lowering made."""
    queued: Mapped[datetime | None] = mapped_column(Utc, default=None)
    started: Mapped[datetime | None] = mapped_column(Utc, default=None)
    finished: Mapped[datetime | None] = mapped_column(Utc, default=None)

    __table_args__ = (Index(None, "state", "queued"),)


class Item(Base):
    """A cell of a job's matrix: an input with options, and the task that plans it."""

    __tablename__ = "item"

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Its place in the job, from 0."""
    input_name: Mapped[str] = mapped_column(Text)
    task_id: Mapped[str] = mapped_column(ForeignKey("task.id"), index=True)


class Submission(Base):
    """What a job was submitted by, with a key: the same again gives the same job."""

    __tablename__ = "submission"

    caller: Mapped[str] = mapped_column(Text, primary_key=True)
    """Who submitted it; empty for whom there are no limits."""
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    request_sha256: Mapped[str] = mapped_column(_SHA256)
    job_id: Mapped[str] = mapped_column(String(32))
    """No key of ``job``: that one may have been deleted."""
    created: Mapped[datetime] = mapped_column(Utc, index=True)


class TokenRecord(Base):
    """A token that lets someone in: see ``Tokens``."""

    __tablename__ = "token"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    """Whose it is, as the audit log says."""
    scope: Mapped[str] = mapped_column(String(8))
    hash: Mapped[str] = mapped_column(_SHA256)
    created: Mapped[datetime] = mapped_column(Utc)
    revoked: Mapped[datetime | None] = mapped_column(Utc, default=None)
    # What its owner may ask for; None is what the server allows everybody: see ``Allowance``.
    requests_per_minute: Mapped[int | None] = mapped_column(BigInteger, default=None)
    running_plans: Mapped[int | None] = mapped_column(BigInteger, default=None)
    stored_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    upload_bytes_per_hour: Mapped[int | None] = mapped_column(BigInteger, default=None)


class AccountRecord(Base):
    """Who is charged for blobs: see ``api.store.accounts``."""

    __tablename__ = "account"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    most_bytes: Mapped[int] = mapped_column(BigInteger)
    """What it may have in the store, as the server said that it asked last."""


class Charge(Base):
    """A blob that an account has put. Several may have put the same one: each is charged."""

    __tablename__ = "charge"

    account: Mapped[str] = mapped_column(ForeignKey("account.name"), primary_key=True)
    sha256: Mapped[str] = mapped_column(_SHA256, primary_key=True, index=True)
    """No key of ``blob``: an upload has no row there before a job names it."""
    size: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[datetime] = mapped_column(Utc)
    """When it was last put."""


class DeviceRecord(Base):
    """A device that runs were measured on."""

    __tablename__ = "device"

    name: Mapped[str] = mapped_column(_SORTED, primary_key=True)
    created: Mapped[datetime] = mapped_column(Utc)
    driver: Mapped[str] = mapped_column(Text)
    gpu: Mapped[str | None] = mapped_column(Text)
    """The name of its GPU as Vulkan gives it."""
    texture_limits: Mapped[tuple[int, ...] | None] = mapped_column(Sizes)
    """Width, height and depth in texels; None for those that programs are lowered with."""
    buffer_limit: Mapped[int | None] = mapped_column(BigInteger)
    avoid: Mapped[str] = mapped_column(Text)
    """Rows of what is wrong on it, as a JSON list."""
    changes: Mapped[int] = mapped_column(default=0)
    """How often what is known of it has changed."""
    file_sha256: Mapped[str | None] = mapped_column(
        ForeignKey("blob.sha256"), index=True, default=None
    )
    """The device as a file; None if it has changed since that was written."""


class Calibration(Base):
    """The profile that a device was calibrated with last."""

    __tablename__ = "calibration"

    device: Mapped[str] = mapped_column(
        ForeignKey("device.name", ondelete="CASCADE"), primary_key=True
    )
    created: Mapped[datetime] = mapped_column(Utc)
    profile_hash: Mapped[str] = mapped_column(ForeignKey("profile.hash"), index=True)


class DeviceRun(Base):
    """A run that was measured on a device; times are ns per inference."""

    __tablename__ = "device_run"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    device: Mapped[str] = mapped_column(ForeignKey("device.name", ondelete="CASCADE"))
    created: Mapped[datetime] = mapped_column(Utc)
    source: Mapped[str] = mapped_column(Text)
    """What the ETDump is called."""
    program_name: Mapped[str] = mapped_column(Text)
    etdump_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)
    program_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)
    """The program that ran, without its constants."""
    run_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)
    """The samples of the run, as JSON."""
    total_ns: Mapped[float] = mapped_column(Double)
    joined_ns: Mapped[float] = mapped_column(Double)
    """The time of dispatches that belong to an operator."""
    samples: Mapped[int]

    __table_args__ = (Index(None, "device", "created", "id"),)


class DeviceFit(Base):
    """How well a device's times are predicted, by the file from which that was computed."""

    __tablename__ = "device_fit"

    file_sha256: Mapped[str] = mapped_column(_SHA256, primary_key=True)
    planner: Mapped[str] = mapped_column(Text, primary_key=True)
    """The planner's release and revision."""
    fit_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)


class TuningRecord(Base):
    """A tuning on a device, as far as its machine has told."""

    __tablename__ = "tuning"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    device: Mapped[str] = mapped_column(ForeignKey("device.name", ondelete="CASCADE"))
    created: Mapped[datetime] = mapped_column(Utc)
    updated: Mapped[datetime] = mapped_column(Utc)
    program_name: Mapped[str] = mapped_column(Text)
    ended: Mapped[str | None] = mapped_column(Text)
    """Why it ended; None while it goes on."""
    document: Mapped[str] = mapped_column(Text)
    """Its plans and rounds, as JSON."""

    __table_args__ = (Index(None, "device", "created", "id"),)


class WorkerRecord(Base):
    """A worker: it is alive as long as its beat is new by the database's clock."""

    __tablename__ = "executor"

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    """Never used again."""
    host: Mapped[str] = mapped_column(Text)
    pid: Mapped[int]
    version: Mapped[str] = mapped_column(Text)
    started: Mapped[datetime] = mapped_column(Utc)
    beat: Mapped[datetime] = mapped_column(Utc)


def blob_references() -> list[Column[Any]]:
    """The columns of all tables that refer to blobs."""
    target = Base.metadata.tables["blob"].c.sha256
    return [
        column
        for table in Base.metadata.tables.values()
        for column in table.c
        if column.references(target)
    ]
