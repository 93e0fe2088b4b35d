"""What a program takes and returns, by ExecuTorch's runtime, and what PyTorch makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from executorch.runtime import Runtime
from numpy.typing import NDArray
from torch.utils._pytree import tree_leaves, tree_unflatten

from planner.errors import InputError, PlannerError
from planner.executorch.loading import load_exported
from planner.options import LoweringOptions

TypeAndSizes = tuple[int, tuple[int, ...]]
"""A tensor's type as ExecuTorch counts them, and its sizes, outermost first."""


def tensors_of(program: bytes) -> tuple[list[TypeAndSizes], list[TypeAndSizes]]:
    """The inputs and outputs of a lowered program's first method.

    Sizes that vary are the largest ones. Raises whatever ExecuTorch's runtime raises, which also
    refuses inputs that are no tensors.
    """
    loaded = Runtime.get().load_program(program)
    meta = loaded.metadata(sorted(loaded.method_names)[0])
    inputs = [meta.input_tensor_meta(i) for i in range(meta.num_inputs())]
    outputs = [meta.output_tensor_meta(i) for i in range(meta.num_outputs())]
    described = [[(int(t.dtype()), tuple(t.sizes())) for t in side] for side in (inputs, outputs)]
    return described[0], described[1]


def eager_outputs(
    data: bytes,
    name: str,
    inputs: Sequence[NDArray[Any]],
    options: LoweringOptions | None = None,
) -> list[NDArray[Any]]:
    """The outputs of a ``.pt2`` for its inputs, flat and in order; raises ``InputError``."""
    try:
        program = load_exported(data, name, options or LoweringOptions())
        tensors = [torch.from_numpy(array.copy()) for array in inputs]
        assert program.call_spec.in_spec is not None
        args, kwargs = tree_unflatten(tensors, program.call_spec.in_spec)
        with torch.no_grad():
            found = program.module()(*args, **kwargs)
    except PlannerError:
        raise
    except Exception as error:
        raise InputError(f"PyTorch cannot run {name}: {error}") from error
    return [leaf.detach().numpy() for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]
