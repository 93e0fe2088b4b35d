"""What can go wrong on the way to a GPU and on it."""

from planner.errors import PlannerError


class GpuError(PlannerError):
    """The GPU cannot do what is asked; the text names the limit or fault and what to do."""


class OutOfMemoryError(GpuError):
    """The device has no room for a tensor."""


class DeviceLostError(GpuError):
    """The device was reset or removed; everything on it is gone."""
