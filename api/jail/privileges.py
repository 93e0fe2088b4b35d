"""Linux's privileges: a process gives up those that it has, and any that it could get."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from api.jail.libc import libc

_CAPBSET_DROP: Final = 24
_SET_DUMPABLE: Final = 4
_SET_NO_NEW_PRIVS: Final = 38
_SET_PDEATHSIG: Final = 1
_CAPABILITY_VERSION_3: Final = 0x20080522
_MOST_CAPABILITIES: Final = 64


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("words", ctypes.c_uint32 * 6),)


def give_up_privileges() -> None:
    """Nothing that this process runs gets any, and root keeps none. Raises ``OSError``."""
    _prctl(_SET_NO_NEW_PRIVS, 1)
    if os.geteuid() == 0:
        for capability in range(_MOST_CAPABILITIES):
            # The kernel knows fewer.
            libc().prctl(_CAPBSET_DROP, capability, 0, 0, 0)
        header = _Header(version=_CAPABILITY_VERSION_3, pid=0)
        if libc().capset(ctypes.byref(header), ctypes.byref(_Sets())) != 0:
            raise OSError(ctypes.get_errno(), "capset")


def hide_memory() -> None:
    """No other process of this user can trace this one, or read its memory. Raises ``OSError``."""
    _prctl(_SET_DUMPABLE, 0)


def end_with_parent(signal: int) -> None:
    """Sends this process a signal when the thread that started it ends. Raises ``OSError``."""
    _prctl(_SET_PDEATHSIG, signal)


def _prctl(option: int, value: int) -> None:
    if libc().prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")
