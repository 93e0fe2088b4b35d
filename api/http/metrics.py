"""What the service does, counted for Prometheus."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.request_ids import PROBLEM, route_of
from api.jobs.jobs import Jobs
from api.jobs.register import WorkerRegister
from api.planning.process import CrashError, LostProcessError, OvertimeError, ProcessError
from api.store.database import UnreachableError
from api.store.plans import PlanStore
from api.store.tables import Plan

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_GAPS: Final = (0, 0.001, 0.01, 0.05, 0.1, 0.5)
_REASONS: Final[dict[type[ProcessError], str]] = {
    OvertimeError: "time",
    LostProcessError: "killed",
    CrashError: "crash",
}


class Metrics:
    """The figures of one server, since its start."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "layout_planner_requests",
            "Requests that were answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "layout_planner_request_seconds",
            "Seconds until a request was answered.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.problems = Counter(
            "layout_planner_problems",
            "Requests that could not be served, by the kind of problem.",
            ("kind",),
            registry=self.registry,
        )
        self.stored_plans = Counter(
            "layout_planner_plan_cache_hits",
            "Requests for plans that were in the store.",
            registry=self.registry,
        )
        self.plans = Counter(
            "layout_planner_plans",
            "Plans that were made for requests, by how sure they are.",
            ("status",),
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "layout_planner_plan_stage_seconds",
            "Seconds of each stage of the plans that were made.",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.gap = Histogram(
            "layout_planner_plan_gap",
            "How much costlier a plan may be than the best one, as a share of its cost.",
            buckets=_GAPS,
            registry=self.registry,
        )
        self.saved = Counter(
            "layout_planner_saved_cost",
            "Repack cost that plans save, once each, in the unit of their costs.",
            ("unit",),
            registry=self.registry,
        )
        self.pending = Gauge(
            "layout_planner_plans_pending",
            "Plans that are made now, or wait to be.",
            registry=self.registry,
        )
        self.removed = Counter(
            "layout_planner_removed",
            "Plans and jobs that went, by age or because the store was full.",
            ("kind", "reason"),
            registry=self.registry,
        )
        self.kills = Counter(
            "layout_planner_planning_processes_ended",
            "Planning processes that ended before their work did, by reason.",
            ("reason",),
            registry=self.registry,
        )

    def made(self, plan: Plan) -> None:
        """Counts a plan that was made."""
        self.plans.labels(plan.status).inc()
        self.gap.observe(plan.gap)
        if math.isfinite(plan.saved_cost) and plan.saved_cost > 0:
            self.saved.labels(plan.unit).inc(plan.saved_cost)

    def failed(self, error: ProcessError) -> None:
        """Counts a planning process that ended early."""
        reason = next((r for kind, r in _REASONS.items() if isinstance(error, kind)), "stopped")
        self.kills.labels(reason).inc()

    def text(self) -> bytes:
        """All figures, in Prometheus's text format."""
        return generate_latest(self.registry)


class StoreFigures(Collector):
    """Figures that are read when they are asked for: workers, tasks by state, room on the disk."""

    def __init__(
        self, store: PlanStore, register: WorkerRegister, jobs: Jobs, folder: Path
    ) -> None:
        self._store, self._register, self._jobs, self._folder = store, register, jobs, folder

    def describe(self) -> list[Metric]:
        """Nothing: what there is takes the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The figures; those of the database are missing while it is away."""
        room = shutil.disk_usage(self._folder)
        yield GaugeMetricFamily(
            "layout_planner_disk_free_bytes", "Room where plans are kept.", value=room.free
        )
        try:
            workers, tasks = len(self._register.alive()), self._jobs.task_counts()
            stored = self._store.stored_bytes()
        except UnreachableError:
            yield GaugeMetricFamily("layout_planner_database_up", "The database.", value=0)
            return
        yield GaugeMetricFamily("layout_planner_database_up", "The database.", value=1)
        yield GaugeMetricFamily("layout_planner_workers", "Workers that are alive.", value=workers)
        yield GaugeMetricFamily(
            "layout_planner_store_bytes", "Bytes of the files in the store.", value=stored
        )
        states = GaugeMetricFamily(
            "layout_planner_tasks", "Tasks of jobs, by state.", labels=["state"]
        )
        for state, count in tasks.items():
            states.add_metric([state], count)
        yield states


class CountRequests:
    """Counts requests by the route that answers them; ``app.state.metrics`` has the figures."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            metrics: Metrics = scope["app"].state.metrics
            route = route_of(scope)
            metrics.requests.labels(scope["method"], route, status).inc()
            metrics.request_seconds.labels(route).observe(time.perf_counter() - start)
            if PROBLEM in scope:
                metrics.problems.labels(scope[PROBLEM]).inc()
