"""Prints the registries in folders of other releases' Vulkan delegates, as JSON, one in a line.

A delegate is put in the place of the installed one; the rest of ExecuTorch is the installed one.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import types
from typing import Any

import executorch.backends
import executorch.exir  # before its delegate is replaced
import torchao  # noqa: F401 - what takes seconds is imported once


def layouts(sets: Any) -> list[list[list[int]]]:
    """Buffer layouts and texture layouts of each set."""
    return [
        [sorted(map(int, s.valid_buffer_layouts)), sorted(map(int, s.valid_texture_layouts))]
        for s in sets.vals
    ]


def registry(folder: str) -> dict[str, Any]:
    """The registry of the delegate in a folder, by names in a VkGraph."""
    vulkan = types.ModuleType("executorch.backends.vulkan")
    vulkan.__path__ = [folder]
    sys.modules[vulkan.__name__] = executorch.backends.vulkan = vulkan
    from executorch.backends.vulkan import op_registry

    found = {}
    for key, features in op_registry.vulkan_supported_ops.items():
        pick = features.pick_io_storage_fn
        found[key.replace("::", ".") if isinstance(key, str) else key.__name__] = {
            "inputs": layouts(features.inputs_storage),
            "outputs": layouts(features.outputs_storage),
            "pick": None if pick is None else inspect.getsource(pick),
        }
    return found


for folder in sys.argv[1:]:
    # Operators are defined once in a process: each registry is read in a copy of this one.
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"{folder} cannot be read")
    else:
        print(json.dumps(registry(folder)), flush=True)
        os._exit(0)
