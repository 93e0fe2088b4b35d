"""Planning processes as the service sees them: each does a piece of work, and is heard no more."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import Final

from api.jail.bubblewrap import wrapped
from api.jail.places import code_places
from api.planning import zygote
from api.planning.files import opened
from api.planning.messages import (
    MOST_BYTES,
    Begun,
    Crash,
    Done,
    Ended,
    Full,
    Missing,
    Refusal,
    Stage,
    unpacked,
)
from api.planning.owner import NOBODY, Owner
from api.planning.work import Needs, OnStage, Work, ignore_stage
from api.planning.zygote import ZygoteSettings
from api.store.room import FullDiskError

_END_SECONDS: Final = 5.0
"""How long a process may take to end once it was killed."""
_MOST_STAGES: Final = 10_000
"""More than any program has delegates."""
_log = logging.getLogger(__name__)
_KEPT_VARIABLES: Final = ("PATH", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV")


class ProcessError(Exception):
    """Work did not come to an end, for a reason that is not in what was asked for."""


class CrashError(ProcessError):
    """Planning failed in a way that was not foreseen."""


class LostProcessError(ProcessError):
    """The planning process ended in the middle of its work."""


class OvertimeError(ProcessError):
    """The work was stopped because it took longer than it may."""


class StoppedError(ProcessError):
    """The service shuts down, and the work with it."""


class Zygote:
    """The process from which planning processes are forked, started for the first of them."""

    def __init__(self, settings: ZygoteSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._is_warm, self._has_ended = threading.Event(), threading.Event()

    @property
    def is_warm(self) -> bool:
        """Whether all is imported that a first piece of work would else wait for."""
        return self._is_warm.is_set()

    def start(self) -> None:
        """Starts it, unless it runs."""
        with self._lock:
            self._running()

    def stop(self) -> None:
        """Ends it with all the processes that it started; the next work starts another."""
        with self._lock:
            self._kill()

    async def run(
        self,
        work: Work,
        seconds: float,
        on_stage: OnStage = ignore_stage,
        owner: Owner = NOBODY,
    ) -> asyncio.Future[None]:
        """Has work done by a process that has seen no other owner's.

        Returns once it is done, with the end of that: until then, and for as long as it is kept,
        the process may write to its files. It is gone when this raises. ``seconds`` count from when
        there is a process. Raises ``PlannerError``, ``ProcessError`` and ``FullDiskError``. To
        cancel this kills the process.
        """
        number = next(self._numbers)
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MOST_BYTES)
        process = _Process(work, reader, on_stage)
        try:
            await self._ask(work, number, theirs, owner)
            await process.follow(seconds)
        finally:
            end = asyncio.ensure_future(self._end(process, number))
            end.add_done_callback(lambda _: writer.close())
            if not process.is_done:
                await asyncio.shield(end)
        process.conclude(seconds)
        return end

    async def _ask(self, work: Work, number: int, theirs: socket.socket, owner: Owner) -> None:
        """Asks for a process, which will be heard at the other end of ``theirs``."""
        sending = asyncio.ensure_future(asyncio.to_thread(self._send, work, number, theirs, owner))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            # Its thread goes on: only what has been asked for can be ended.
            await asyncio.wait([sending])
            raise

    def _send(self, work: Work, number: int, theirs: socket.socket, owner: Owner) -> None:
        runs_programs = work.needs is Needs.TORCH_AND_PROGRAMS
        told = b"%b %d" % (zygote.PROGRAMS if runs_programs else zygote.WORK, number)
        told += b"" if runs_programs else b" " + owner.encode()
        with theirs, tempfile.TemporaryFile() as request, opened(work.reads, work.writes) as files:
            # A pickle goes to a process that is trusted; what comes back is JSON.
            pickle.dump(work, request)
            request.flush()
            descriptors = [theirs.fileno(), request.fileno(), *files.descriptors.values()]
            with self._lock:
                # It may have ended since: once more, then.
                for is_last in (False, True):
                    try:
                        socket.send_fds(self._running(), [told], descriptors)
                        return
                    except ConnectionError as error:
                        # It listens no more, but may still be on its way to its end.
                        self._kill()
                        if is_last:
                            raise LostProcessError(
                                f"the process that was to plan {work.name} has ended: try again"
                            ) from error

    async def _end(self, process: _Process, number: int) -> None:
        """Ends a process unless it has ended or is kept, and waits for that."""
        if process.has_ended:
            return
        self._tell(zygote.DONE if process.is_done else zygote.KILL, number)
        if not (process.has_begun or self.is_warm):
            return  # it will be killed as it begins, after all imports
        try:
            async with asyncio.timeout(_END_SECONDS):
                await process.pass_over()
        except TimeoutError:
            # Nothing that a zygote waits for takes that long: it goes, with all its processes.
            await asyncio.to_thread(self.stop)

    def _tell(self, verb: bytes, number: int) -> None:
        with self._lock, suppress(OSError):
            if self._control is not None:
                self._control.send(b"%b %d" % (verb, number))

    def _running(self) -> socket.socket:
        if self._control is not None and not self._has_ended.is_set():
            return self._control
        if self._control is not None:
            self._control.close()
        self._is_warm, self._has_ended = threading.Event(), threading.Event()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        started: SimpleQueue[OSError | None] = SimpleQueue()
        # bubblewrap ends what is inside when the thread that started it ends: this one lives on.
        threading.Thread(
            target=self._live,
            args=(self._control, theirs, started, self._is_warm, self._has_ended),
            name="zygote",
            daemon=True,
        ).start()
        error = started.get()
        if error is not None:
            self._has_ended.set()
            raise LostProcessError(f"no planning process can be started: {error}")
        return self._control

    def _live(
        self,
        control: socket.socket,
        theirs: socket.socket,
        started: SimpleQueue[OSError | None],
        is_warm: threading.Event,
        has_ended: threading.Event,
    ) -> None:
        try:
            with theirs:
                self._process = subprocess.Popen(
                    self._command(theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=_environment(),
                )
        except OSError as error:
            started.put(error)
            return
        started.put(None)
        with suppress(OSError):
            if control.recv(16) == zygote.WARM:
                is_warm.set()
        self._process.wait()
        has_ended.set()
        is_warm.clear()

    def _command(self, control: int) -> list[str]:
        bubblewrap = self._settings.jail.bubblewrap
        around = (
            wrapped(bubblewrap, code_places(zygote.PACKAGES), _environment()) if bubblewrap else []
        )
        # With -P nothing is imported from the current directory.
        code = "from api.planning.zygote import main; main()"
        return [*around, sys.executable, "-P", "-c", code, self._settings.to_json(), str(control)]

    def _kill(self) -> None:
        """Ends it now, whatever it does."""
        if self._control is not None:
            # Its processes end with it, and it with its connection, as far as it listens.
            with suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._has_ended.wait()


class _Process:
    """A planning process, by what is heard of it."""

    def __init__(self, work: Work, reader: asyncio.StreamReader, on_stage: OnStage) -> None:
        self._work, self._reader, self._on_stage = work, reader, on_stage
        self._said: Done | Refusal | Missing | Crash | Full | None = None
        self._status: int | None = None
        self._stages = 0
        self.has_begun = self.has_ended = False
        self._is_late = self._is_strange = False

    @property
    def is_done(self) -> bool:
        """Whether it says that its work is done."""
        return isinstance(self._said, Done)

    async def follow(self, seconds: float) -> None:
        """Returns when its work is done or nothing is left of it, when it had its time, or when it
        talks nonsense."""
        while not (self.has_begun or self.has_ended or self._is_strange):
            await self._next()
        try:
            async with asyncio.timeout(seconds):
                while not (self.is_done or self.has_ended or self._is_strange):
                    await self._next()
        except TimeoutError:
            self._is_late = True

    async def pass_over(self) -> None:
        """Returns when nothing is left of it, whatever it still says."""
        with suppress(OSError):
            while await self._reader.read(MOST_BYTES):
                pass
        self.has_ended = True

    async def _next(self) -> None:
        try:
            message = unpacked(await self._reader.readuntil(b"\n"))
        except (asyncio.IncompleteReadError, OSError):
            # Both ends are closed, the process's and the zygote's: all that it cannot feign.
            self.has_ended = True
            return
        except (asyncio.LimitOverrunError, ValueError):
            self._is_strange = True
            return
        match message:
            case Stage():
                self._stages += 1
                self._is_strange = self._stages > _MOST_STAGES
                self._on_stage(message.stage)
            case Ended():
                self._status = message.status  # the last one is the zygote's
            case Begun():
                self.has_begun = True
            case _:
                self._said = self._said or message

    def conclude(self, seconds: float) -> None:
        """Raises what came of the work, unless it is done."""
        name, said = self._work.name, self._said
        if self._is_late:
            raise OvertimeError(
                f"planning {name} took longer than {seconds:g} s and was stopped: "
                "hand in a smaller program, or give the service more time"
            )
        if self._is_strange:
            raise CrashError(f"planning {name} failed: its process says what none should say")
        match said:
            case Done():
                return
            case Crash():
                if said.trace:
                    _log.error("planning %s failed", name, extra={"trace": said.trace})
                raise CrashError(f"planning {name} failed: {said.crash}")
            case Full():
                raise FullDiskError(f"the plan of {name}")
            case Refusal() | Missing():
                raise said.error()
        raise LostProcessError(
            f"the process that was planning {name} {_ending(self._status)}: "
            "try again, with more memory if that ran out"
        )


def _ending(status: int | None) -> str:
    if status is None:
        return "is gone"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"has ended with exit code {code}" if code else "has ended"
    if -code == signal.SIGXCPU:
        return "has been stopped: it took more processor time than it may"
    known = {number.value: number.name for number in signal.Signals}
    return f"has been killed by {known.get(-code, f'signal {-code}')}"


def _environment() -> dict[str, str]:
    """The variables of a zygote: none that holds what the service must keep to itself."""
    found = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    # What measures which lines run is told so by variables of its own.
    found |= {k: v for k, v in os.environ.items() if k.startswith("COVERAGE_")}
    # An honest .pt2 needs no unpickling of arbitrary objects.
    return found | {
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/nonexistent",
        "TMPDIR": "/tmp",  # with bubblewrap, one of its own
    }
