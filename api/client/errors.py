"""What can go wrong between a client and its server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.errors import OptionError

if TYPE_CHECKING:
    from api.client.documents import Problem


class AwayError(Exception):
    """The server does not answer, or cannot answer just now; it may again, later.

    ``problem`` is what it said, if it said anything.
    """

    def __init__(self, what: str, problem: Problem | None = None) -> None:
        super().__init__(what)
        self.problem = problem


class RefusedError(OptionError):
    """The server refuses a request; ``problem`` is what it said, where it is such a server."""

    def __init__(self, what: str, problem: Problem | None = None) -> None:
        super().__init__(what)
        self.problem = problem
