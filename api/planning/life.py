"""The life of a planning process: shut in, it does the work that it gets, and says what came of it.

What it gets are descriptors: where it is heard, the request, and the work's files.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from api.jail.jail import Jail
from api.jail.landlock import WRITE, Access
from api.jail.libc import name_process
from api.jail.limits import Limits
from api.jail.privileges import end_with_parent
from api.planning.files import Files, FullOutputError
from api.planning.messages import Done, Full, Message, Stage, crash_of, packed, refusal_of
from api.planning.pages import Pages, copy_pages
from api.planning.work import Work
from planner.errors import PlannerError

MOST_FILES: Final = 200
"""Files that one piece of work may have: Linux hands over no more than 253 at once."""
IDLE: Final = b"idle"
"""Said on its line by a process that waits for more work."""
WAITS: Final = b"planner"
PLANS: Final = b"planning"
"""What the system calls a process that has no work yet, as the zygote itself, and one with work."""
_LEAST_PART: Final = 50
"""A process stays for more work that has taken less than one in so many of its limits."""


@dataclass(frozen=True, slots=True)
class Life:
    """How a process lives: its jail, with the files that are open to it, and its work.

    Its own copies of ``pages`` are made before it begins. It does what is ``given``, or what it
    gets on its ``line``, and closes the file ``starting`` when it can. One with a ``folder`` may
    write there, and run programs.
    """

    jail: Jail
    limits: Limits
    allowed: Sequence[tuple[Path, Access]]
    pages: Pages
    given: Sequence[int] = ()
    line: socket.socket | None = None
    starting: int | None = None
    folder: str | None = None

    def live(self) -> NoReturn:
        """Lives it, in a process that was forked for it."""
        connection = None
        try:
            try:
                self._go_in()
            finally:
                # Where it could not, that is what its work hears, and no reason to wait.
                if self.starting is not None:
                    os.close(self.starting)
            start = _peak_bytes()
            while True:
                reply, request, *files = self._receive()
                name_process(PLANS)
                connection = _connection(reply)
                with os.fdopen(request, "rb") as asked:
                    asked.seek(0)
                    work: Work = pickle.load(asked)
                # As many as there are: a file that is read twice is open once.
                paths = dict.fromkeys((*work.reads, *work.writes))
                said = _done(work, Files(dict(zip(paths, files, strict=True))), connection)
                if self.line is None or not isinstance(said, Done) or self._is_worn(start):
                    say(connection, said)
                    break
                for descriptor in files:
                    os.close(descriptor)
                name_process(WAITS)
                # First, for the work's end is not heard before it is said to be done.
                self.line.send(IDLE)
                say(connection, said)
                connection.close()
        except BaseException as error:
            crash = crash_of(f"{type(error).__name__}: {error}", traceback.format_exc())
            say(connection or _connection(self._receive()[0]), crash)
        finally:
            os._exit(0)

    def _go_in(self) -> None:
        ours = (*self.given, self.starting, None if self.line is None else self.line.fileno())
        _keep_open({*range(3), *(each for each in ours if each is not None)})
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if sys.platform == "linux":
            end_with_parent(signal.SIGKILL)
        lead_group(0)
        # What libraries print is a stranger's to write: it fills no log.
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        copy_pages(self.pages)
        allowed = list(self.allowed)
        if self.folder is not None:
            tempfile.tempdir = self.folder
            allowed.append((Path(self.folder), WRITE))
        self.jail.enter(self.limits, allowed, runs_programs=self.folder is not None)

    def _receive(self) -> Sequence[int]:
        if self.line is None:
            return self.given
        told, descriptors, _, _ = socket.recv_fds(self.line, 16, MOST_FILES + 2)
        if not told:
            os._exit(0)
        return descriptors

    def _is_worn(self, start: int) -> bool:
        """Whether its work has taken so much that the next might have too little."""
        taken = max(
            time.process_time() / self.limits.cpu_seconds,
            (_peak_bytes() - start) / self.limits.memory_bytes,
        )
        return taken * _LEAST_PART > 1


def _done(work: Work, files: Files, connection: socket.socket) -> Message:
    """What came of work."""
    try:
        work.run(files, lambda stage: say(connection, Stage(stage=stage[:200])))
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


def say(connection: socket.socket, message: Message) -> None:
    """Sends a message, unless nobody is left to hear it."""
    with suppress(OSError):
        connection.sendall(packed(message))


def lead_group(pid: int) -> None:
    """Makes a process, 0 for this one, the leader of a group, whichever comes to it first."""
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


def _peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
