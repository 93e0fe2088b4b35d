"""How long work takes at the least: to launch it, to move its bytes, and to compute.

Small calls take what a launch takes, however little they do; large ones are bound by memory or by
arithmetic. That tells something of operators that were never measured, by those that were.
"""

from __future__ import annotations

from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from schema.frozen import frozen

Floats = NDArray[np.float64]

_FASTEST: Final = 0.05
_PENALTY: Final = 1e-3
_STUCK: Final = 1e6
_STEPS: Final = 50
_DONE: Final = 1e-4
"""Less than this part of what is missed is not worth another step."""


@frozen
class Roofline:
    """The logarithms of the ns to launch a call, for each byte, and for each multiplication."""

    logs: tuple[float, float, float]

    @classmethod
    def of(cls, work: Floats, logs: Floats, weights: Floats) -> Self:
        """Fitted to the logarithms of times, given those of bytes and multiplications (n, 2)."""
        # What the fastest calls took: of one that is bound by its launch, nobody knows how fast it
        # moves bytes, but that it moves them so fast at the least.
        taken = np.stack([logs, logs - work[:, 0], logs - work[:, 1]])
        start = np.quantile(taken, _FASTEST, axis=1)
        return cls._fitted(work, logs, weights, start)

    def log_ns(self, work: Floats) -> Floats:
        """The logarithms of ns, given those of bytes and multiplications (..., 2)."""
        launch, byte, multiplication = self.logs
        found: Floats = np.logaddexp(
            np.logaddexp(launch, byte + work[..., 0]), multiplication + work[..., 1]
        )
        return found

    @classmethod
    def _fitted(cls, work: Floats, logs: Floats, weights: Floats, start: Floats) -> Self:
        """Least squares by Levenberg and Marquardt, with a pull towards the start.

        Learned costs need no extra, and so no SciPy.
        """

        def loss(at: Floats) -> float:
            missed = logs - cls._at(at).log_ns(work)
            return float(weights @ missed**2 + _PENALTY * np.sum((at - start) ** 2))

        at, damping = start.copy(), 1e-2
        least = loss(at)
        for _ in range(_STEPS):
            found = cls._at(at).log_ns(work)
            parts = np.stack([np.zeros(len(work)), work[:, 0], work[:, 1]], axis=1) + at
            slopes = np.exp(parts - found[:, None])
            gradient = slopes.T @ (weights * (logs - found)) - _PENALTY * (at - start)
            curvature = slopes.T @ (weights[:, None] * slopes) + _PENALTY * np.eye(3)
            tried = at + np.linalg.solve(curvature + damping * np.eye(3), gradient)
            value = loss(tried)
            if value < least:
                gained, at, least, damping = least - value, tried, value, damping / 4
                if gained <= _DONE * least:
                    break
            elif damping > _STUCK:
                break
            else:
                damping *= 5
        return cls._at(at)

    @classmethod
    def _at(cls, logs: Floats) -> Self:
        launch, byte, multiplication = logs.tolist()
        return cls((launch, byte, multiplication))
