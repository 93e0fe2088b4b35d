"""What to do about an error of the planner, in the words of HTTP: jobs keep them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from planner.errors import IN_PYTHON, Remedy

HTTP: Final[Mapping[Remedy, str]] = {
    Remedy.RAISE_TEXTURE_LIMITS: "raise the texture limits (texture_limits=X,Y,Z)",
    Remedy.RAISE_BUFFER_LIMIT: "raise the buffer limit (buffer_limit=N)",
    Remedy.EXCLUDE_FEWER_LAYOUTS: "exclude fewer layouts (without_layout=NAME)",
    Remedy.DROP_LIMITS: "drop one of these limits",
    Remedy.RAISE_LIMIT: "raise that limit",
    Remedy.RESHAPE_TENSORS: "reshape its tensors",
    Remedy.KEEP_OUT_OF_DELEGATE: IN_PYTHON[Remedy.KEEP_OUT_OF_DELEGATE],
    Remedy.PREDICT_TIMES: "use a profile in ns (profile=default)",
    Remedy.PLAN_FIRST: "plan it first (POST /plan), then hand in its program.pte",
    Remedy.IMPORT_RUNS: "use a device profile",
    Remedy.NAME_DEVICE: "use a device profile",
    Remedy.NAME_ANOTHER_RUNTIME: "name a runtime that has it (runtime=R)",
    Remedy.NAME_TARGET: "name what to plan it for (target=webgpu or target=vulkan)",
    Remedy.IMPORT_OPERATORS: "lower the program where they are defined, and hand in the .pte",
    Remedy.TRUST_INPUT: "lower it where its author is trusted, and hand in the .pte",
}
