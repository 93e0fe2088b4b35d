"""What of a jail a machine offers, and how a process goes into it."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from api.jail import landlock
from api.jail.bubblewrap import find_bubblewrap
from api.jail.landlock import Access, landlock_version
from api.jail.limits import Limits
from api.jail.privileges import give_up_privileges
from api.jail.syscalls import give_up_syscalls, has_seccomp, prepared_rules

_SIGNALS_SINCE: Final = 6
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Jail:
    """The parts of a jail: bubblewrap's program, Landlock's version, and whether there is seccomp.

    bubblewrap goes around a process before it starts; the other two a process puts on itself. Each
    alone keeps strangers' code from files and network, as far as ``is_closed`` says; both are used.
    """

    bubblewrap: str | None = None
    landlock: int = 0
    seccomp: bool = False

    @classmethod
    @cache
    def of_machine(cls) -> Jail:
        """What this machine offers; this tries bubblewrap."""
        return cls(find_bubblewrap(), landlock_version(), has_seccomp())

    @property
    def is_closed(self) -> bool:
        """Whether files, network and other users' processes are out of reach inside."""
        return self.bubblewrap is not None or (self.landlock > 0 and self.seccomp)

    def missing(self) -> list[str]:
        """What is not there, what that means, and what to do, in a line each."""
        found = []
        if sys.platform != "linux":
            return ["there is no jail on this system: only Linux has what it is made of"]
        if self.bubblewrap is None:
            found.append(
                "bubblewrap is not installed or may not make namespaces: planning processes share "
                "the user and the network stack of the service (apt install bubblewrap)"
            )
        if not self.landlock:
            found.append(
                "the kernel has no Landlock: planning processes of one service reach each other "
                "(Linux 5.13, with lsm=landlock)"
            )
        elif self.landlock < _SIGNALS_SINCE and not self.seccomp:
            found.append("Landlock is older than version 6: signals are not held back (Linux 6.12)")
        if not self.seccomp:
            found.append(
                "libseccomp is not installed or not allowed: a program can start processes, and "
                "use every system call (apt install libseccomp2)"
            )
        return found

    def log_missing(self) -> None:
        """Says in the log what is not there."""
        for line in self.missing():
            _log.warning("Jail: %s", line)

    def __str__(self) -> str:
        parts = [
            *(["bubblewrap"] if self.bubblewrap is not None else []),
            *([f"Landlock {self.landlock}"] if self.landlock else []),
            *(["seccomp"] if self.seccomp else []),
        ]
        return ", ".join(parts) or "none"

    def prepare(self) -> None:
        """Does what takes long, once for all processes that are forked from this one."""
        if self.seccomp:
            for runs_programs in (False, True):
                prepared_rules(runs_programs=runs_programs)

    def enter(
        self,
        limits: Limits,
        allowed: list[tuple[Path, Access]],
        *,
        runs_programs: bool = False,
    ) -> None:
        """Shuts this process in, for good; what is open stays open. Raises ``OSError``.

        With ``runs_programs``, it can run other programs, shut in as it is.
        """
        limits.set()
        if sys.platform == "linux":
            give_up_privileges()
        if self.landlock:
            landlock.restrict_self(allowed)
        if self.seccomp:
            give_up_syscalls(runs_programs=runs_programs)
