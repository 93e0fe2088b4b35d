"""The registrations of earlier releases against the registries in their wheels."""

from __future__ import annotations

import inspect

import pytest
from executorch.backends.vulkan import op_registry

from planner.errors import OptionError
from planner.ir.representation import ANY_STORAGE, ANY_TEXTURE, TensorRepSet
from planner.kernels.registry import lookup, registered_names, registrations, releases_of
from planner.kernels.releases import LATEST, RELEASES, Release, Runtime, parse_runtime
from schema import VkMemoryLayout
from tests.planner.kernels.wheels import VERSIONS, registries

RETIRED = {
    "et_vk.add_q8ta_q8ta_q8to.default",
    "et_vk.conv2d_q8ta_q8csw_q8to.default",
    "et_vk.conv2d_q8ta_q8csw_q8to_dw.default",
}
"""Operators of 1.1 that later releases replaced by others: they keep the layouts that they have."""


def sets_of(theirs: list[list[list[int]]]) -> tuple[TensorRepSet, ...]:
    return tuple(
        TensorRepSet.of(map(VkMemoryLayout, buffer), map(VkMemoryLayout, texture))
        for buffer, texture in theirs
    )


@pytest.mark.xdist_group("wheels")
@pytest.mark.parametrize("release", VERSIONS)
def test_a_release_registers_what_its_wheel_does(release: Release) -> None:
    theirs = registries()[release]
    installed = {
        key.replace("::", ".") if isinstance(key, str) else key.__name__: features
        for key, features in op_registry.vulkan_supported_ops.items()
    }
    for name, registered in theirs.items():
        mine = lookup(name, release)
        if name in RETIRED:
            assert mine is None
            continue
        assert mine is not None, f"{name} is missing"
        assert mine.inputs == sets_of(registered["inputs"]), name
        assert mine.outputs == sets_of(registered["outputs"]), name
        pick = registered["pick"]
        assert (mine.pick is None) == (pick is None), name
        if pick is not None:
            # Ours is compared with the installed one, node by node, in test_registry.
            assert pick == inspect.getsource(installed[name].pick_io_storage_fn), name
    bare = {name.split(".")[1] for name in theirs if name.count(".") == 1}
    here = {name for name in registered_names() if lookup(name, release) is not None}
    assert here <= theirs.keys() | bare


def test_softmax_over_buffers_came_with_1_3() -> None:
    softmax = "aten._softmax.default"
    registered = [registrations(softmax, Runtime(release, release)) for release in RELEASES]
    sets = [features.inputs[0] for (features,) in registered]
    assert sets == [*[ANY_TEXTURE] * 2, *[ANY_STORAGE] * 3]
    assert len(registrations(softmax, Runtime("1.2", "1.3"))) == 2
    assert len(registrations(softmax, Runtime("1.3"))) == 1


def test_releases_of_an_operator() -> None:
    assert releases_of("aten.relu.default") == RELEASES
    assert releases_of("aten.pixel_shuffle.default") == ("1.3", "1.4", "1.5")
    assert releases_of("et_vk.sdpa.default") == ("1.3", "1.4", "1.5")
    assert releases_of("my.operator") == ()


@pytest.mark.parametrize(
    ("text", "runtime"),
    [
        ("1.3", Runtime("1.3", "1.3")),
        ("1.3.1", Runtime("1.3", "1.3")),
        (" v1.1+ ", Runtime("1.1", LATEST)),
        ("1.5+", Runtime("1.5", "1.5")),
    ],
)
def test_runtimes_are_read(text: str, runtime: Runtime) -> None:
    assert parse_runtime(text) == runtime
    assert parse_runtime(str(runtime)) == runtime


@pytest.mark.parametrize("text", ["", "1", "1.0", "1.6", "1.33", "1.3.", "2", "x"])
def test_an_unknown_runtime_names_the_known_ones(text: str) -> None:
    with pytest.raises(
        OptionError, match=r"use one of 1\.1, 1\.2, 1\.3, 1\.4, 1\.5, or as in 1\.3"
    ):
        parse_runtime(text)
