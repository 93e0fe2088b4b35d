"""Whose a piece of work is: a process that has done some does no other owner's."""

from __future__ import annotations

import hashlib
from typing import Final, NewType

Owner = NewType("Owner", str)
"""A word."""

NOBODY: Final = Owner("nobody")
"""The owner of work whose process ends with it."""
ANYBODY: Final = Owner("anybody")
"""The owner of work that is trusted: anybody's may come after it."""


def owner_of(caller: str | None) -> Owner:
    """The owner of what a caller asks for, by its name; None is who needs none on this machine."""
    return Owner(hashlib.sha256((caller or "").encode()).hexdigest())
