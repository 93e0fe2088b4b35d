"""Models of language and speech: a Llama by ExecuTorch's own LLM export, and Whisper."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal

from api.bench.zoo.sample import Build, Sample, Size

if TYPE_CHECKING:
    from torch import Tensor

_FULL_LLAMA: Final = {
    "dim": 288,
    "n_layers": 6,
    "n_heads": 6,
    "vocab_size": 32000,
    "hidden_dim": 768,
}
"""The sizes of stories15M, a public model."""
_SMALL_LLAMA: Final = {
    "dim": 64,
    "n_layers": 1,
    "n_heads": 4,
    "n_kv_heads": 2,
    "vocab_size": 128,
    "hidden_dim": 96,
}


def _llama(step: Literal["prefill", "decode", "any"], size: Size) -> Sample:
    """A Llama with a cache of keys and values: eight tokens at once, one, or any number."""
    import torch
    from executorch.examples.models.llama.export_llama_lib import _prepare_for_llama_export
    from executorch.examples.models.llama.llama_transformer import construct_transformer
    from executorch.examples.models.llama.model_args import ModelArgs
    from executorch.extension.llm.export.config.llm_config import LlmConfig

    sizes = _FULL_LLAMA if size == "full" else _SMALL_LLAMA
    length = 128 if size == "full" else 32
    torch.manual_seed(0)
    args = ModelArgs(**sizes, max_seq_len=length, max_context_len=length)
    with TemporaryDirectory() as folder:
        weights, params = Path(folder) / "weights.pth", Path(folder) / "params.json"
        torch.save(construct_transformer(args).state_dict(), weights)
        params.write_text(json.dumps(sizes))
        config = LlmConfig()
        config.base.checkpoint, config.base.params = str(weights), str(params)
        config.model.use_kv_cache = config.model.use_sdpa_with_kv_cache = True
        # Its static model takes one token; the other one takes a fixed number as well.
        config.model.enable_dynamic_shape = step != "decode"
        config.backend.vulkan.enabled = True
        config.export.max_seq_length = config.export.max_context_length = length
        builder = _prepare_for_llama_export(config)
        if step != "decode":
            # ExecuTorch's runner takes inputs of the largest sizes alone.
            count = 8 if step == "prefill" else length - 1
            builder.example_inputs = (torch.arange(count)[None], *builder.example_inputs[1:])
        if step == "prefill":
            builder.dynamic_shapes = None
        builder.export()
        builder.run_canonical_optimizations()
    module = builder.pre_autograd_graph_module
    return Sample(
        module,
        builder.example_inputs,
        builder.example_kwarg_inputs or {},
        builder.dynamic_shapes if step == "any" else None,
    )


def _whisper(size: Size) -> Sample:
    """Speech to text: an encoder of spectrograms, a decoder of tokens."""
    import torch
    import transformers

    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    small: dict[str, Any] = {
        "d_model": 48,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 3,
        "decoder_attention_heads": 3,
        "encoder_ffn_dim": 96,
        "decoder_ffn_dim": 96,
        "vocab_size": 120,
        "max_source_positions": 30,
        "max_target_positions": 16,
        "pad_token_id": 1,
        "bos_token_id": 1,
        "eos_token_id": 1,
        "decoder_start_token_id": 2,
    }
    full: dict[str, Any] = {"d_model": 384, "encoder_layers": 4, "decoder_layers": 4}
    full |= {"encoder_attention_heads": 6, "decoder_attention_heads": 6}
    full |= {"encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536}
    # The masks of sdpa need an operator that ExecuTorch's runtime lacks.
    config = transformers.WhisperConfig(
        **(full if size == "full" else small), attn_implementation="eager", use_cache=False
    )
    net = transformers.WhisperForConditionalGeneration(config).eval()

    class Logits(torch.nn.Module):
        """A .pt2 file holds tensors, not the classes that transformers returns."""

        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, spectrogram: Tensor, tokens: Tensor) -> Tensor:
            logits: Tensor = self.net(input_features=spectrogram, decoder_input_ids=tokens).logits
            return logits

    frames = 2 * config.max_source_positions
    spectrogram = torch.randn(1, config.num_mel_bins, frames)
    return Sample(Logits().eval(), (spectrogram, torch.arange(8)[None]))


LANGUAGE: Final[dict[str, Build]] = {
    "llama_prefill": partial(_llama, "prefill"),
    "llama_decode": partial(_llama, "decode"),
    "llama_any_length": partial(_llama, "any"),
    "whisper_tiny": _whisper,
}
"""The models by name."""
