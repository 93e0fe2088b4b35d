"""How fast the service answers: as ratios against a static file of its own, in the same run."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import urlsplit

import numpy as np

from api.bench.background import Service, serving
from api.planning.warming import EXPORTED, LOWERED
from api.terminal.markdown import head, print_and_write, row
from planner.errors import PlannerError

CLIENTS: Final = (1, 8, 64)
_STATIC: Final = "/static/dashboard.css"
_ROUNDS: Final = 5
_WARM: Final = 20
_OVERLOAD: Final = 10
_TENTH: Final = 10
_PAUSE_SECONDS: Final = 0.5
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_POLL_SECONDS: Final = 0.1

Asked = Callable[[], bytes]
"""Draws the next request."""


@dataclass(slots=True)
class _Answers:
    """Seconds that answers took, and how many there were of each status."""

    seconds: list[float]
    statuses: Counter[int]

    def ms(self, percent: float) -> float:
        """A percentile, in milliseconds."""
        return float(np.percentile(self.seconds, percent)) * 1e3


class _Client:
    """A connection that is kept; it does less for a request than a library would."""

    def __init__(self, service: Service) -> None:
        self._at = urlsplit(service.address)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> int:
        """The status of an answer that has been read to its end."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(
                self._at.hostname, self._at.port
            )
        self._writer.write(request)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(answer)
        await self._reader.readexactly(int(length[1]) if length else 0)
        return int(answer[9:12])

    async def close(self) -> None:
        """Closes the connection."""
        if self._writer is not None:
            self._writer.close()
            with suppress(OSError):
                await self._writer.wait_closed()


def bench_service(requests: int, seconds: float, starts: int, output: Path | None) -> None:
    """Prints Markdown tables of a service that is started for it, on a small program.

    ``requests`` are sent to see whether memory grows; more than can be planned is asked for during
    ``seconds``; first plans are those of so many ``starts``. Raises ``PlannerError`` if the service
    does not start, or refuses.
    """
    with TemporaryDirectory(prefix="layout-planner-bench-") as folder:
        text = asyncio.run(_tables(Path(folder), requests, seconds, starts))
    print_and_write(text, output)


async def _tables(folder: Path, requests: int, seconds: float, starts: int) -> str:
    lowered, exported = LOWERED.read_bytes(), EXPORTED.read_bytes()
    limits = itertools.count(10**8)  # each asks for a plan of its own

    def plan(data: bytes, name: str) -> Asked:
        return lambda: _post(f"/plan?name={name}&profile=bytes&buffer_limit={next(limits)}", data)

    kinds: dict[str, Asked] = {
        "static file": lambda: _get(_STATIC),
        "`POST /plan`, in store": lambda: _post("/plan?name=small.pte&profile=bytes", lowered),
    }
    cold = plan(lowered, "small.pte")
    lines = [f"A `.pte` of {len(lowered):,} bytes, a `.pt2` of {len(exported):,}.", ""]
    firsts = {".pte": cold, ".pt2": plan(exported, "small.pt2")}
    lines += await _first_table(folder, firsts, starts)
    with serving(folder / "data", "--workers", "1") as service:
        await _until_ready(service)
        lines += await _kinds_table(service, kinds | {"`POST /plan` of a `.pte`, cold": cold})
        lines += await _clients_table(service, kinds)
        lines += await _memory(service, kinds, requests)
        lines += await _overload(service, cold, seconds)
    return "\n".join(lines)


async def _first_table(folder: Path, kinds: dict[str, Asked], starts: int) -> list[str]:
    """The first plan of a service, and its tenth: one of each kind in a start, so medians.

    There is a pause before each, as before the first: after one, all take longer.
    """
    ready, found = [], {kind: np.empty((starts, _TENTH)) for kind in kinds}
    for number in range(starts):
        start = time.perf_counter()
        with serving(folder / f"start-{number}", "--workers", "1") as service:
            await _until_ready(service)
            ready.append(time.perf_counter() - start)
            for kind, asked in kinds.items():
                for place in range(_TENTH):
                    await asyncio.sleep(_PAUSE_SECONDS)
                    (found[kind][number, place],) = (await _one_by_one(service, asked, 1)).seconds
    of = f" (median of {starts} starts)" if starts > 1 else ""
    lines = [f"Ready after {np.median(ready):.1f} s{of}.", ""]
    lines += head(("program", f"first plan, ms{of}", "tenth, ms"), 1)
    for kind, seconds in found.items():
        first, *_, tenth = np.median(seconds, axis=0) * 1e3
        lines.append(row([f"`{kind}`", f"{first:.1f}", f"{tenth:.1f}"]))
    return [*lines, ""]


