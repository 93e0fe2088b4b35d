"""Static int8 quantization, as for ExecuTorch's XNNPACK and Vulkan delegates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any


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
