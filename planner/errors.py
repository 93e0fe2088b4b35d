"""The planner's errors and their remedies.

An error names *what* is wrong in words that fit every interface. What to do about it often depends
on the interface: a remedy is data, and each interface (Python, the command line, HTTP) has a
wording of its own for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class Remedy(Enum):
    """A way to resolve an error."""

    RAISE_TEXTURE_LIMITS = auto()
    RAISE_BUFFER_LIMIT = auto()
    EXCLUDE_FEWER_LAYOUTS = auto()
    DROP_LIMITS = auto()
    RAISE_LIMIT = auto()
    RESHAPE_TENSORS = auto()
    KEEP_OUT_OF_DELEGATE = auto()
    PREDICT_TIMES = auto()
    """Predict with a profile in ns, or with a device's measured times."""
    PLAN_FIRST = auto()
    IMPORT_RUNS = auto()
    NAME_DEVICE = auto()
    NAME_ANOTHER_RUNTIME = auto()
    NAME_TARGET = auto()
    IMPORT_OPERATORS = auto()
    TRUST_INPUT = auto()


PROJECT: Final = "layout-planner"
"""The name under which the project is installed."""

IN_PYTHON: Final[Mapping[Remedy, str]] = {
    Remedy.RAISE_TEXTURE_LIMITS: "raise the texture limits (texture_limits)",
    Remedy.RAISE_BUFFER_LIMIT: "raise the buffer limit (buffer_limit)",
    Remedy.EXCLUDE_FEWER_LAYOUTS: "exclude fewer layouts (without_layouts)",
    Remedy.DROP_LIMITS: "drop one of these limits",
    Remedy.RAISE_LIMIT: "raise that limit",
    Remedy.RESHAPE_TENSORS: "reshape its tensors",
    Remedy.KEEP_OUT_OF_DELEGATE: "keep the operator out of the delegate (operator_blocklist of "
    "VulkanPartitioner)",
    Remedy.PREDICT_TIMES: "use a profile in ns, or measured costs (load_costs)",
    Remedy.PLAN_FIRST: "plan it first, and hand in the .pte",
    Remedy.IMPORT_RUNS: "import runs first (planner.measured.importing)",
    Remedy.NAME_DEVICE: "name one (device)",
    Remedy.NAME_ANOTHER_RUNTIME: "name a runtime that has it (runtime)",
    Remedy.NAME_TARGET: "name what to plan it for (target)",
    Remedy.IMPORT_OPERATORS: "import the modules that do (imports)",
    Remedy.TRUST_INPUT: "if you would run code of whoever made it, say so (trust=True)",
}


class PlannerError(Exception):
    """A request that cannot be served: what is wrong, and how to resolve it."""

    def __init__(self, what: str, *remedies: Remedy) -> None:
        """Remedies are alternatives; without any, ``what`` itself names what to do."""
        super().__init__(what, *remedies)
        self.what = what
        self.remedies = remedies

    def worded(self, wording: Mapping[Remedy, str]) -> str:
        """The error in one line, with an interface's wording of each remedy."""
        return f"{self.what}: {self.remedy(wording)}" if self.remedies else self.what

    def remedy(self, wording: Mapping[Remedy, str]) -> str:
        """What to do, in an interface's wording; nothing where ``what`` says it."""
        return " or ".join(wording[remedy] for remedy in self.remedies)

    def __str__(self) -> str:
        return self.worded(IN_PYTHON)


class InputError(PlannerError):
    """The given program or file cannot be used."""


class OptionError(PlannerError):
    """An option (profile, layout, texture limits, ...) is unknown or malformed."""


class NoRepresentationError(PlannerError):
    """Limits or exclusions leave an operand without any representation."""


class ConflictingLimitsError(NoRepresentationError):
    """Limits that the user set cannot hold together."""


class VerificationError(PlannerError):
    """A written plan failed the independent check, and is discarded."""


class MissingExtraError(PlannerError):
    """A package that one of the project's extras installs is missing.

    ``needed_by`` needs ``package``, which ``extra`` installs; None where no extra has it.
    """

    def __init__(self, needed_by: str, package: str, extra: str | None) -> None:
        wanted = package if extra is None else f"'{PROJECT}[{extra}]'"
        super().__init__(f"{needed_by} needs {package}: pip install {wanted}")
        self.needed_by = needed_by
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str | None]]:
        return type(self), (self.needed_by, self.package, self.extra)
