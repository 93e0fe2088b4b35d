"""ExecuTorch's patterns of operators to fuse, made once a process.

ExecuTorch exports and lowers its patterns of rotary embeddings anew for every delegate, and once
more for every partition. They depend on nothing, and matching only reads them.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from planner.executorch.patches import Hook, Wrapper

kept: Final[Wrapper] = cache(cache)
"""A maker of patterns that is asked once: the same one for the same maker."""

KEPT_PATTERNS: Final[dict[Hook, Wrapper]] = {Hook.ROPE_PATTERNS: kept, Hook.HF_ROPE_PATTERNS: kept}
"""With these, patterns are made once a process."""
