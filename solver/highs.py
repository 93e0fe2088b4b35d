"""HiGHS, which solves linear programs in floats; nothing that it says is believed as it is."""

from __future__ import annotations

from typing import Any


def quiet_highs() -> Any:
    """HiGHS with one thread and the simplex method, which prints nothing."""
    import highspy

    class Quiet(highspy.Highs):
        """Without callbacks, with which HiGHS greets on standard output."""

        def __init__(self) -> None:
            super(highspy.Highs, self).__init__()
            self.setOptionValue("output_flag", False)

    highs: Any = Quiet()
    highs.setOptionValue("threads", 1)
    highs.setOptionValue("solver", "simplex")
    return highs
