"""Everything that a server needs fails at random while clients plan: nothing is lost or wrong.

Planning processes are killed, the disk is full, files of the store are spoilt, the database is
away, the clock is moved. Each request is answered, with the right plan or with what is wrong.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from api.planning.repair import repair
from api.store.check import check_store
from api.store.plans import open_store
from planner.options import make_options
from planner.pipelines.dispatch import plan_program
from tests.api import postgres
from tests.api.clocks import MovedClock
from tests.api.disks import SmallDisk, small_disk
from tests.api.graphs import graph
from tests.api.jobs.plant import PATIENCE, wait
from tests.api.planned import lowered
from tests.api.planning.processes import planning_pids, pool_of, zygote_pids

pytestmark = [pytest.mark.chaos, pytest.mark.server, pytest.mark.postgresql]

SEED = 20261127
CLIENTS = 8
QUEUE = 6
STEPS = 14
BETWEEN = (1, 4)
"""Answers between one fault and the next: at least and at most."""
SPOILT = 3
"""Files that are spoilt at a time."""
MEGABYTES = 384
"""A server on a disk with less than 256 MB of room is not ready."""

TOLD: Final = {
    "planning-ended": "kill",
    "store-full": "disk",
    # Uploads that wait to be planned have files, whose room is free when they are.
    "uploads-full": "disk",
    "store-away": "database",
    "file-lost": "spoil",
    "queue-full": None,
}
"""The problems that a request may be answered with, and the fault that there has to be then."""

_LAYOUTS: Final = ("TENSOR_WIDTH_PACKED", "TENSOR_HEIGHT_PACKED", "TENSOR_CHANNELS_PACKED")


@cache
def _programs() -> tuple[bytes, ...]:
    large = lowered() + bytes(2**17)  # more than is received in memory
    return *(graph(8 + number, 3 + number) for number in range(5)), large


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a plan: which program, and with which options."""

    program: int
    objective: str
    layout: str | None
    buffer_limit: int

    @property
    def body(self) -> bytes:
        """The program."""
        return _programs()[self.program]

    @property
    def query(self) -> dict[str, Any]:
        """The options."""
        without = {} if self.layout is None else {"without_layout": self.layout}
        known = {"objective": self.objective, "buffer_limit": self.buffer_limit}
        return {"profile": "bytes", "name": "net", **known, **without}


