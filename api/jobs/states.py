"""The states of a task."""

from __future__ import annotations

from typing import Final

from api.store.tables import State

STATES: Final[tuple[State, ...]] = ("waiting", "queued", "running", "done", "failed", "cancelled")
ACTIVE: Final[tuple[State, ...]] = ("waiting", "queued", "running")
STOPPED: Final[tuple[State, ...]] = ("failed", "cancelled")
