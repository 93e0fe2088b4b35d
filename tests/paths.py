"""Where the tests find what is not code."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
"""The checkout."""

PROFILES: Final = ROOT / "tests" / "profiles"
"""One recorded run of a device, with its graph."""

RECORDED: Final = ROOT / "benchmarks" / "profiles" / "lavapipe"
"""Archives of recorded runs, with their programs."""
