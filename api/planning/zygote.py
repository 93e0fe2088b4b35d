"""The process from which planning processes are forked: it has imported what they need, and waits.

It reads nothing of what it hands on. Each piece of work gets a process of its own, which goes into
the jail before it looks at what it was given, and ends with it. One process is there ahead of its
work, and waits for it in the jail: what starting one takes, the work does not wait for.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import select
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NoReturn

from api.jail.jail import Jail
from api.jail.landlock import READ, RUN, WRITE, Access
from api.jail.libc import name_process
from api.jail.limits import Limits
from api.jail.places import code_places
from api.jail.privileges import end_with_parent, hide_memory
from api.jail.syscalls import has_seccomp
from api.planning.files import Files, FullOutputError
from api.planning.messages import (
    Begun,
    Done,
    Ended,
    Full,
    Message,
    Stage,
    crash_of,
    packed,
    refusal_of,
)
from api.planning.pages import Pages, copy_pages, own_pages
from api.planning.warming import warm
from api.planning.work import Work
from planner.errors import PlannerError

PACKAGES: Final = ("api", "gpu", "planner", "schema", "solver")
MOST_FILES: Final = 200
"""Files that one piece of work may have: Linux hands over no more than 253 at once."""
WARM: Final = b"warm"
WORK: Final = b"work"
PROGRAMS: Final = b"programs"
"""Work that runs other programs."""
KILL: Final = b"kill"
_WAITS: Final = b"planner"
_PLANS: Final = b"planning"
"""What the system calls a process that has no work yet, as the zygote itself, and one with work."""
_FACTS: Final = ("/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system", "/sys/fs/cgroup")
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


@dataclass(frozen=True, slots=True)
class ZygoteSettings:
    """How a zygote's processes run: the jail, their limits, and whether torch is there for them."""

    jail: Jail
    limits: Limits
    uses_torch: bool

    def to_json(self) -> str:
        """The settings in one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ZygoteSettings:
        """The settings that such a line holds."""
        found = json.loads(text)
        return cls(Jail(**found["jail"]), Limits(**found["limits"]), found["uses_torch"])


@dataclass(slots=True)
class _Child:
    """A process that plans: the service's number of it, where it is heard, and its folder."""

    number: int
    reply: socket.socket
    folder: str | None


@dataclass(slots=True)
class _Spare:
    """A process without work yet, and where it will get some."""

    pid: int
    work: socket.socket


