"""The process from which planning processes are forked: it has imported what they need, and waits.

It reads nothing of what it hands on. Each piece of work gets a process that has seen no other
owner's, and that went into the jail before it looked at what it was given. The process ends with
the work, or is kept for a while for more of the same owner, which it does sooner than a new one.
One is there ahead of its work, and waits for it in the jail: what starting one takes, the work does
not wait for.
"""

from __future__ import annotations

import gc
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, NoReturn

from api.jail.jail import Jail
from api.jail.landlock import READ, RUN, Access
from api.jail.libc import name_process
from api.jail.limits import Limits
from api.jail.places import code_places
from api.jail.privileges import hide_memory
from api.jail.syscalls import has_seccomp
from api.planning.life import IDLE, MOST_FILES, WAITS, Life, lead_group, say
from api.planning.messages import Begun, Ended, crash_of
from api.planning.owner import ANYBODY, NOBODY, Owner
from api.planning.pages import Pages, own_pages
from api.planning.warming import warm

PACKAGES: Final = ("api", "gpu", "planner", "schema", "solver")
WARM: Final = b"warm"
WORK: Final = b"work"
PROGRAMS: Final = b"programs"
"""Work that runs other programs."""
KILL: Final = b"kill"
DONE: Final = b"done"
"""The process ends, too, unless it waits for more work of the same owner."""
_FACTS: Final = ("/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system", "/sys/fs/cgroup")
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


@dataclass(frozen=True, slots=True)
class ZygoteSettings:
    """How a zygote's processes run: the jail, their limits, and whether torch is there for them.

    A process is kept for its owner until it has waited for ``idle_seconds``, or has done
    ``most_work``.
    """

    jail: Jail
    limits: Limits
    uses_torch: bool
    idle_seconds: float = 10
    most_work: int = 100

    def to_json(self) -> str:
        """The settings in one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ZygoteSettings:
        """The settings that such a line holds."""
        found = json.loads(text)
        jail, limits = Jail(**found.pop("jail")), Limits(**found.pop("limits"))
        return cls(jail, limits, **found)


@dataclass(slots=True)
class _Waiting:
    """A process that waits for work, where it gets some, and since when.

    Once it has ``done`` some, it is the ``owner``'s.
    """

    pid: int
    line: socket.socket
    owner: Owner = ANYBODY
    done: int = 0
    since: float = 0


@dataclass(slots=True)
class _Child:
    """A process that plans: the service's number of it, where it is heard, and its folder.

    ``waiting`` is what it was before, and may be again.
    """

    number: int
    reply: socket.socket
    folder: str | None
    waiting: _Waiting | None


class _Zygote:
    def __init__(self, control: socket.socket, settings: ZygoteSettings, pages: Pages) -> None:
        """Processes have copies of ``pages`` made before they begin."""
        self._control = control
        self._settings = settings
        self._spare: _Waiting | None = None
        self._kept: list[_Waiting] = []  # those that wait the longest first
        places = code_places(PACKAGES)
        allowed = [
            *((place, RUN) for place in places),
            *((Path(name), READ) for name in _FACTS),
            *((Path(name), READ | Access.WRITE_FILE) for name in _DEVICES),
        ]
        self._life = Life(settings.jail, settings.limits, allowed, pages)
        self._children: dict[int, _Child] = {}  # by pid
        self._signalled, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakes)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> NoReturn:
        """Starts and ends processes as it is told; ends with the service."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._signalled, select.POLLIN)
        reads, writes = os.pipe()
        self._have_spare(writes)
        os.close(writes)
        os.read(reads, 1)  # its end, once the process is in the jail
        os.close(reads)
        self._control.send(WARM)
        while True:
            for descriptor, _ in poll.poll(self._patience()):
                if descriptor == self._signalled:
                    with suppress(BlockingIOError):
                        os.read(self._signalled, 4096)
                    self._reap()
                elif not self._obey():
                    waiting = self._kept if self._spare is None else [*self._kept, self._spare]
                    for pid in (*self._children, *(each.pid for each in waiting)):
                        _kill(pid)
                    os._exit(0)
            self._dismiss_idle()

    def _obey(self) -> bool:
        """Does what the service says; False where it is no more."""
        told, descriptors, _, _ = socket.recv_fds(self._control, 256, MOST_FILES + 2)
        if not told:
            return False
        verb, number, *owner = told.split()
        if verb == WORK:
            self._begin(int(number), descriptors, Owner(owner[0].decode()))
        elif verb == PROGRAMS:
            self._begin(int(number), descriptors)
        else:
            for pid, child in list(self._children.items()):
                if child.number == int(number) and not (verb == DONE and self._keep(child)):
                    _kill(pid)
        return True

    def _begin(self, number: int, descriptors: list[int], owner: Owner | None = None) -> None:
        """Starts work; what has no ``owner`` runs programs."""
        reply, request, *files = descriptors
        connection, folder = socket.socket(fileno=reply), None
        pid = waiting = None
        try:
            if owner is None:
                folder = tempfile.mkdtemp(prefix="layout-planner-")
                pid = self._start(replace(self._life, given=descriptors, folder=folder))
            else:
                waiting = self._give(owner, descriptors)
                new = replace(self._life, given=descriptors)
                pid = self._start(new) if waiting is None else waiting.pid
        except OSError as error:
            say(connection, crash_of(f"no planning process can be started: {error}", ""))
            say(connection, Ended(status=0))
        for descriptor in (request, *files):
            os.close(descriptor)
        if pid is None:
            connection.close()
            _remove(folder)
            return
        lead_group(pid)
        say(connection, Begun())
        self._children[pid] = _Child(number, connection, folder, waiting)
        self._have_spare()

    def _give(self, owner: Owner, descriptors: list[int]) -> _Waiting | None:
        """Has a process that waits do work; None where there is none that may, or lives."""
        for waiting in self._taken_for(owner):
            try:
                socket.send_fds(waiting.line, [WORK], descriptors)
            except OSError:
                _dismiss(waiting)
                continue
            waiting.owner, waiting.done = owner, waiting.done + 1
            return waiting
        return None

    def _taken_for(self, owner: Owner) -> Iterator[_Waiting]:
        """Processes that may do work of an owner, which wait no more: first those of its own."""
        for known in (owner, ANYBODY):
            for waiting in [each for each in reversed(self._kept) if each.owner == known]:
                self._kept.remove(waiting)
                yield waiting
        if self._spare is not None:
            spare, self._spare = self._spare, None
            yield spare

    def _keep(self, child: _Child) -> bool:
        """Keeps a process whose work is done for more of the same owner, if it waits for that."""
        waiting = child.waiting
        if waiting is None or waiting.owner == NOBODY or waiting.done >= self._settings.most_work:
            return False
        try:
            # It has said so before it said that its work is done.
            if waiting.line.recv(16, socket.MSG_DONTWAIT) != IDLE:
                return False
        except OSError:
            return False
        del self._children[waiting.pid]
        say(child.reply, Ended(status=0))
        child.reply.close()
        waiting.since = time.monotonic()
        self._kept.append(waiting)
        while len(self._kept) > (os.cpu_count() or 1):
            _dismiss(self._kept.pop(0))
        return True

    def _patience(self) -> float | None:
        """Milliseconds until a process has waited for too long."""
        if not self._kept:
            return None
        end = self._kept[0].since + self._settings.idle_seconds
        return max(0.0, end - time.monotonic()) * 1000

    def _dismiss_idle(self) -> None:
        while self._patience() == 0:
            _dismiss(self._kept.pop(0))

    def _have_spare(self, starting: int | None = None) -> None:
        """Starts a process for the next work, unless there is one or none can be started.

        It closes the file ``starting``, if any, when it can take the work.
        """
        if self._spare is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, suppress(OSError):
            pid = self._start(replace(self._life, line=theirs, starting=starting))
            self._spare = _Waiting(pid, ours)
            return
        ours.close()

    def _start(self, life: Life) -> int:
        """Starts a process, and returns its pid. Raises ``OSError``."""
        pid = os.fork()
        if pid == 0:
            life.live()
        return pid

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._forget(pid)
                if (child := self._children.pop(pid, None)) is None:
                    continue  # it had no work, or a library started it
                _kill(pid)  # those that it started
                _remove(child.folder)
                if child.waiting is not None:
                    child.waiting.line.close()
                say(child.reply, Ended(status=status))
                child.reply.close()

    def _forget(self, pid: int) -> None:
        """Counts on a process no more that has ended while it waited."""
        if self._spare is not None and pid == self._spare.pid:
            self._spare.line.close()
            self._spare = None
        for waiting in [each for each in self._kept if each.pid == pid]:
            self._kept.remove(waiting)
            waiting.line.close()


