"""seccomp: a process gives up every system call that planning does not need, for good.

Through libseccomp, which is part of every larger distribution.
"""

from __future__ import annotations

import errno
import os
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyseccomp

_CLONE_THREAD: Final = 0x10000

_ALLOWED: Final = Path(__file__).with_name("syscalls.txt")
_OF_PROGRAMS: Final = ("clone", "fork", "vfork", "execve", "wait4", "waitid")
"""What it takes to run another program as well."""
_SIGNALS: Final = ("kill", "tgkill")
"""To this process alone: what aborts signals itself."""


def has_seccomp() -> bool:
    """Whether system calls can be given up here."""
    if sys.platform != "linux" or not Path("/proc/sys/kernel/seccomp/actions_avail").exists():
        return False
    try:
        import_module("pyseccomp")
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def allowed_syscalls() -> list[str]:
    """What planning needs, by the names that Linux has for it on any architecture."""
    lines = _ALLOWED.read_text("utf-8").splitlines()
    return [name for line in lines if not line.startswith("#") for name in line.split()]


def give_up_syscalls(*, runs_programs: bool) -> None:
    """Leaves this process what planning needs: no sockets, no new processes, no ptrace, no mounts.

    What is given up fails with EPERM. With ``runs_programs``, other programs can be run.
    Raises ``OSError``.
    """
    import pyseccomp as seccomp

    rules = prepared_rules(runs_programs=runs_programs)
    for name in _SIGNALS:
        _allow(rules, name, seccomp.Arg(0, seccomp.EQ, os.getpid()))
    rules.load()


@cache
def prepared_rules(*, runs_programs: bool) -> pyseccomp.SyscallFilter:
    """The rules that are the same for every process: made once, before the first is forked."""
    import pyseccomp as seccomp

    rules = seccomp.SyscallFilter(defaction=seccomp.ERRNO(errno.EPERM))
    for name in allowed_syscalls():
        _allow(rules, name)
    if runs_programs:
        for name in _OF_PROGRAMS:
            _allow(rules, name)
    else:
        _allow(rules, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD))
    # Limits can be asked for, and not set.
    _allow(rules, "prlimit64", seccomp.Arg(2, seccomp.EQ, 0))
    # Its flags are in memory, where no filter sees them: libc then does with clone.
    rules.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
    return rules


def _allow(rules: pyseccomp.SyscallFilter, name: str, *args: pyseccomp.Arg) -> None:
    import pyseccomp as seccomp

    try:
        rules.add_rule(seccomp.ALLOW, name, *args)
    except (OSError, ValueError):
        # Not on this architecture, or newer than the library.
        return
