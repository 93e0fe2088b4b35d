"""What a planning process says: lines of JSON, of which nothing is believed but their form."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from planner.errors import (
    ConflictingLimitsError,
    InputError,
    MissingExtraError,
    NoRepresentationError,
    OptionError,
    PlannerError,
    Remedy,
    VerificationError,
)

MOST_BYTES: Final = 64 * 2**10
"""The length of a line; what is said is cut so that it fits."""
_MOST_CHARACTERS: Final = 4000


def _without_controls(text: str) -> str:
    """Of control characters only newlines and tabs: a terminal would obey the others."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


_Text = Annotated[str, Field(max_length=_MOST_CHARACTERS), AfterValidator(_without_controls)]
_KINDS: Final[dict[str, type[PlannerError]]] = {
    kind.__name__: kind
    for kind in (
        *(InputError, OptionError, ConflictingLimitsError, NoRepresentationError),
        *(VerificationError, PlannerError),
    )
}


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Begun(_Message):
    """A process was started for the work; said by the one that started it."""

    begun: Literal[True] = True


class Stage(_Message):
    """A stage of the work has begun."""

    stage: Annotated[str, Field(max_length=200), AfterValidator(_without_controls)]


class Done(_Message):
    """The work is done, and its files are written."""

    done: Literal[True] = True


class Refusal(_Message):
    """The work cannot be done: a ``PlannerError``, by its kind, and what to do by name."""

    refused: Annotated[str, Field(max_length=40)]
    what: _Text
    remedies: list[Annotated[str, Field(max_length=40)]] = []

    def error(self) -> PlannerError:
        """The error that it was."""
        kind = _KINDS.get(self.refused, PlannerError)
        remedies = (Remedy[name] for name in self.remedies if name in Remedy.__members__)
        return kind(self.what, *remedies)


class Missing(_Message):
    """A package is not installed."""

    needed_by: _Text
    package: _Text
    extra: _Text | None

    def error(self) -> PlannerError:
        """The error that it was."""
        return MissingExtraError(self.needed_by, self.package, self.extra)


class Crash(_Message):
    """The work failed in a way that was not foreseen; ``trace`` is for the log."""

    crash: _Text
    trace: _Text


class Full(_Message):
    """There is no room on the disk for what the work is to write."""

    full: Literal[True] = True


class Ended(_Message):
    """The process ended, with this status of ``waitpid``; said by the one that started it."""

    status: Annotated[int, Field(ge=0, le=0xFFFF)]


Message = Begun | Stage | Done | Refusal | Missing | Crash | Full | Ended
_ADAPTER: Final[TypeAdapter[Message]] = TypeAdapter(Message)


def refusal_of(error: PlannerError) -> Refusal | Missing:
    """How an error of the planner is said."""
    if isinstance(error, MissingExtraError):
        return Missing(needed_by=error.needed_by, package=error.package, extra=error.extra)
    # The nearest class that has a name here.
    known = next(k.__name__ for k in type(error).__mro__ if k.__name__ in _KINDS)
    remedies = [remedy.name for remedy in error.remedies]
    return Refusal(refused=known, what=error.what[:_MOST_CHARACTERS], remedies=remedies)


def crash_of(text: str, trace: str) -> Crash:
    """How a failure is said; of a long trace its end."""
    return Crash(crash=text[:_MOST_CHARACTERS], trace=trace[-_MOST_CHARACTERS:])


def packed(message: Message) -> bytes:
    """A message as a line."""
    return message.model_dump_json().encode() + b"\n"


def unpacked(line: bytes) -> Message:
    """The message in a line. Raises ``ValueError`` for any other."""
    try:
        return _ADAPTER.validate_json(line)
    except ValidationError as error:
        raise ValueError("no message of a planning process") from error
