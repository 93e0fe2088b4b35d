"""Models of images: architectures from transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from api.bench.zoo.sample import Build, Sample, Size


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
    "cvt_13": _model("CvtForImageClassification", "CvtConfig", 224),
    "segformer_b0": _segformer(256),
    "segformer_b0_int8": _segformer(256, int8=True),
    "swin_t": _model("SwinForImageClassification", "SwinConfig", 224),
    "vit_b": _model("ViTForImageClassification", "ViTConfig", 224),
}

_EAGER: Final = ("segformer_b0", "vit_b")
"""Models that are here with eager attention as well: the masks of ``sdpa`` need an operator that
ExecuTorch's runtime lacks."""

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
    "cvt_13": _model(
        "CvtForImageClassification",
        "CvtConfig",
        64,
        embed_dim=[16, 32, 48],
        num_heads=[1, 2, 3],
        depth=[1, 2, 3],
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


def _sample(name: str, attention: str | None, size: Size) -> Sample:
    import torch
    import transformers

    model = (FULL if size == "full" else SMALL)[name]
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    chosen = {} if attention is None else {"attn_implementation": attention}
    config = getattr(transformers, model.config)(**model.options, **chosen)
    net = getattr(transformers, model.architecture)(config).eval()

    class Logits(torch.nn.Module):
        """A .pt2 file holds tensors, not the classes that transformers returns."""

        def __init__(self, net: Callable[..., Any]) -> None:
            super().__init__()
            self.net = net

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.net(pixel_values=pixels).logits
            return logits

    image = torch.randn(1, 3, model.image, model.image)
    return Sample(Logits(net).eval(), (image,), int8=model.int8)


IMAGES: Final[dict[str, Build]] = {
    **{name: partial(_sample, name, None) for name in FULL},
    **{f"{name}_eager": partial(_sample, name, "eager") for name in _EAGER},
}
"""The models by name."""
