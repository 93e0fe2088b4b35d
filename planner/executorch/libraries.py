"""The libraries that define a program's operators: imported before torch reads the program."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

import torch

from planner.errors import InputError, OptionError, Remedy

_LIBRARIES: Final = {
    "dim_order_ops": "executorch.exir.passes.dim_order_ops_registry",
    "et_vk": "executorch.backends.vulkan.custom_ops_lib",
    "llama": "executorch.extension.llm.custom_ops.custom_ops",
    "quantized": "executorch.kernels.quantized",
    "quantized_decomposed": "torchao.quantization.pt2e",
    "torchao": "torchao",
}
"""What registers the operators of a namespace: ExecuTorch's own libraries, and torchao."""


def load_libraries(name: str, operators: Collection[str], imports: Iterable[str] = ()) -> None:
    """Imports what defines the operators (``namespace.name``) of a program, and a user's modules.

    A module is a name, or the path of a Python file. Raises ``OptionError`` for one that cannot be
    imported, ``InputError`` naming the operators that nothing defines.
    """
    for module in imports:
        _import(module)
    namespaces = {operator.partition(".")[0] for operator in operators}
    for namespace in sorted(namespaces & _LIBRARIES.keys()):
        importlib.import_module(_LIBRARIES[namespace])
    if missing := sorted(operator for operator in operators if not _is_defined(operator)):
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        raise InputError(
            f"{name} has operators that no library here defines: {', '.join(missing[:4])}{more}",
            Remedy.IMPORT_OPERATORS,
        )


def _import(module: str) -> None:
    try:
        if not module.endswith(".py"):
            importlib.import_module(module)
            return
        path = Path(module).resolve()
        if getattr(sys.modules.get(path.stem), "__file__", None) == str(path):
            return  # its operators can be defined once
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        sys.modules.setdefault(path.stem, loaded)
    except Exception as error:
        raise OptionError(f"cannot import {module}: {type(error).__name__}: {error}") from error


def _is_defined(operator: str) -> bool:
    namespace, _, name = operator.partition(".")
    return hasattr(getattr(torch.ops, namespace), name)