async def _kinds_table(service: Service, kinds: dict[str, Asked]) -> list[str]:
    """By kind of request, one at a time; in turns, so that all see the same machine."""
    found: dict[str, list[_Answers]] = {name: [] for name in kinds}
    for _ in range(_ROUNDS):
        for name, asked in kinds.items():
            await _one_by_one(service, asked, 2)
            found[name].append(await _one_by_one(service, asked, _WARM))
    lines = list(head(("one client", "p50, ms", "p99, ms", "of a static file"), 1))
    medians = {name: _together(answers).ms(50) for name, answers in found.items()}
    static = next(iter(medians.values()))
    for name, answers in found.items():
        median = medians[name]
        p99 = _together(answers).ms(99)
        lines.append(row([name, f"{median:.2f}", f"{p99:.2f}", f"{median / static:.1f}"]))
    return [*lines, ""]


async def _clients_table(service: Service, kinds: dict[str, Asked]) -> list[str]:
    lines = list(head(("clients", "request", "p50, ms", "p99, ms", "a second"), 2))
    for clients in CLIENTS:
        for name, asked in kinds.items():
            start = time.perf_counter()
            answers = await _together_by(service, asked, clients, max(200, 20 * clients))
            rate = len(answers.seconds) / (time.perf_counter() - start)
            p50, p99 = answers.ms(50), answers.ms(99)
            lines.append(row([str(clients), name, f"{p50:.1f}", f"{p99:.1f}", f"{rate:.0f}"]))
    return [*lines, ""]


async def _memory(service: Service, kinds: dict[str, Asked], requests: int) -> list[str]:
    turns, sizes = itertools.cycle(kinds.values()), []

    def ask() -> bytes:
        return next(turns)()

    for part in (requests // 10, requests - requests // 10):
        await _together_by(service, ask, 8, part)
        sizes.append(_resident_mib(service))
    return [
        f"The server takes {sizes[0]:.0f} MiB after {requests // 10:,} requests, and "
        f"{sizes[1]:.0f} MiB after {requests:,}.",
        "",
    ]


async def _overload(service: Service, cold: Asked, seconds: float) -> list[str]:
    """Plans are asked for ten times as fast as they can be made, whatever comes of them."""
    alone = (await _one_by_one(service, cold, 10)).ms(50) / 1e3
    pause = alone / _OVERLOAD
    start, begun = time.perf_counter(), 0.0

    async def ask(number: int) -> tuple[int, float]:
        nonlocal begun
        await asyncio.sleep(start + number * pause - time.perf_counter())
        begun = time.perf_counter() - start
        return await _timed(service, cold())

    asked = asyncio.gather(*map(ask, range(max(_OVERLOAD, round(seconds / pause)))))
    health = []
    while not asked.done():
        health.append((await _timed(service, _get("/healthz")))[1])
        await asyncio.sleep(_POLL_SECONDS)
    answers = await asked
    statuses = Counter(status for status, _ in answers)
    shed = _Answers([took for status, took in answers if status == 503], statuses)
    told = f", told within {shed.ms(99):.0f} ms (p99)" if shed.seconds else ""
    other = len(answers) - statuses[200] - statuses[503]
    alive = _Answers(health, Counter())
    return [
        f"One by one it makes {1 / alone:.1f} plans a second. Asked for {len(answers)} in "
        f"{begun:.1f} s, it made {statuses[200]}, shed {statuses[503]} with 503{told}, and "
        f"answered {other} otherwise. Meanwhile `GET /healthz` took {alive.ms(50):.1f} ms (p50) "
        f"and {alive.ms(99):.1f} ms (p99).",
        "",
    ]


async def _until_ready(service: Service) -> None:
    while (await _timed(service, _get("/readyz")))[0] != 200:
        await asyncio.sleep(_POLL_SECONDS)


async def _timed(service: Service, request: bytes) -> tuple[int, float]:
    client, start = _Client(service), time.perf_counter()
    try:
        return await client.ask(request), time.perf_counter() - start
    finally:
        await client.close()


async def _one_by_one(service: Service, asked: Asked, count: int) -> _Answers:
    return await _together_by(service, asked, 1, count)


async def _together_by(service: Service, asked: Asked, clients: int, count: int) -> _Answers:
    """So many requests, by clients that each wait for an answer before they ask again."""
    found, left = _Answers([], Counter()), itertools.count()

    async def work() -> None:
        client = _Client(service)
        try:
            while next(left) < count:
                request, start = asked(), time.perf_counter()
                status = await client.ask(request)
                found.seconds.append(time.perf_counter() - start)
                found.statuses[status] += 1
        finally:
            await client.close()

    await asyncio.gather(*(work() for _ in range(clients)))
    if set(found.statuses) != {200}:
        raise PlannerError(f"the service answered {dict(found.statuses)}")
    return found


def _together(parts: list[_Answers]) -> _Answers:
    return _Answers([took for part in parts for took in part.seconds], Counter())


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def _post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _resident_mib(service: Service) -> float:
    lines = Path(f"/proc/{service.process.pid}/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(kib) / 1024
