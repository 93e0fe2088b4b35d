"""The backend that a VkGraph is planned for, and the mark by which it tells.

ExecuTorch's Vulkan and WebGPU runtimes register under one name and read the same graphs. A graph
that is planned for WebGPU has no layouts that Vulkan's kernels take, so it must not be taken for
one of Vulkan's. Neither runtime reads the graph's version, and all that reads or writes a graph
keeps it; so the mark is there, behind the version that the graph had. It says, too, from which
release on Vulkan's runtime took the graph as it was: its layouts, which told that, are gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from planner.errors import OptionError, Remedy
from planner.kernels.releases import LATEST, RELEASES, Runtime, Target
from planner.vkgraph.reader import ContractedGraph
from planner.vkgraph.runtimes import runtimes_of
from schema import VkGraph

_MARKED: Final = re.compile(r"(.*)\+webgpu\+vulkan(\d+\.\d+)", re.DOTALL)


def target_of(graph: VkGraph) -> Target:
    """What a graph is planned for; Vulkan, unless it is marked."""
    return "vulkan" if _MARKED.fullmatch(graph.version) is None else "webgpu"


def target_to_plan(wanted: Target | None, graphs: Iterable[VkGraph], name: str) -> Target:
    """What to plan a program for; raises ``OptionError`` if it is WebGPU's and that is not said."""
    is_marked = any(target_of(graph) == "webgpu" for graph in graphs)
    if wanted is None and is_marked:
        raise OptionError(f"{name} was planned for WebGPU before", Remedy.NAME_TARGET)
    return wanted or "vulkan"


def runtimes_for(graphs: Sequence[ContractedGraph], target: Target) -> tuple[Runtime, ...]:
    """The runtimes to plan graphs for that name none, the first that has a plan."""
    since = [match[2] for g in graphs if (match := _MARKED.fullmatch(g.written.version))]
    if target == "webgpu" or not since:
        return runtimes_of(graphs, target)
    known = [release for release in RELEASES if release >= max(since)] or [LATEST]
    return tuple(Runtime(oldest, LATEST) for oldest in known)


def planned_for(source: ContractedGraph, target: Target) -> ContractedGraph:
    """A graph as it is to be planned for a backend, with its mark or without.

    For WebGPU no operator keeps a representation, for there is only one. What was planned for
    WebGPU comes to Vulkan as if it had no layouts: they say nothing.
    """
    written = source.written
    match = _MARKED.fullmatch(written.version)
    if target == "vulkan":
        if match is None:
            return source
        written = replace(written, version=match[1])
        return replace(source, written=written, made=(None,) * len(source.made))
    if match is None:
        since = runtimes_of([source])[0].oldest
        written = replace(written, version=f"{written.version}+webgpu+vulkan{since}")
    graph = replace(source.graph, pinned={})
    return replace(source, graph=graph, written=written, unknown=())
