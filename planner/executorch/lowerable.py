"""Programs on which ExecuTorch's preprocessing fails, although each of its parts can lower them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from planner.executorch.patches import Hook, Wrapper


def lowerable() -> dict[Hook, Wrapper]:
    """What lets more programs be lowered; those that ExecuTorch lowers itself stay as they are."""
    return {Hook.PASSES: _with_fake_inputs, Hook.SDPA_PATTERN: _with_caches}


def _with_fake_inputs(apply: Any) -> Callable[..., Any]:
    """For delegates whose every input is a constant, as those that make attention masks.

    A pass takes a constant's tensor for its fake one, and a new fake mode where no input is fake:
    the next pass then finds two modes. Source: ``exir/pass_base.py`` (``ExportPass.inputs``).
    """

    def apply_to(program: Any, passes: Any) -> Any:
        inputs = program.graph_module.graph.find_nodes(op="placeholder")
        fakes: list[Any] = [node.meta.get("val") for node in inputs]
        if fakes and all(getattr(fake, "constant", None) is not None for fake in fakes):
            for node, fake in zip(inputs, fakes, strict=True):
                with fake.fake_mode:
                    node.meta["val"] = torch.empty(fake.shape, dtype=fake.dtype, device=fake.device)
        return apply(program, passes)

    return apply_to


def _with_caches(find: Any) -> Callable[..., Any]:
    """For attention whose caches are not written right before it.

    Fusing writes and attention into one operator asserts that they are. Source:
    ``backends/vulkan/patterns/sdpa.py`` (``replace_custom_sdpa_with_causal_sdpa``).
    """

    def find_with_caches(node: Any) -> Any:
        match = find(node)
        if match is None:
            return None
        writes = match.update_key_cache_node, match.update_value_cache_node
        return None if None in writes else match

    return find_with_caches
