"""What to do about an error of the planner, in the words of each face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from planner.errors import Remedy

_BLOCKLIST: Final = (
    "keep the operator out of the delegate (operator_blocklist of VulkanPartitioner)"
)

COMMAND_LINE: Final[Mapping[Remedy, str]] = {
    Remedy.RAISE_TEXTURE_LIMITS: "raise the texture limits (--texture-limits X,Y,Z)",
    Remedy.RAISE_BUFFER_LIMIT: "raise the buffer limit (--buffer-limit N)",
    Remedy.EXCLUDE_FEWER_LAYOUTS: "exclude fewer layouts (--without-layout NAME)",
    Remedy.RESHAPE_TENSORS: "reshape its tensors",
    Remedy.KEEP_OUT_OF_DELEGATE: _BLOCKLIST,
    Remedy.PREDICT_TIMES: "use a profile in ns (--profile default), or measured costs "
    "(--costs FILE)",
    Remedy.PLAN_FIRST: "plan it first (layout-planner plan FILE --pte OUT.pte), then hand in the "
    ".pte",
    Remedy.IMPORT_RUNS: "import runs first (layout-planner profile import)",
    Remedy.NAME_DEVICE: "name one (--device NAME)",
    Remedy.NAME_ANOTHER_RUNTIME: "name a runtime that has it (--runtime R)",
    Remedy.IMPORT_OPERATORS: "import the modules that do (--import MODULE)",
    Remedy.TRUST_INPUT: "if you would run code of whoever made it, say so (--trust-input)",
}

HTTP: Final[Mapping[Remedy, str]] = {
    Remedy.RAISE_TEXTURE_LIMITS: "raise the texture limits (texture_limits=X,Y,Z)",
    Remedy.RAISE_BUFFER_LIMIT: "raise the buffer limit (buffer_limit=N)",
    Remedy.EXCLUDE_FEWER_LAYOUTS: "exclude fewer layouts (without_layout=NAME)",
    Remedy.RESHAPE_TENSORS: "reshape its tensors",
    Remedy.KEEP_OUT_OF_DELEGATE: _BLOCKLIST,
    Remedy.PREDICT_TIMES: "use a profile in ns (profile=default)",
    Remedy.PLAN_FIRST: "plan it first (POST /plan), then hand in its program.pte",
    Remedy.IMPORT_RUNS: "use a device profile",
    Remedy.NAME_DEVICE: "use a device profile",
    Remedy.NAME_ANOTHER_RUNTIME: "name a runtime that has it (runtime=R)",
    Remedy.IMPORT_OPERATORS: "lower the program where they are defined, and hand in the .pte",
    Remedy.TRUST_INPUT: "lower it where its author is trusted, and hand in the .pte",
}
