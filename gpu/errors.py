"""The errors of a GPU."""

from planner.errors import PlannerError


class GpuError(PlannerError):
    """The GPU cannot do this; the text names the limit or fault, and what to do."""


class OutOfMemoryError(GpuError):
    """The device has no memory left for a tensor."""


class DeviceLostError(GpuError):
    """The device was reset or removed; its memory is lost."""
