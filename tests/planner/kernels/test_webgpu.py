"""The table of what WebGPU's runtime does: of operators that exist; and the page counts it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import planner.kernels
from planner.kernels.registry import PREPACK, lookup
from planner.kernels.webgpu import webgpu_releases_of
from tests.paths import ROOT

TABLE: Final[dict[str, Any]] = json.loads(
    (Path(*planner.kernels.__path__) / "webgpu.json").read_text()
)
BROUGHT: Final = {release: row["operators"] for release, row in TABLE["releases"].items()}
UNREGISTERED: Final = {PREPACK, "et_vk.select_as_symint.default"}
"""Operators that no one registers with Vulkan's partitioner, and that both runtimes have."""


def test_an_operator_is_brought_once_and_one_of_vulkans() -> None:
    names = [name for operators in BROUGHT.values() for name in operators]
    assert len(set(names)) == len(names)
    assert {name for name in names if lookup(name) is None} == UNREGISTERED
    assert webgpu_releases_of("aten.add.Tensor") == ("1.3", "1.4", "1.5")
    assert webgpu_releases_of("aten.mm.default") == ("1.4", "1.5")
    assert webgpu_releases_of("aten.arange.start_step") == ()


def test_kernels_are_of_operators_that_the_runtime_has() -> None:
    for row in TABLE["kernels"]:
        assert row["source"]
        for name in row["operators"]:
            assert webgpu_releases_of(name), name


def test_the_page_counts_the_operators() -> None:
    page = " ".join((ROOT / "docs" / "webgpu.md").read_text().split())
    counts = [len(operators) for operators in BROUGHT.values()]
    assert counts[0] == 1 and "release 1.3 has one operator" in page
    assert f"1.4 has {sum(counts[:2])}, 1.5 has {sum(counts)} " in page
