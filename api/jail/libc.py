"""The system's C library, for calls that Python has no function for."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Final

_SET_NAME: Final = 15


@cache
def libc() -> ctypes.CDLL:
    """The library; ``ctypes.get_errno`` has the error of its last call."""
    return ctypes.CDLL(None, use_errno=True)


def name_process(name: bytes) -> None:
    """Has the system call this process so, where it lists processes: 15 bytes of it."""
    if sys.platform == "linux":
        libc().prctl(_SET_NAME, name, 0, 0, 0)
