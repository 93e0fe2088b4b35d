"""The kinds of problems that the service answers with; ``docs/problems.md`` lists them."""

from __future__ import annotations

from enum import Enum
from typing import Final

PROBLEMS: Final = "/problems/"
"""Where the type of a problem leads to."""


class ProblemKind(Enum):
    """What can be wrong, with what to do about it where nothing closer to the case is known."""

    NOT_A_PROGRAM = (
        400,
        "The body is not a program",
        "send the bytes of a .pt2, a .pte or a VkGraph as the body",
    )
    MALFORMED_REQUEST = (
        400,
        "The request is not HTTP as it should be",
        "mend the client, or the proxy before it",
    )
    TOKEN_NEEDED = (
        401,
        "The service takes requests with a token alone",
        "send a token (Authorization: Bearer ...); who runs the service makes one",
    )
    SCOPE_TOO_SMALL = (
        403,
        "The token is for less than that",
        "ask who runs the service for another token",
    )
    OTHER_SITE = (
        403,
        "The request comes from another page than the service's own",
        "reload the service's page and try again, or send the request without a browser",
    )
    NO_JAIL = (
        403,
        "The service has no jail for torch",
        "lower the program where you are, and hand in the .pte",
    )
    NOT_FOUND = (404, "There is no such thing", "GET /plans, /jobs and /devices list what there is")
    METHOD_NOT_ALLOWED = (
        405,
        "The path does not take this method",
        "the header Allow has those that it takes",
    )
    TOO_SLOW = (408, "The request arrived too slowly", "try again where the connection is better")
    CONFLICT = (
        409,
        "It is there already, and is another",
        "choose another name, or leave it as it is",
    )
    IN_PROGRESS = (
        409,
        "The same request is not answered yet",
        "send it again when Retry-After says",
    )
    DELETED = (
        410,
        "It was deleted since",
        "send the request again with an Idempotency-Key of its own",
    )
    FILE_LOST = (
        410,
        "A file is damaged or missing",
        "send the same POST /plan again, which makes it anew",
    )
    TOO_LARGE = (413, "The body is too large", "send a smaller one")
    ACCOUNT_FULL = (
        413,
        "You have as much in the store as you may",
        "delete plans and jobs that are not wanted, or ask who runs the service for more",
    )
    WRONG_HOST = (
        421,
        "The service does not go by this name",
        "use its address, or have it started with --allowed-host NAME",
    )
    INVALID_REQUEST = (
        422,
        "A parameter or a field is wrong",
        "change what the detail names; /openapi.json describes what there may be",
    )
    INVALID_OPTION = (422, "An option is wrong", "change the option that the detail names")
    INVALID_PROGRAM = (
        422,
        "The program or file cannot be used",
        "check it where it was made, and hand in another one",
    )
    TOO_MANY_TASKS = (
        422,
        "The job has more tasks than one may have",
        "submit several smaller jobs",
    )
    KEY_REUSED = (422, "The Idempotency-Key is another job's", "give each job a key of its own")
    NO_REPRESENTATION = (
        422,
        "The options leave an operand without representation",
        "allow more layouts, or larger limits",
    )
    CONFLICTING_LIMITS = (
        422,
        "The limits cannot hold together",
        "drop one of the limits that the detail names",
    )
    SAMPLES_REFUSED = (
        422,
        "What was measured cannot be believed",
        "close other programs, let the device cool, and calibrate it again",
    )
    CANNOT_BE_PLANNED = (
        422,
        "This cannot be planned",
        "change the program or the options, as the detail says",
    )
    TOO_MANY_REQUESTS = (
        429,
        "These are more requests than you may send",
        "wait as long as Retry-After says",
    )
    TOO_MANY_PLANS = (
        429,
        "As many of your plans are being made as may be",
        "wait for one of them, or submit a job (POST /jobs)",
    )
    TOO_MUCH_UPLOADED = (
        429,
        "You have uploaded as much as you may for now",
        "wait as long as Retry-After says",
    )
    SERVICE_FAILED = (
        500,
        "The service failed",
        "tell who runs the service the id of the request: its log says why",
    )
    CHECK_FAILED = (
        500,
        "The plan failed the check that every plan must pass",
        "report it with the program, if you can",
    )
    PLANNING_FAILED = (
        500,
        "Planning failed in a way that was not foreseen",
        "report it with the program, if you can, and with the id of the request",
    )
    EXTRA_MISSING = (
        501,
        "A package is not installed there",
        "have who runs the service install it",
    )
    STORE_AWAY = (
        503,
        "The database, or the store of files, does not answer",
        "try again in a while",
    )
    PLANNING_ENDED = (
        503,
        "The planning process ended before its work did",
        "try again; if it ran out of memory, have the service given more",
    )
    SHUTTING_DOWN = (503, "The service shuts down", "try again when it is back")
    QUEUE_FULL = (
        503,
        "As many plans wait as may",
        "try again when Retry-After says, or submit a job (POST /jobs)",
    )
    UPLOADS_FULL = (
        503,
        "Others upload as much just now as there is room for",
        "try again when Retry-After says",
    )
    TOO_MANY_CONNECTIONS = (
        503,
        "There are as many connections as may be",
        "try again in a few seconds",
    )
    OVERTIME = (
        504,
        "Planning took longer than it may",
        "hand in a smaller program, or submit a job",
    )
    STORE_FULL = (507, "There is no room for more", "delete plans that are not wanted")

    def __init__(self, status: int, title: str, remedy: str) -> None:
        """The HTTP status, what it is (the same in each case), and what to do in general."""
        self.status, self.title, self.remedy = status, title, remedy

    @property
    def slug(self) -> str:
        """The last part of its type."""
        return self.name.lower().replace("_", "-")

    @property
    def type(self) -> str:
        """The reference that names it."""
        return PROBLEMS + self.slug


_BY_STATUS: Final = {
    kind.status: kind
    for kind in (
        ProblemKind.NOT_FOUND,
        ProblemKind.METHOD_NOT_ALLOWED,
    )
}


def kind_of_status(status: int) -> ProblemKind | None:
    """The kind of a problem of which only the status is known."""
    return _BY_STATUS.get(status)