def _dismiss(waiting: _Waiting) -> None:
    """Ends a process that waits."""
    waiting.line.close()
    _kill(waiting.pid)


def _kill(pid: int) -> None:
    """Kills a process and those that it started."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _learn() -> Pages:
    """The pages that planning writes to, as a process finds that is started for it."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            warm(uses_torch=False)
            with os.fdopen(writes, "w") as file:
                json.dump(own_pages(), file)
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as file:
        found = file.read()
    os.waitpid(pid, 0)
    return tuple((address, size) for address, size in json.loads(found or "[]"))


def _remove(folder: str | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _be_ended_first() -> None:
    """Has a system that runs out of memory end what is forked here, and none that waits for it."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


@contextmanager
def _silence() -> Iterator[None]:
    """Throws away what libraries print; what the body raises is seen."""
    errors, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(errors, 2)
        os.dup2(errors, 1)
        os.close(errors)
        os.close(null)


def main() -> None:
    """The life of a zygote: its settings and its connection to the service are its arguments."""
    # Ctrl-C reaches every process of a terminal; only the one that serves answers to it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = ZygoteSettings.from_json(sys.argv[1])
    control = socket.socket(fileno=int(sys.argv[2]))
    _be_ended_first()
    name_process(WAITS)
    # Looking for its library, it starts others: not after this process is shut in.
    has_seccomp()
    if sys.platform == "linux":
        hide_memory()
    with _silence():
        warm(uses_torch=settings.uses_torch)
        settings.jail.prepare()
    # Forked processes share these objects for longer if none of them is looked at.
    gc.collect()
    gc.freeze()
    # With torch there are many more, and a process that waits would hold them all.
    pages = () if settings.uses_torch else _learn()
    _Zygote(control, settings, pages).serve()
