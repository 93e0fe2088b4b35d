"""What can go wrong for a user of the planner, in one line that says what to do."""


class PlannerError(Exception):
    """A request that cannot be served; the text names what is wrong and what to do about it."""


class InputError(PlannerError):
    """The program handed in is not one that can be planned."""


class OptionError(PlannerError):
    """An option (profile, layout, texture limits, ...) is unknown or malformed."""


class NoRepresentationError(PlannerError):
    """Limits or exclusions leave an operand without any representation."""


class VerificationError(PlannerError):
    """A written plan failed the independent check; it is never handed out."""