class _Zygote:
    def __init__(self, control: socket.socket, settings: ZygoteSettings, pages: Pages) -> None:
        """Processes have copies of ``pages`` made before they begin."""
        self._control = control
        self._settings = settings
        self._pages = pages
        self._spare: _Spare | None = None
        places = code_places(PACKAGES)
        self._allowed: list[tuple[Path, Access]] = [
            *((place, RUN) for place in places),
            *((Path(name), READ) for name in _FACTS),
            *((Path(name), READ | Access.WRITE_FILE) for name in _DEVICES),
        ]
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
            for descriptor, _ in poll.poll():
                if descriptor == self._signalled:
                    with suppress(BlockingIOError):
                        os.read(self._signalled, 4096)
                    self._reap()
                elif not self._obey():
                    for pid in (*self._children, *([self._spare.pid] if self._spare else [])):
                        _kill(pid)
                    os._exit(0)

    def _obey(self) -> bool:
        """Does what the service says; False where it is no more."""
        told, descriptors, _, _ = socket.recv_fds(self._control, 256, MOST_FILES + 2)
        if not told:
            return False
        verb, number = told.split()
        if verb == KILL:
            for pid, child in self._children.items():
                if child.number == int(number):
                    _kill(pid)
        else:
            self._begin(int(number), descriptors, runs_programs=verb == PROGRAMS)
        return True

    def _begin(self, number: int, descriptors: list[int], *, runs_programs: bool) -> None:
        reply, request, *files = descriptors
        connection, folder, pid = socket.socket(fileno=reply), None, None
        try:
            if runs_programs:
                folder = tempfile.mkdtemp(prefix="layout-planner-")
                pid = self._start(descriptors, lambda: descriptors, folder)
            else:
                pid = self._give_to_spare(descriptors)
                pid = pid or self._start(descriptors, lambda: descriptors)
        except OSError as error:
            _say(connection, crash_of(f"no planning process can be started: {error}", ""))
            _say(connection, Ended(status=0))
        for descriptor in (request, *files):
            os.close(descriptor)
        if pid is None:
            connection.close()
            _remove(folder)
            return
        _lead_group(pid)
        _say(connection, Begun())
        self._children[pid] = _Child(number, connection, folder)
        self._have_spare()

    def _give_to_spare(self, descriptors: list[int]) -> int | None:
        """Has the spare process do work; None where there is none, or it has just ended."""
        spare, self._spare = self._spare, None
        if spare is None:
            return None
        with spare.work:
            try:
                socket.send_fds(spare.work, [WORK], descriptors)
            except OSError:
                return None
        return spare.pid

    def _have_spare(self, starting: int | None = None) -> None:
        """Starts a process for the next work, unless there is one or none can be started.

        It closes the file ``starting``, if any, when it can take the work.
        """
        if self._spare is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, suppress(OSError):

            def receive() -> list[int]:
                if starting is not None:
                    os.close(starting)
                told, descriptors, _, _ = socket.recv_fds(theirs, 16, MOST_FILES + 2)
                if not told:
                    os._exit(0)
                theirs.close()
                return descriptors

            kept = [theirs.fileno(), *([] if starting is None else [starting])]
            self._spare = _Spare(self._start(kept, receive), ours)
            return
        ours.close()

    def _start(
        self, kept: list[int], receive: Callable[[], list[int]], folder: str | None = None
    ) -> int:
        """Starts a process, which has only the ``kept`` files open and does what it receives.

        Returns its pid. Raises ``OSError``.
        """
        pid = os.fork()
        if pid == 0:
            _keep_open({*range(3), *kept})
            self._live(receive, folder)
        return pid

    def _live(self, receive: Callable[[], list[int]], folder: str | None) -> NoReturn:
        """The life of a planning process."""
        connection = None
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if sys.platform == "linux":
                end_with_parent(signal.SIGKILL)
            _lead_group(0)
            # What libraries print is a stranger's to write: it fills no log.
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(null, descriptor)
            copy_pages(self._pages)
            allowed = list(self._allowed)
            if folder is not None:
                tempfile.tempdir = folder
                allowed.append((Path(folder), WRITE))
            settings = self._settings
            settings.jail.enter(settings.limits, allowed, runs_programs=folder is not None)
            reply, request, *files = receive()
            name_process(_PLANS)
            connection = _connection(reply)
            with os.fdopen(request, "rb") as asked:
                asked.seek(0)
                work: Work = pickle.load(asked)
            # As many as there are: a file that is read twice is open once.
            paths = dict.fromkeys((*work.reads, *work.writes))
            given = Files(dict(zip(paths, files, strict=True)))
            _say(connection, _done(work, given, connection))
        except BaseException as error:
            crash = crash_of(f"{type(error).__name__}: {error}", traceback.format_exc())
            # Where it could not go into the jail, that is what its work hears.
            _say(connection or _connection(receive()[0]), crash)
        finally:
            os._exit(0)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if self._spare is not None and pid == self._spare.pid:
                self._spare.work.close()
                self._spare = None
            child = self._children.pop(pid, None)
            if child is None:
                continue  # what a library started
            _kill(pid)  # those that it started
            _remove(child.folder)
            _say(child.reply, Ended(status=status))
            child.reply.close()


def _done(work: Work, files: Files, connection: socket.socket) -> Message:
    """What came of work."""
    try:
        work.run(files, lambda stage: _say(connection, Stage(stage=stage[:200])))
    except PlannerError as refusal:
        return refusal_of(refusal)
    except FullOutputError:
        return Full()
    except MemoryError:
        return crash_of("it needs more memory than it may take", "")
    except Exception as crash:
        said = f"{type(crash).__name__}: {crash}".splitlines()[0]
        return crash_of(said, traceback.format_exc())
    return Done()


def _connection(descriptor: int) -> socket.socket:
    """Where a process is heard; nothing is asked about it, which the jail would not allow."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)


def _say(connection: socket.socket, message: Message) -> None:
    # Nobody may be left to hear it.
    with suppress(OSError):
        connection.sendall(packed(message))


def _kill(pid: int) -> None:
    """Kills a process and those that it started."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _lead_group(pid: int) -> None:
    """Makes a process the leader of a group, once it or the zygote comes to it."""
    with suppress(OSError):
        os.setpgid(pid, pid)


def _keep_open(kept: set[int]) -> None:
    """Closes all other files: among them are the ends at which others are heard."""
    first = 0
    for descriptor in sorted(kept):
        if first < descriptor:  # an empty range is taken for all there are
            os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


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
    name_process(_WAITS)
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
