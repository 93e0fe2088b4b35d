"""Models to plan in benchmarks and tests, with random weights. Nothing is downloaded."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

from api.bench.zoo.images import IMAGES
from api.bench.zoo.int8 import quantized
from api.bench.zoo.language import LANGUAGE
from api.bench.zoo.own import OWN
from api.bench.zoo.sample import Build, Size
from planner.errors import OptionError
from planner.extras import quiet, require

__all__ = ["Size", "chosen", "export", "names", "quantized", "save"]

_MODELS: Final[dict[str, Build]] = {**IMAGES, **OWN, **LANGUAGE}


def names() -> tuple[str, ...]:
    """Names of the models."""
    return tuple(_MODELS)


def chosen(wanted: Sequence[str]) -> tuple[str, ...]:
    """The models of these names, or all. Raises ``OptionError`` for one that is not there."""
    for name in wanted:
        if name not in _MODELS:
            raise OptionError(f"unknown model {name!r}: use one of {', '.join(_MODELS)}")
    return tuple(wanted) or names()


def export(name: str, size: Size = "full", *, lively: bool = False) -> Any:
    """The ``torch.export.ExportedProgram`` of a model, quantized where its name says so.

    The initial weights of transformers are so small that deep models compute next to nothing;
    ``lively`` ones are of He's variance.
    """
    import torch

    sample = _MODELS[name](size)
    module = sample.module
    if lively:
        for parameter in module.parameters():
            if parameter.dim() > 1:
                torch.nn.init.kaiming_normal_(parameter)
    if sample.int8:
        module = quantized(module, sample.args)
    return torch.export.export(
        module, sample.args, dict(sample.kwargs), dynamic_shapes=sample.dynamic_shapes
    )


def save(name: str, size: Size = "full") -> bytes:
    """The bytes of a model's ``.pt2`` file. Raises ``MissingExtraError``."""
    require(f"the model {name}", "transformers", "torch", "torchao", "executorch")
    with quiet():
        import torch

        buffer = io.BytesIO()
        torch.export.save(export(name, size), buffer)
    return buffer.getvalue()
