"""What to do about an error of the planner, in the words of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from planner.errors import IN_PYTHON, Remedy

COMMAND_LINE: Final[Mapping[Remedy, str]] = {
    Remedy.RAISE_TEXTURE_LIMITS: "raise the texture limits (--texture-limits X,Y,Z)",
    Remedy.RAISE_BUFFER_LIMIT: "raise the buffer limit (--buffer-limit N)",
    Remedy.EXCLUDE_FEWER_LAYOUTS: "exclude fewer layouts (--without-layout NAME)",
    Remedy.DROP_LIMITS: "drop one of these limits",
    Remedy.RAISE_LIMIT: "raise that limit",
    Remedy.RESHAPE_TENSORS: "reshape its tensors",
    Remedy.KEEP_OUT_OF_DELEGATE: IN_PYTHON[Remedy.KEEP_OUT_OF_DELEGATE],
    Remedy.PREDICT_TIMES: "use a profile in ns (--profile default), or measured costs "
    "(--costs FILE)",
    Remedy.PLAN_FIRST: "plan it first (layout-planner plan FILE --pte OUT.pte), then hand in the "
    ".pte",
    Remedy.IMPORT_RUNS: "import runs first (layout-planner profile import)",
    Remedy.NAME_DEVICE: "name one (--device NAME)",
    Remedy.NAME_ANOTHER_RUNTIME: "name a runtime that has it (--runtime R)",
    Remedy.NAME_TARGET: "name what to plan it for (--target webgpu or --target vulkan)",
    Remedy.IMPORT_OPERATORS: "import the modules that do (--import MODULE)",
    Remedy.TRUST_INPUT: "if you would run code of whoever made it, say so (--trust-input)",
}
