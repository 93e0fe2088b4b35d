"""The service as an application in this process: what takes its insides to show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from fastapi import FastAPI

from api.http.app import Settings, create_app
from api.http.service import PlanningPool
from api.planning.owner import NOBODY, Owner
from api.planning.work import OnStage, PlanWork, Work, ignore_stage
from tests.api.store.drafts import write_files


async def write_plan(work: PlanWork) -> None:
    """Writes the files of a plan, without planning."""
    write_files(work.source, work.files, work.name)


@dataclass
class StandIn:
    """A pool that does what a test says with each piece of work, and names its stage after it."""

    plan: Callable[[PlanWork], Awaitable[None]] = write_plan
    works: list[PlanWork] = field(default_factory=list)
    is_stopped: bool = False

    async def run(
        self, work: Work, on_stage: OnStage = ignore_stage, owner: Owner = NOBODY
    ) -> None:
        """Takes note of work and does it."""
        assert isinstance(work, PlanWork)
        self.works.append(work)
        on_stage(f"planning {work.name}")
        await self.plan(work)

    def stop(self) -> None:
        """Takes note of the end."""
        self.is_stopped = True

    def unready(self) -> str | None:
        """Nothing: it is ready."""
        return None


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that runs meanwhile."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


def run(
    settings: Settings,
    body: Callable[[httpx.AsyncClient], Awaitable[None]],
    pool: PlanningPool | None = None,
) -> None:
    """Runs an application for a client."""

    async def run() -> None:
        async with client_of(create_app(settings, pool)) as client:
            await body(client)

    asyncio.run(run())


def uploads(scratch: Path) -> list[Path]:
    """What is there of uploads."""
    return list(scratch.glob("*/data/scratch/*/uploads/*"))


async def until_removed(scratch: Path) -> None:
    """Waits until nothing is left of uploads."""
    while uploads(scratch):
        await asyncio.sleep(0.01)
