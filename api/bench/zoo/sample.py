"""What a model of the zoo is exported from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Size = Literal["small", "full"]
"""``small`` models are for tests: the same blocks, fewer and narrower."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A module with random weights, example inputs, and the sizes of them that may vary.

    It is quantized before it is exported if it is to be of ``int8``.
    """

    module: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    dynamic_shapes: Any = None
    int8: bool = False


Build = Callable[[Size], Sample]
