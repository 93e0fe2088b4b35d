"""Models to plan in benchmarks and tests: architectures from transformers with random weights.

Nothing is downloaded. ``small`` variants are for tests: the same blocks, fewer and narrower.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from planner.extras import quiet, require

Size = Literal["small", "full"]


@dataclass(frozen=True, slots=True)
class Model:
    """A model: its transformers class and config, the image size, and how it is quantized."""

    architecture: str
    config: str
    image: int
    options: dict[str, Any]
    int8: bool = False


def _model(
    architecture: str, config: str, image: int, *, int8: bool = False, **options: Any
) -> Model:
    return Model(architecture, config, image, options, int8)


def _segformer(image: int, *, int8: bool = False, **options: Any) -> Model:
    return _model(
        "SegformerForSemanticSegmentation", "SegformerConfig", image, int8=int8, **options
    )


_SMALL_SEGFORMER: Final[dict[str, Any]] = {
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [16, 24, 32, 48],
    "num_attention_heads": [1, 2, 4, 4],
    "decoder_hidden_size": 32,
}

FULL: Final[dict[str, Model]] = {
    "mobilenet_v2": _model("MobileNetV2ForImageClassification", "MobileNetV2Config", 224),
    "mobilenet_v2_int8": _model(
        "MobileNetV2ForImageClassification", "MobileNetV2Config", 224, int8=True
    ),
    "resnet50_int8": _model("ResNetForImageClassification", "ResNetConfig", 224, int8=True),
    "mobilevit_s": _model("MobileViTForImageClassification", "MobileViTConfig", 256),
    "convnext_t": _model("ConvNextForImageClassification", "ConvNextConfig", 224),
    "segformer_b0": _segformer(256),
    "segformer_b0_int8": _segformer(256, int8=True),
    "swin_t": _model("SwinForImageClassification", "SwinConfig", 224),
    "vit_b": _model("ViTForImageClassification", "ViTConfig", 224),
}

SMALL: Final[dict[str, Model]] = {
    "mobilenet_v2": _model(
        "MobileNetV2ForImageClassification",
        "MobileNetV2Config",
        96,
        depth_multiplier=0.35,
        image_size=96,
        num_labels=20,
    ),
    "mobilenet_v2_int8": _model(
        "MobileNetV2ForImageClassification",
        "MobileNetV2Config",
        96,
        int8=True,
        depth_multiplier=0.35,
        image_size=96,
        num_labels=20,
    ),
    "resnet50_int8": _model(
        "ResNetForImageClassification",
        "ResNetConfig",
        64,
        int8=True,
        embedding_size=16,
        hidden_sizes=[16, 32],
        depths=[2, 2],
    ),
    "mobilevit_s": _model(
        "MobileViTForImageClassification",
        "MobileViTConfig",
        64,
        image_size=64,
        hidden_sizes=[24, 32, 48],
        neck_hidden_sizes=[8, 8, 16, 24, 32, 40, 64],
    ),
    "convnext_t": _model(
        "ConvNextForImageClassification",
        "ConvNextConfig",
        64,
        hidden_sizes=[16, 32, 64, 96],
        depths=[1, 1, 2, 1],
    ),
    "segformer_b0": _segformer(64, **_SMALL_SEGFORMER),
    "segformer_b0_int8": _segformer(64, int8=True, **_SMALL_SEGFORMER),
    "swin_t": _model(
        "SwinForImageClassification",
        "SwinConfig",
        64,
        image_size=64,
        embed_dim=24,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
    ),
    "vit_b": _model(
        "ViTForImageClassification",
        "ViTConfig",
        64,
        image_size=64,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=96,
    ),
}


def names() -> tuple[str, ...]:
    """Names of the models."""
    return tuple(FULL)


def export(
    name: str, size: Size = "full", *, lively: bool = False, attention: str | None = None
) -> Any:
    """The ``torch.export.ExportedProgram`` of a model, quantized where its name says so.

    Transformers' initial weights are so small that deep models compute next to nothing; ``lively``
    ones are of He's variance. ``attention`` is one of transformers' implementations.
    """
    import torch

    model = (FULL if size == "full" else SMALL)[name]
    if attention is not None:
        options = {**model.options, "attn_implementation": attention}
        model = replace(model, options=options)
    module, inputs = _module(model), (torch.randn(1, 3, model.image, model.image),)
    if lively:
        for parameter in module.parameters():
            if parameter.dim() > 1:
                torch.nn.init.kaiming_normal_(parameter)
    if model.int8:
        module = quantized(module, inputs)
    return torch.export.export(module, inputs)


def save(name: str, size: Size = "full") -> bytes:
    """The bytes of a model's ``.pt2`` file. Raises ``MissingExtraError``."""
    require(f"the model {name}", "transformers", "torch", "torchao", "executorch")
    with quiet():
        import torch

        buffer = io.BytesIO()
        torch.export.save(export(name, size), buffer)
    return buffer.getvalue()


def _module(model: Model) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    config = getattr(transformers, model.config)(**model.options)
    net = getattr(transformers, model.architecture)(config).eval()

    class Logits(torch.nn.Module):
        """A .pt2 file holds tensors, not the classes that transformers returns."""

        def __init__(self, net: Callable[..., Any]) -> None:
            super().__init__()
            self.net = net

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.net(pixel_values=pixels).logits
            return logits

    return Logits(net).eval()


def quantized(module: Any, inputs: tuple[Any, ...]) -> Any:
    """Static int8: per-channel weights, calibrated on the example input."""
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e import MinMaxObserver
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    config = get_symmetric_quantization_config(is_per_channel=True)
    # The default observer searches a histogram for a second an activation. Layouts do not depend
    # on the scales that it finds.
    activation = replace(
        config.input_activation, observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=2**-12)
    )
    config = replace(config, input_activation=activation, output_activation=activation)
    quantizer = XNNPACKQuantizer().set_global(config)
    prepared = prepare_pt2e(torch.export.export(module, inputs).module(), quantizer)
    prepared(*inputs)
    return convert_pt2e(prepared)