@cache
def _planned(asked: Asked) -> bytes:
    """What it has to be answered with: the plan that is made where nothing fails."""
    options = make_options(
        "bytes",
        asked.objective,
        buffer_limit=asked.buffer_limit,
        without_layouts=() if asked.layout is None else [asked.layout],
    )
    return plan_program(asked.body, "net", options).flatbuffer()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a request, and when it was asked for and there."""

    asked: Asked
    begun: float
    ended: float
    response: httpx.Response

    @property
    def problem(self) -> str | None:
        """The kind of problem that it tells of; None for a plan."""
        if self.response.status_code == 200:
            return None
        assert self.response.headers["content-type"] == "application/problem+json", self
        kind: str = self.response.json()["type"]
        return kind.removeprefix("/problems/")

    def check(self) -> None:
        """Asserts that it is the plan, or says what is wrong."""
        if self.problem is None:
            assert self.response.content == _planned(self.asked)
            return
        found = self.response.json()
        assert self.problem in TOLD, found
        assert found["status"] == self.response.status_code != 500
        assert found["title"] and found["detail"] and found["remedy"]
        assert found["request_id"] == self.response.headers["x-request-id"]


class Answers:
    """All answers, as they come."""

    def __init__(self) -> None:
        self.all: list[Answer] = []
        self._counts: Counter[str | None] = Counter()
        self._turn = threading.Lock()
        self._has_failed = False

    def add(self, answer: Answer) -> None:
        """Takes note of one."""
        with self._turn:
            self.all.append(answer)
            self._counts[answer.problem] += 1

    def fail(self, future: Future[None]) -> None:
        """Has those who wait know that a client has given up."""
        self._has_failed |= future.exception() is not None

    def count(self) -> Counter[str | None]:
        """How many there are of each problem, and of plans."""
        with self._turn:
            return self._counts.copy()

    def wait(self, holds: Callable[[Counter[str | None]], bool]) -> None:
        """Waits until something holds of those that come from now on."""
        before = self.count()

        def is_over() -> bool:
            return self._has_failed or holds(self.count() - before)

        wait(is_over)
        assert not self._has_failed, "a client was not answered"

    def wait_for(self, most: int) -> None:
        """Waits for so many."""
        self.wait(lambda new: _served(new) >= most)


def _tells(problem: str, count: Counter[str | None]) -> bool:
    return count[problem] > 0


def _served(count: Counter[str | None]) -> int:
    """All but those who found the queue full: they ask again at once, and waited for nothing."""
    return count.total() - count["queue-full"]


class Client:
    """Asks for plans until it is told to stop: some that there are, some that are new."""

    numbers = itertools.count(2**27)

    def __init__(self, base: str, chance: random.Random, answers: Answers) -> None:
        self._base, self._chance, self._answers = base, chance, answers

    def run(self, stopped: threading.Event) -> None:
        """Asks, one request after the other."""
        with httpx.Client(base_url=self._base, timeout=PATIENCE) as http:
            asked = self._next()
            while not stopped.is_set():
                answer = _ask(http, asked)
                self._answers.add(answer)
                # What was refused is mostly asked for again.
                if answer.problem is None or self._chance.random() < 0.2:
                    asked = self._next()

    def _next(self) -> Asked:
        chance, known = self._chance, self._answers.all
        if known and chance.random() < 0.4:
            return chance.choice(known).asked
        objective = chance.choice(("repack", "latency"))
        if chance.random() < 0.1:
            return Asked(len(_programs()) - 1, objective, None, 2**27)
        program = chance.randrange(len(_programs()) - 1)
        return Asked(program, objective, chance.choice((None, *_LAYOUTS)), next(self.numbers))


def _ask(http: httpx.Client, asked: Asked) -> Answer:
    begun = time.monotonic()
    response = http.post("/plan", content=asked.body, params=asked.query)
    return Answer(asked, begun, time.monotonic(), response)


class Faults:
    """What fails around a server, and when it did."""

    def __init__(
        self,
        pid: int,
        data: Path,
        disk: SmallDisk,
        cluster: postgres.Cluster,
        clock: MovedClock,
        chance: random.Random,
        answers: Answers,
    ) -> None:
        self._pid, self._blobs, self._disk = pid, data / "blobs", disk
        self._cluster, self._clock = cluster, clock
        self._chance, self._answers = chance, answers
        self._begun: dict[str, float] = {}
        self.ended: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        """When each was, from its begin to its end."""

    def toggle(self, name: str) -> None:
        """Begins one, or ends it if it lasts."""
        begin, end = {
            "kill": (self._kill, None),
            "kill zygote": (self._kill_zygote, None),
            "disk": (self._disk.fill, self._disk.empty),
            "spoil": (self.spoil, None),
            "database": (self._cluster.stop, self._cluster.start),
            "clock": (self._move_clock, None),
        }[name]
        if name in self._begun:
            assert end is not None
            end()
            self._end(name)
            return
        self._begun[name] = time.monotonic()
        begin()
        if end is None:
            self._end(name)

    def end(self) -> None:
        """Ends all that last."""
        for name in list(self._begun):
            self.toggle(name)
        self._clock.move(0)

    def were_there(self, name: str, answer: Answer) -> bool:
        """Whether there was one while an answer was made."""
        return any(
            begun <= answer.ended and answer.begun <= ended for begun, ended in self.ended[name]
        )

    def _end(self, name: str) -> None:
        kind = "kill" if name == "kill zygote" else name
        self.ended[kind].append((self._begun.pop(name), time.monotonic()))

    def _kill(self) -> None:
        """Kills planning processes until one is missed, or there are none to kill."""

        def is_missed(new: Counter[str | None]) -> bool:
            for pid in planning_pids(self._pid):
                _kill(pid)
            return new["planning-ended"] > 0 or _served(new) >= BETWEEN[1]

        self._answers.wait(is_missed)

    def _kill_zygote(self) -> None:
        """Kills what planning processes are forked from: it plans no exported programs."""
        for pid in zygote_pids(self._pid):
            if b'"uses_torch": false' in Path(f"/proc/{pid}/cmdline").read_bytes():
                _kill(pid)
                wait(partial(_is_gone, pid))

    def spoil(self, but: frozenset[str] = frozenset()) -> None:
        """Changes a bit of some files of the store, and deletes others."""
        found = [path for path in sorted(self._blobs.glob("??/??/*")) if path.name not in but]
        for path in self._chance.sample(found, min(SPOILT, len(found))):
            with suppress(FileNotFoundError):  # its plan may be forgotten at this moment
                if self._chance.random() < 0.3:
                    path.unlink()
                else:
                    self._flip(path)

    def _flip(self, path: Path) -> None:
        with path.open("r+b") as file:
            place = self._chance.randrange(path.stat().st_size)
            file.seek(place)
            byte = file.read(1)[0] ^ 1 << self._chance.randrange(8)
            file.seek(place)
            file.write(bytes([byte]))

    def _move_clock(self) -> None:
        self._clock.move(self._chance.choice((-30, -5, -1, 0, 2, 7, 50)))


def _is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextmanager
def _serving(data: Path, url: str, log: Path, environment: dict[str, str]) -> Iterator[Any]:
    """A server as it is started by hand, and where it listens."""
    program = Path(sys.executable).with_name("layout-planner")
    command = [
        *(str(program), "serve", "--port", "0", "--data-dir", str(data), "--database", url),
        *("--workers", "0", "--queue", str(QUEUE)),
    ]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=os.environ | environment, text=True
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Listening on "), log.read_text()
        yield process, line.removeprefix("Listening on ").strip()
    finally:
        process.kill()
        process.wait()


def test_nothing_is_lost_or_wrong_while_everything_fails(tmp_path: Path) -> None:
    chance, answers = random.Random(SEED), Answers()
    clock = MovedClock(tmp_path / "clock")
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(tmp_path / "disk", MEGABYTES))
        cluster = stack.enter_context(postgres.running())
        url = stack.enter_context(cluster.database())
        data, temporary, log = disk.folder / "data", disk.folder / "tmp", tmp_path / "log"
        temporary.mkdir()
        environment = {**clock.environment, "TMPDIR": str(temporary)}
        process, base = stack.enter_context(_serving(data, url, log, environment))
        faults = Faults(process.pid, data, disk, cluster, clock, chance, answers)
        http = stack.enter_context(httpx.Client(base_url=base, timeout=PATIENCE))
        before = _descriptors(process.pid)

        stopped = threading.Event()
        with ThreadPoolExecutor(CLIENTS) as threads:
            clients = []
            try:
                for number in range(CLIENTS):
                    client = Client(base, random.Random(f"{SEED} {number}"), answers)
                    clients.append(threads.submit(client.run, stopped))
                    clients[-1].add_done_callback(answers.fail)
                _spread(faults, answers, chance)
                faults.end()
            finally:
                stopped.set()
                for done in clients:
                    done.result()

        # Each was the right plan, or told of a fault that there was.
        for answer in answers.all:
            answer.check()
            fault = TOLD.get(answer.problem or "")
            assert fault is None or faults.were_there(fault, answer), answer.response.text
        counts = answers.count()
        assert {"planning-ended", "store-full", "store-away", None} <= set(counts), counts

        # All goes on as if nothing had been, whatever was refused or spoilt.
        wait(lambda: http.get("/readyz").status_code == 200)
        asked = list(dict.fromkeys(answer.asked for answer in answers.all))
        again = [_ask(http, each) for each in asked]
        for answer in again:
            assert answer.problem is None, answer.response.text
            answer.check()
        made = {answer.response.headers["location"]: answer.asked for answer in again}
        for answer in answers.all:
            if answer.problem is None:
                assert made[answer.response.headers["location"]] == answer.asked

        # Nothing is left over.
        wait(lambda: planning_pids(process.pid) == [])
        zygotes = zygote_pids(process.pid)
        assert len(zygotes) == 2
        wait(lambda: list(data.glob("scratch/*/uploads/*")) == [])
        assert list(data.glob("blobs/unfinished/*")) == []
        assert list(temporary.iterdir()) == []
        wait(lambda: _are_left(before, _descriptors(process.pid)))

        # What nobody asks for again is mended by hand.
        sources = frozenset(
            http.post("/inputs", content=each).json()["sha256"] for each in _programs()
        )
        http.close()
        for _ in range(3):
            faults.spoil(but=sources)
        process.terminate()
        assert process.wait(PATIENCE) == 0
        wait(lambda: all(map(_is_gone, zygotes)))
        assert list(data.glob("scratch/*/*")) == []
        _check_mended(data, url, made)
        said = log.read_text()
        assert "Traceback" not in said, said
    print(f"{len(answers.all)} answers: {dict(counts)}; {len(asked)} requests")


def _spread(faults: Faults, answers: Answers, chance: random.Random) -> None:
    """Has all faults come and go, by the number of answers."""
    answers.wait_for(CLIENTS)
    # Each that lasts once by itself, until it is told of.
    for name, problem in (("disk", "store-full"), ("database", "store-away")):
        faults.toggle(name)
        answers.wait(partial(_tells, problem))
        faults.toggle(name)
    while answers.count()["planning-ended"] == 0:
        faults.toggle("kill")
    names = ("kill", "kill zygote", "disk", "spoil", "spoil", "database", "clock", "clock")
    drawn = [*names] * (STEPS // len(names))
    chance.shuffle(drawn)
    for name in drawn:
        answers.wait_for(chance.randint(*BETWEEN))
        faults.toggle(name)


def _descriptors(pid: int) -> Counter[str]:
    """What a process has open, by kind: where files are, else what they are."""
    found: Counter[str] = Counter()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found[re.sub(r"\[.*\]", "", str(descriptor.readlink()))] += 1
    return found


def _are_left(before: Counter[str], after: Counter[str]) -> bool:
    """Whether no more is open than before, but the connections of a database that are kept."""
    more = after - before
    return more.total() == more["socket:"] <= 5


def _check_mended(data: Path, url: str, made: dict[str, Asked]) -> None:
    """A store is not whole, is repaired, and is whole: with each plan."""
    store = open_store(data, url)
    try:
        found = check_store(store)
        assert not found.is_whole

        async def mend() -> None:
            async for each in repair(store, found.damages, pool_of(), data / "scratch"):
                assert each.is_mended, each

        asyncio.run(mend())
        found = check_store(store)
        assert found.is_whole and found.plans == len(made), found
        for location, asked in made.items():
            plan = store.get(location.removeprefix("/plans/"))
            assert plan is not None
            graph_bytes = store.path(plan.graph_sha256).read_bytes()
            assert hashlib.sha256(graph_bytes).hexdigest() == plan.graph_sha256
            assert graph_bytes == _planned(asked)
    finally:
        store.close()
