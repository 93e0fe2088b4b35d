"""The table of shaders against the tables of the installed release, from which they are made."""

from __future__ import annotations

import json
import re
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
from planner.kernels.registry import lookup
from planner.kernels.releases import LATEST, Runtime
from schema import VkDataType

# Found without importing ExecuTorch, which takes seconds.
_EXECUTORCH = find_spec("executorch")
assert _EXECUTORCH is not None and _EXECUTORCH.submodule_search_locations is not None
GLSL = Path(*_EXECUTORCH.submodule_search_locations, "backends/vulkan/runtime/graph/ops/glsl")
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
def shaders() -> frozenset[str]:
    """Names of all shaders of the installed release."""
    files = sorted(GLSL.glob("*.yaml"))
    assert len(files) > 150
    templates = (t for file in files for t in yaml.safe_load(file.read_text()).values())
    return frozenset(name for template in templates for name in variants(template))


def test_the_table_is_of_the_installed_release() -> None:
    assert TABLE["release"] == LATEST
    assert len({name for k in TABLE["kernels"] for name in k["operators"]}) > 60


@pytest.mark.parametrize(
    "kernel", TABLE["kernels"], ids=lambda k: re.sub(r"_?{\w+}", "", k["shader"])
)
def test_the_table_has_the_shaders_that_there_are(kernel: dict[str, Any]) -> None:
    assert all(lookup(name) is not None for name in kernel["operators"])
    assert kernel["dtypes"]
    for storage in ("buffer", "texture3d"):
        names = {d: kernel["shader"].format(storage=storage, dtype=d) for d in DTYPES}
        assert kernel["dtypes"] == [d for d in names if names[d] in shaders()]


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
