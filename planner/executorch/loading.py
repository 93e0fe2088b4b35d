"""Exported programs as torch loads them, once they are vetted."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import torch

from planner.errors import InputError, Remedy
from planner.executorch.libraries import load_libraries
from planner.files.exported import operators_in
from planner.files.vetting.program import NAMESPACES
from planner.files.vetting.vet import vet
from planner.options import LoweringOptions


def load_exported(data: bytes, name: str, options: LoweringOptions) -> Any:
    """The ``ExportedProgram`` in a ``.pt2``.

    Unless the options trust it, torch gets nothing of the file but what was vetted. With
    ``imports``, operators of any namespace may be called: the modules define them. Raises
    ``InputError`` for a file that is refused, or that has operators that nothing defines, and what
    torch raises.
    """
    if options.trust:
        load_libraries(name, operators_in(io.BytesIO(data), name), options.imports)
        return torch.export.load(io.BytesIO(data))
    safe, vetted = vet(data, name, None)
    called = {f"{namespace}.{operator}" for namespace, operator, _ in vetted.operators}
    foreign = sorted(o for o in called if o.partition(".")[0] not in NAMESPACES)
    if foreign and not options.imports:
        # Torch has namespaces of its own that do more than compute.
        raise InputError(
            f"{name} has operators that no library here defines: {', '.join(foreign[:4])}",
            Remedy.IMPORT_OPERATORS,
        )
    load_libraries(name, called, options.imports)
    _check_dispatched(vetted.operators, name)
    return torch.export.load(io.BytesIO(safe))


def _check_dispatched(operators: Iterable[tuple[str, str, str]], name: str) -> None:
    """Refuses what only TorchScript has: functions that are no operators on tensors."""
    for namespace, operator, overload in sorted(operators):
        try:
            torch._C._dispatch_find_schema_or_throw(
                f"{namespace}::{operator}", "" if overload == "default" else overload
            )
        except RuntimeError as error:
            raise InputError(
                f"{name} is refused: {namespace}.{operator}.{overload} is no operator on tensors",
                Remedy.TRUST_INPUT,
            ) from error
