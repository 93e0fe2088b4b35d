"""The rep sets of each ET-VK operator, by its name in a VkGraph and by release.

Source of the facts: ExecuTorch, ``backends/vulkan/op_registry.py`` of 1.1.0, 1.2.0, 1.3.1, 1.4.1
and 1.5.1. Tests compare the table with the installed package, operator by operator and node by
node, and with the registries in the wheels of the other releases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

from planner.errors import InputError
from planner.ir.graph import Argument, Operator, Tensor, TensorArg, TensorListArg
from planner.ir.representation import (
    ANY_BUFFER,
    ANY_STORAGE,
    ANY_STORAGE_INCL_PACKED_INT8,
    ANY_TEXTURE,
    CHANNELS_PACKED_TEXTURE,
    CHANNELS_PACKED_TEXTURE_OR_CONTIGUOUS_BUFFER,
    CONTIGUOUS_ANY,
    CONTIGUOUS_BUFFER,
    HEIGHT_PACKED_TEXTURE,
    NO_STORAGE,
    PACKED_INT8_4H4W_BUFFER,
    PACKED_INT8_4W4C_BUFFER,
    PACKED_INT8_4W_BUFFER,
    PACKED_INT8_BUFFER,
    PACKED_INT8_CHANNELS_PACKED_BUFFER,
    PACKED_INT8_CONV2D_BUFFER,
    WIDTH_PACKED_TEXTURE,
    TensorRepSet,
)
from planner.kernels.releases import LATEST, RELEASES, Release, Runtime, Target
from schema import VkDataType
from schema.frozen import frozen

RepSets = tuple[TensorRepSet, ...]
StoragePicker = Callable[[Operator, Sequence[Tensor]], tuple[RepSets, RepSets]]

PREPACK: Final = "et_vk.prepack.default"
CLONE: Final = "aten.clone.default"

_WRITTEN_ARGS: Final = {
    "update_cache": (1,),
    "sdpa_with_kv_cache": (3, 4),
    "adamw_step": (0, 1, 2),
}
"""The arguments that an operator writes into, by its name without namespace and overload."""

SYMBOLIC: Final = (
    *("getitem", "sym_size.int", "add", "sub", "floordiv", "mul", "lt", "gt", "ge", "le", "eq"),
    *("_assert_scalar.default", "sym_constrain_range_for_size.default"),
)
"""Operators that are registered and make no tensor, so that their sets never bind one."""


@frozen
class OpFeatures:
    """An operator's registration.

    A single set in ``inputs`` (``outputs``) counts for all of them, which must then be compatible
    with each other; several sets count for one position each. ``pick`` replaces both once the
    actual arguments are known.
    """

    inputs: RepSets
    outputs: RepSets
    pick: StoragePicker | None = None


_DENSE: Final = OpFeatures((CONTIGUOUS_BUFFER,), (CONTIGUOUS_BUFFER,))


def lookup(name: str, release: Release = LATEST, target: Target = "vulkan") -> OpFeatures | None:
    """The registration of an operator in a release, by its name in a VkGraph; None if none.

    WebGPU's runtime has no other representation than one, whatever the operator.
    """
    if target == "webgpu":
        return _DENSE
    if name not in _REGISTRY:
        # Custom operators are registered without their overload, for any dialect's name of it.
        name = name.rpartition(".")[0]
    for until, features in _EARLIER.get(name, ()):
        if release <= until:
            return features
    return _REGISTRY.get(name)


@cache
def registrations(name: str, runtime: Runtime) -> tuple[OpFeatures, ...]:
    """The registrations of an operator in the releases of a runtime, each once."""
    found = (lookup(name, release, runtime.target) for release in runtime.releases)
    return tuple(dict.fromkeys(features for features in found if features is not None))


@cache
def releases_of(name: str) -> tuple[Release, ...]:
    """The releases that register an operator."""
    return tuple(release for release in RELEASES if lookup(name, release) is not None)


def written_args(name: str) -> tuple[int, ...]:
    """The arguments that an operator writes into, which must be the tensors themselves."""
    return next((_WRITTEN_ARGS[part] for part in name.split(".") if part in _WRITTEN_ARGS), ())


def registered_names() -> tuple[str, ...]:
    """Names of all registered operators; those of custom operators lack the overload."""
    return tuple(_REGISTRY)


# Sets that depend on the actual arguments.

_FLOAT = (VkDataType.FLOAT16, VkDataType.FLOAT32)


def _argument(operator: Operator, index: int, wanted: str) -> Argument:
    if index >= len(operator.args):
        raise _unexpected(operator, index, wanted)
    return operator.args[index]


def _unexpected(operator: Operator, index: int, wanted: str) -> InputError:
    return InputError(f"{operator.name}: argument {index} should be {wanted}")


def _tensor(
    operator: Operator, tensors: Sequence[Tensor], index: int, least_dims: int = 0
) -> Tensor:
    wanted = "a tensor" + (f" of at least {least_dims} dimensions" if least_dims else "")
    arg = _argument(operator, index, wanted)
    if not isinstance(arg, TensorArg) or len(tensors[arg.tensor].shape) < least_dims:
        raise _unexpected(operator, index, wanted)
    return tensors[arg.tensor]


def _pick_to_copy(operator: Operator, tensors: Sequence[Tensor]) -> tuple[RepSets, RepSets]:
    source, result = _tensor(operator, tensors, 0), tensors[operator.outputs[0]]
    both_float = source.dtype in _FLOAT and result.dtype in _FLOAT
    sets = ANY_STORAGE if both_float else CONTIGUOUS_BUFFER
    return (sets,), (sets,)


def _reduced_dims(operator: Operator, tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """Dimensions that a reduction removes, outermost first; -1 only of a tensor that has none."""
    ndim = len(_tensor(operator, tensors, 0).shape)
    dims = operator.args[1] if len(operator.args) > 1 else None
    if dims is None:
        result = tensors[operator.outputs[0]]
        is_vector = len(result.shape) >= 1 and all(size == 1 for size in result.shape[:-1])
        dims = 1 if is_vector and ndim == 2 else tuple(range(ndim))
    if isinstance(dims, int):
        dims = (dims,)
    # As in PyTorch, a tensor without dimensions may be reduced along 0 or -1.
    names = range(-max(ndim, 1), max(ndim, 1))
    found = []
    for dim in dims if isinstance(dims, tuple) else (dims,):
        if not isinstance(dim, int) or dim not in names:
            raise _unexpected(operator, 1, f"dimensions of a tensor that has {ndim}")
        found.append(dim + ndim if dim < 0 else dim)
    return tuple(found)


def _pick_reduce(operator: Operator, tensors: Sequence[Tensor]) -> tuple[RepSets, RepSets]:
    ndim = len(_tensor(operator, tensors, 0).shape)
    dims = _reduced_dims(operator, tensors)
    keepdim = next((arg for arg in operator.args if isinstance(arg, bool)), False)
    sets = NO_STORAGE
    if len(dims) <= 2 and keepdim:
        sets = ANY_TEXTURE
    if dims == (ndim - 1,):
        sets |= CONTIGUOUS_BUFFER
    elif len(dims) == 2:
        # The packed dimension cannot be one of the two that are reduced.
        reduced = {ndim - 1 - dim for dim in dims}
        packed = min({0, 1, 2} - reduced)
        sets = (WIDTH_PACKED_TEXTURE, HEIGHT_PACKED_TEXTURE, CHANNELS_PACKED_TEXTURE)[packed]
    return (sets,), (sets,)


def _pick_convolution(operator: Operator, tensors: Sequence[Tensor]) -> tuple[RepSets, RepSets]:
    sets = CHANNELS_PACKED_TEXTURE
    source = _tensor(operator, tensors, 0).shape
    weight = _tensor(operator, tensors, 1, least_dims=3).shape
    if len(source) == 3:
        groups = _argument(operator, 8, "the number of groups")
        pointwise = weight[2] == 1
        depthwise = groups == source[1] == weight[0] and weight[1] == 1
        if pointwise or depthwise:
            sets = HEIGHT_PACKED_TEXTURE
    return (sets, *[NO_STORAGE] * 10), (sets,)


def _pick_index(operator: Operator, tensors: Sequence[Tensor]) -> tuple[RepSets, RepSets]:
    wanted = "a list of tensors"
    shape, indices = _tensor(operator, tensors, 0).shape, _argument(operator, 1, wanted)
    if isinstance(indices, TensorListArg):
        members = indices.tensors
    elif isinstance(indices, tuple) and all(member is None for member in indices):
        members = (None,) * len(indices)
    else:
        raise _unexpected(operator, 1, wanted)
    given = [dim for dim, t in enumerate(members) if t is not None]
    one_index = len(given) == 1 and given[0] < len(shape)
    sets = CONTIGUOUS_BUFFER if one_index and len(shape) > 1 else ANY_STORAGE
    return (sets,), (sets,)


# The table.

_REGISTRY: Final[dict[str, OpFeatures]] = {}
"""The registrations of the latest release."""

_EARLIER: Final[dict[str, tuple[tuple[Release, OpFeatures | None], ...]]] = {}
"""What was registered instead up to a release, the oldest first; None where nothing was."""


def _register(
    inputs: TensorRepSet | Sequence[TensorRepSet],
    *names: str,
    outputs: TensorRepSet | Sequence[TensorRepSet] = (),
    pick: StoragePicker | None = None,
) -> None:
    ins = (inputs,) if isinstance(inputs, TensorRepSet) else tuple(inputs)
    outs = (outputs,) if isinstance(outputs, TensorRepSet) else tuple(outputs)
    for name in names:
        assert name not in _REGISTRY, f"{name} is registered twice"
        _REGISTRY[name] = OpFeatures(ins, outs or ins[:1], pick)


def _aten(*names: str) -> tuple[str, ...]:
    """Adds the namespace, and the default overload where a name has none."""
    return tuple(f"aten.{name}" if "." in name else f"aten.{name}.default" for name in names)


_register(
    ANY_STORAGE,
    *_aten("abs", "cos", "exp", "gelu", "hardshrink", "hardswish", "hardtanh", "neg", "relu"),
    *_aten("sigmoid", "sin", "sqrt", "rsqrt", "tanh", "round", "leaky_relu", "log10", "clamp"),
    *_aten("add.Tensor", "sub.Tensor", "minimum", "mul.Tensor", "div.Tensor", "div.Tensor_mode"),
    *_aten("pow.Tensor_Tensor", "pow.Tensor_Scalar"),
    *_aten("eq.Tensor", "lt.Tensor", "le.Tensor", "gt.Tensor", "ge.Tensor"),
    *_aten("eq.Scalar", "ne.Scalar", "lt.Scalar", "le.Scalar", "ge.Scalar", "gt.Scalar"),
    *_aten("bitwise_and.Tensor", "bitwise_or.Tensor", "bitwise_not"),
    *_aten("logical_and", "logical_or", "logical_not"),
    *_aten("_log_softmax", "_softmax", "native_layer_norm", "embedding", "copy"),
    *_aten("permute_copy", "squeeze_copy.dims", "unsqueeze_copy", "expand_copy", "gather"),
    *_aten("cat", "select_copy.int", "slice_copy.Tensor", "split_with_sizes_copy", "where.self"),
    *_aten("arange.start_step", "constant_pad_nd", "full", "full_like", "ones", "ones_like"),
    *_aten("zeros", "zeros_like", "pixel_shuffle", "repeat"),
    *SYMBOLIC,
)
_register(ANY_STORAGE, *_aten("_to_copy"), pick=_pick_to_copy)
_register(ANY_STORAGE, *_aten("index.Tensor"), pick=_pick_index)
_register(ANY_STORAGE, *_aten("argmax", "argmin"), pick=_pick_reduce)
_register(ANY_TEXTURE, *_aten("mean.dim", "sum.dim_IntList", "amax", "amin"), pick=_pick_reduce)
_register(ANY_TEXTURE, *_aten("permute"))
_register(
    ANY_STORAGE_INCL_PACKED_INT8,
    *_aten("view_copy", "clone", "alias_copy"),
    "dim_order_ops._clone_dim_order.default",
)
_register(
    ANY_BUFFER,
    *_aten("unfold_copy"),
    "dim_order_ops._to_dim_order_copy.default",
    "quantized_decomposed.embedding_4bit.dtype",
)
_register(
    CHANNELS_PACKED_TEXTURE,
    *_aten("avg_pool2d", "max_pool2d", "max_pool2d_with_indices", "t_copy", "flip"),
    *_aten("index_select", "scalar_tensor", "upsample_nearest2d.vec", "upsample_bilinear2d.vec"),
    *_aten("_native_batch_norm_legit_no_training"),
    "et_vk.grid_priors.default",
)
_register(
    CHANNELS_PACKED_TEXTURE,
    *_aten("native_group_norm"),
    outputs=(CHANNELS_PACKED_TEXTURE, CONTIGUOUS_BUFFER, CONTIGUOUS_BUFFER),
)
_register((CHANNELS_PACKED_TEXTURE, CONTIGUOUS_BUFFER), *_aten("grid_sampler_2d"))
_register(
    (CHANNELS_PACKED_TEXTURE, *[NO_STORAGE] * 10),
    *_aten("convolution"),
    "et_vk.conv_with_clamp.default",
    pick=_pick_convolution,
)
_register(
    CONTIGUOUS_ANY,
    *_aten("bmm", "mm", "addmm", "linear", "_weight_int8pack_mm"),
    "et_vk.linear_qcs4w.default",
    "et_vk.linear_q8ta_q8csw.default",
    "et_vk.linear_q4gsw.default",
    "et_vk.linear_q4gsw_backward.default",
    "et_vk.linear_dW.default",
    "et_vk.q4gsw_requant.default",
    "et_vk.embedding_q4gsw.default",
    "et_vk.apply_rotary_emb.default",
    "et_vk.apply_rotary_emb_hf.default",
    "et_vk.rms_norm.default",
    "et_vk.fused_ce.default",
    # Registered by qualified name: a graph may carry them with or without the namespace.
    *("et_vk.sdpa", "et_vk.adamw_step", "sdpa", "adamw_step"),
    *("llama.sdpa_with_kv_cache", "llama.update_cache", "llama.custom_sdpa"),
    *("sdpa_with_kv_cache", "update_cache", "custom_sdpa"),
)
_register((CONTIGUOUS_ANY, CONTIGUOUS_BUFFER), "et_vk.apply_rotary_emb_interleaved.default")
_register(
    (CONTIGUOUS_ANY, WIDTH_PACKED_TEXTURE, WIDTH_PACKED_TEXTURE, *[NO_STORAGE] * 5),
    "et_vk.linear_dq8ca_q4gsw.default",
)
_register(
    CONTIGUOUS_BUFFER,
    "quantized_decomposed.quantize_per_channel.default",
    "quantized_decomposed.quantize_per_token.default",
    "quantized_decomposed.dequantize_per_channel.default",
    "quantized_decomposed.dequantize_per_token.default",
    "quantized_decomposed.choose_qparams.tensor",
    "quantized_decomposed.choose_qparams_per_token_asymmetric.default",
    "torchao.quantize_affine.default",
    "torchao.dequantize_affine.default",
)
_register(
    CONTIGUOUS_ANY,
    "torchao.choose_qparams_affine.default",
    outputs=(WIDTH_PACKED_TEXTURE, WIDTH_PACKED_TEXTURE),
)
_register(
    CHANNELS_PACKED_TEXTURE_OR_CONTIGUOUS_BUFFER,
    "quantized_decomposed.quantize_per_tensor.default",
    "quantized_decomposed.quantize_per_tensor.tensor",
    outputs=PACKED_INT8_BUFFER,
)
_register(
    PACKED_INT8_BUFFER,
    "quantized_decomposed.dequantize_per_tensor.default",
    "quantized_decomposed.dequantize_per_tensor.tensor",
    outputs=CHANNELS_PACKED_TEXTURE_OR_CONTIGUOUS_BUFFER,
)
_register(PACKED_INT8_BUFFER, "et_vk.q8ta_add.default", "et_vk.q8ta_relu.default")
_register(PACKED_INT8_CHANNELS_PACKED_BUFFER, "et_vk.q8ta_pixel_shuffle.default")
_register(
    (PACKED_INT8_4W4C_BUFFER, *[NO_STORAGE] * 14),
    "et_vk.q8ta_conv2d_pw.default",
    outputs=PACKED_INT8_CHANNELS_PACKED_BUFFER,
)
_register(
    (PACKED_INT8_CONV2D_BUFFER, *[NO_STORAGE] * 14),
    "et_vk.q8ta_conv2d.default",
    "et_vk.q8ta_conv2d_dw.default",
    outputs=PACKED_INT8_CHANNELS_PACKED_BUFFER,
)
_register(
    (PACKED_INT8_CONV2D_BUFFER, *[NO_STORAGE] * 15),
    "et_vk.q8ta_conv2d_transposed.default",
    outputs=PACKED_INT8_CHANNELS_PACKED_BUFFER,
)
_register(
    (PACKED_INT8_4H4W_BUFFER, *[NO_STORAGE] * 9),
    "et_vk.q8ta_linear.default",
    outputs=PACKED_INT8_4H4W_BUFFER,
)
_register(
    (PACKED_INT8_4W_BUFFER, *[NO_STORAGE] * 9),
    "et_vk.q8ta_linear_gemv.default",
    outputs=PACKED_INT8_4W_BUFFER,
)

# What was registered before.


def _until(
    release: Release,
    inputs: TensorRepSet | Sequence[TensorRepSet],
    *names: str,
    outputs: TensorRepSet | None = None,
    pick: StoragePicker | None = None,
) -> None:
    ins = (inputs,) if isinstance(inputs, TensorRepSet) else tuple(inputs)
    outs = ins[:1] if outputs is None else (outputs,)
    _add_earlier(release, OpFeatures(ins, outs, pick), names)


def _new_in(release: Release, *names: str) -> None:
    _add_earlier(RELEASES[RELEASES.index(release) - 1], None, names)


def _add_earlier(until: Release, features: OpFeatures | None, names: Sequence[str]) -> None:
    for name in names:
        assert name in _REGISTRY, f"{name} is not registered today"
        assert all(other < until for other, _ in _EARLIER.get(name, ())), f"{name} out of order"
        _EARLIER[name] = (*_EARLIER.get(name, ()), (until, features))


_until(
    "1.1",
    CHANNELS_PACKED_TEXTURE_OR_CONTIGUOUS_BUFFER,
    "quantized_decomposed.quantize_per_tensor.default",
    "quantized_decomposed.quantize_per_tensor.tensor",
    outputs=PACKED_INT8_4W4C_BUFFER,
)
_until(
    "1.1",
    PACKED_INT8_4W4C_BUFFER,
    "quantized_decomposed.dequantize_per_tensor.default",
    "quantized_decomposed.dequantize_per_tensor.tensor",
    outputs=CHANNELS_PACKED_TEXTURE_OR_CONTIGUOUS_BUFFER,
)
_new_in(
    "1.2",
    *_aten("bitwise_and.Tensor", "copy", "index.Tensor", "where.self"),
    *("et_vk.q8ta_add.default", "et_vk.q8ta_relu.default"),
    *("et_vk.q8ta_conv2d.default", "et_vk.q8ta_conv2d_dw.default", "et_vk.q8ta_conv2d_pw.default"),
    *("et_vk.q8ta_linear.default", "et_vk.q8ta_linear_gemv.default"),
)
_until("1.2", ANY_TEXTURE, *_aten("_log_softmax", "_softmax", "native_layer_norm", "repeat"))
_until("1.2", ANY_TEXTURE, *_aten("argmax", "argmin"), pick=_pick_reduce)
_until("1.2", ANY_STORAGE, *_aten("_to_copy", "clone", "view_copy"))
_until("1.2", ANY_STORAGE, "dim_order_ops._clone_dim_order.default")
_until("1.2", ANY_BUFFER, *_aten("expand_copy"))
_until(
    "1.2",
    CHANNELS_PACKED_TEXTURE,
    *_aten("arange.start_step", "constant_pad_nd", "embedding", "full", "full_like"),
    *_aten("ones", "ones_like", "zeros", "zeros_like"),
)
_until(
    "1.2",
    (CHANNELS_PACKED_TEXTURE, *[NO_STORAGE] * 10),
    *_aten("convolution"),
    "et_vk.conv_with_clamp.default",
    outputs=CHANNELS_PACKED_TEXTURE,
)
_new_in(
    "1.3",
    *_aten("alias_copy", "bitwise_not", "hardswish", "logical_and", "pixel_shuffle"),
    *("floordiv", "mul", "et_vk.sdpa", "sdpa", "quantized_decomposed.embedding_4bit.dtype"),
    *("et_vk.apply_rotary_emb_hf.default", "et_vk.apply_rotary_emb_interleaved.default"),
    *("et_vk.embedding_q4gsw.default", "et_vk.rms_norm.default"),
    *("et_vk.q8ta_conv2d_transposed.default", "et_vk.q8ta_pixel_shuffle.default"),
)
_until("1.4", ANY_STORAGE, *_aten("index.Tensor"))
_new_in(
    "1.4",
    *_aten("bitwise_or.Tensor", "logical_not", "logical_or", "grid_sampler_2d"),
    *_aten("eq.Scalar", "ne.Scalar", "lt.Scalar", "le.Scalar", "ge.Scalar", "gt.Scalar"),
    *("et_vk.adamw_step", "adamw_step", "et_vk.fused_ce.default", "et_vk.linear_dW.default"),
    *("et_vk.linear_q4gsw_backward.default", "et_vk.q4gsw_requant.default"),
)
_new_in("1.5", *_aten("log10", "unfold_copy"))
