"""The system's C library, for calls that Python has no function for."""

from __future__ import annotations

import ctypes
from functools import cache


@cache
def libc() -> ctypes.CDLL:
    """The library; ``ctypes.get_errno`` has the error of its last call."""
    return ctypes.CDLL(None, use_errno=True)
