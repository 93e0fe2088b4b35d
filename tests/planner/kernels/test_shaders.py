"""The table of shaders against those of each release, from which its shaders are made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

import planner.kernels
from planner.ir.graph import Operator, Tensor, TensorArg
from planner.kernels.faults import DTYPES, builtin_faults
from planner.kernels.registry import releases_of
from planner.kernels.releases import LATEST, RELEASES, Release, Runtime
from schema import VkDataType
from tests.planner.kernels.wheels import delegate_of

# Found without importing ExecuTorch, which takes seconds.
_EXECUTORCH = find_spec("executorch")
assert _EXECUTORCH is not None and _EXECUTORCH.submodule_search_locations is not None
INSTALLED = Path(*_EXECUTORCH.submodule_search_locations, "backends/vulkan")
TABLE = json.loads((Path(*planner.kernels.__path__) / "shaders.json").read_text())


def suffixes(parameter: str, values: Any) -> list[str]:
    """What a parameter that varies adds to the names of variants."""
    if parameter.startswith("combination"):
        joined = ("_".join(str(v) for v in c["parameter_values"] if v) for c in values["combos"])
        own = (combo.get("suffix") for combo in values["combos"])
        return [b if a is None else a for a, b in zip(own, joined, strict=True)]
    found = []
    for value in values:
        if "RANGE" in value:
            first, last = value["RANGE"]
            before = [value["SUFFIX"]] if "SUFFIX" in value else []
            found += ["_".join([*before, str(n)]) for n in range(first, last + 1)]
        else:
            found.append(str(value.get("SUFFIX", value["VALUE"])))
    return found


def variants(template: dict[str, Any]) -> Iterator[str]:
    for variant in template["shader_variants"]:
        varied = variant.get("generate_variant_forall", template.get("generate_variant_forall", {}))
        lists = [suffixes(p, values) for p, values in varied.items() if p not in variant]
        for chosen in product(*lists):
            yield "_".join([variant["NAME"], *(text for text in chosen if text)])


@cache
def shaders(release: Release) -> frozenset[str]:
    """Names of all shaders of a release."""
    delegate = INSTALLED if release == LATEST else delegate_of(release)
    files = sorted((delegate / "runtime/graph/ops/glsl").glob("*.yaml"))
    assert len(files) > 100
    templates = (t for file in files for t in yaml.safe_load(file.read_text()).values())
    return frozenset(name for template in templates for name in variants(template))


def shader_of(kernel: dict[str, Any], release: Release) -> str | None:
    """How a kernel's shaders are named in a release."""
    since = [first for first in kernel["shaders"] if first <= release]
    return kernel["shaders"][max(since)] if since else None


def dtypes_of(shader: str, storage: str, release: Release) -> list[str]:
    """The dtypes for which shaders of this name are made."""
    names = {dtype: shader.format(storage=storage, dtype=dtype) for dtype in DTYPES}
    return [dtype for dtype in names if names[dtype] in shaders(release)]


def test_the_table_is_of_many_operators() -> None:
    assert len({name for k in TABLE["kernels"] for name in k["operators"]}) > 60


@pytest.mark.xdist_group("wheels")
@pytest.mark.parametrize("release", RELEASES)
def test_the_table_has_the_shaders_that_there_are(release: Release) -> None:
    for kernel in TABLE["kernels"]:
        shader = shader_of(kernel, release)
        for storage in ("buffer", "texture3d"):
            if shader is not None:
                assert dtypes_of(shader, storage, release) == kernel["dtypes"], shader
            else:
                latest = kernel["shaders"][max(kernel["shaders"])]
                assert not dtypes_of(latest, storage, release), latest


def test_a_release_that_registers_an_operator_has_its_shaders() -> None:
    for kernel in TABLE["kernels"]:
        for name in kernel["operators"]:
            assert releases_of(name)
            assert all(shader_of(kernel, release) for release in releases_of(name)), name


@pytest.mark.parametrize(
    ("name", "dtype", "lacks"),
    [
        ("aten.eq.Tensor", VkDataType.INT32, True),
        ("aten.eq.Tensor", VkDataType.FLOAT16, False),
        ("aten.lt.Tensor", VkDataType.INT32, False),
        ("et_vk.linear_q8ta_q8csw.default", VkDataType.FLOAT16, True),
        ("aten.logical_and.default", VkDataType.BOOL, False),
        ("aten.cat.default", VkDataType.BOOL, True),
        ("aten.add.Tensor", VkDataType.INT64, True),
    ],
)
def test_what_has_no_shader_does_not_load(name: str, dtype: VkDataType, lacks: bool) -> None:
    tensors = [Tensor("x", (4, 4), dtype)]
    call = Operator(name, (TensorArg(0), TensorArg(0)), (0,))
    found = builtin_faults().for_device(Runtime(), None).of(call, tensors)
    assert any("shaders" in row.seen for row in found) is lacks


def test_what_an_older_release_has_no_shader_for_does_not_load_there() -> None:
    call = Operator("aten._softmax.default", (TensorArg(0),), (0,))
    tensors = [Tensor("x", (4, 4), VkDataType.INT32)]
    for release in RELEASES:
        found = builtin_faults().for_device(Runtime(release, release), None).of(call, tensors)
        assert any("shaders" in row.seen for row in found), release
