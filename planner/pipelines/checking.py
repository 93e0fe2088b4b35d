"""Will a lowered program load, and be right, on a runtime and a GPU? It is read, not planned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from planner.files.kinds import check_is_lowered
from planner.files.lowered import graphs_of
from planner.ir.physical import image_extents, padded_bytes
from planner.kernels.faults import DOES_NOT_LOAD, Faults, MetFault, met_faults
from planner.kernels.gpus import Gpu
from planner.kernels.limits import Budget, Limits
from planner.kernels.releases import Runtime, Target
from planner.kernels.restrictions import Restriction
from planner.optimise.restricted import check_names
from planner.options import PlanOptions
from planner.result.check import CheckReport, Finding, FindingKind
from planner.verify import (
    Named,
    broken_restrictions,
    over_budget,
    resolution_error,
    sharing_error,
)
from planner.vkgraph.reader import ContractedGraph, read_vkgraph
from planner.vkgraph.runtimes import refusals, releases_with, webgpu_refusals
from planner.vkgraph.targets import target_of
from planner.vkgraph.wellformed import repr_of
from schema import VkGraph, VkStorageType, VkTensor
from schema.frozen import frozen

_ANY_EXTENT = (2**31 - 1,) * 3


def check_program(
    data: bytes,
    name: str,
    runtime: Runtime | None = None,
    gpu: Gpu | None = None,
    avoid: Faults | None = None,
    restrictions: Sequence[Restriction] = (),
    budget: Budget | None = None,
    target: Target | None = None,
) -> CheckReport:
    """Checks every Vulkan delegate of a lowered program, by default for the latest release.

    It is checked for the runtime of a ``target``, by default of that which it was planned for.
    Known faults are the built-in ones and those to ``avoid``. What breaks ``restrictions``, which
    use the names of this program, is found, too, and what is more than a ``budget`` allows.
    Raises ``InputError`` for bytes that are damaged or no such program, ``OptionError`` for a
    restriction that names nothing in it, and for a GPU or faults of Vulkan's kernels where it is
    checked for WebGPU.
    """
    check_is_lowered(data, name)
    files = list(graphs_of(data, name))
    if target is None:
        target = "webgpu" if any(target_of(file) == "webgpu" for file in files) else "vulkan"
    runtime = (runtime or Runtime()).of(target)
    asked = PlanOptions(gpu=None if gpu is None else gpu.name, avoid=avoid or Faults())
    asked.check_for(target)
    faults = asked.limits(_ANY_EXTENT, runtime).faults
    graphs = [read_vkgraph(file, f"delegate {i}") for i, file in enumerate(files)]
    if restrictions:
        named = enumerate(source.graph for source in graphs)
        known = [replace(graph, delegates=frozenset({i})) for i, graph in named]
        check_names(restrictions, known, name)
    found: list[Finding] = []
    unloadable = set[str]()
    for index, (file, source) in enumerate(zip(files, graphs, strict=True)):
        given = source.layouts()
        met = tuple(met_faults(source.graph, faults, given))
        unloadable |= {
            source.graph.operators[m.operator].name for m in met if m.fault.effect == DOES_NOT_LOAD
        }
        check = _Check(index, file, source, runtime, met, gpu, tuple(restrictions))
        found += check.target()
        found += check.operators()
        found += check.limits()
        found += check.memory()
        found += check.restrictions()
    copies = ([t.copy for t in graph.transitions] for graph in graphs)
    for index, text in over_budget(zip(files, copies, strict=True), budget or Budget()):
        found.append(Finding(index, "", "restriction", f"the program has {text}"))
    refusals_of = webgpu_refusals if target == "webgpu" else refusals
    releases = releases_with(target)
    taken = [r for r in releases if not any(any(refusals_of(g, r)) for g in graphs)]
    return CheckReport(
        name=name,
        runtime=str(runtime),
        gpu="" if gpu is None else gpu.name,
        delegates=len(files),
        operators=sum(len(g.graph.operators) for g in graphs),
        taken_by=tuple(taken),
        unknown=tuple(sorted({n for g in graphs if target == "vulkan" for n in g.unknown})),
        unloadable=tuple(sorted(unloadable)),
        findings=tuple(dict.fromkeys(found)),
        target=target,
    )


@frozen
class _Check:
    """One delegate."""

    index: int
    file: VkGraph
    source: ContractedGraph
    runtime: Runtime
    met: tuple[MetFault, ...]
    gpu: Gpu | None
    wanted: tuple[Restriction, ...]

    def _finding(self, place: str, kind: FindingKind, text: str, source: str = "") -> Finding:
        return Finding(self.index, place, kind, text, source)

    def target(self) -> Iterator[Finding]:
        """A graph of WebGPU's that Vulkan's runtime is to run."""
        if self.runtime.target == "vulkan" and target_of(self.file) == "webgpu":
            text = "it was planned for WebGPU, without layouts that Vulkan's kernels take"
            yield self._finding("", "target", text)

    def operators(self) -> Iterator[Finding]:
        """Operators, representations and calls that a release refuses, and known faults."""
        graph = self.source.graph
        refusals_of = webgpu_refusals if self.runtime.target == "webgpu" else refusals
        for release in self.runtime.releases:
            for refusal in refusals_of(self.source, release):
                place = graph.place_of(refusal.operator)
                yield self._finding(place, refusal.kind, f"ExecuTorch {release} {refusal.text}")
        for met in self.met:
            text = f"{met.fault.effect} in {met.representation}"
            yield self._finding(graph.place_of(met.operator), "fault", text, met.fault.source)

    def limits(self) -> Iterator[Finding]:
        """Images and buffers that the GPU does not hold."""
        if self.gpu is None:
            return
        for value_id, value in enumerate(self.file.values):
            if not isinstance(value, VkTensor) or value.constant_id >= 0:
                continue
            r = repr_of(value)
            if r is None:
                continue
            place = f"value {value_id} ({'x'.join(map(str, value.dims)) or 'scalar'})"
            if value.storage_type == VkStorageType.TEXTURE_3D:
                extents = image_extents(value.dims, value.memory_layout)
                if max(extents) > self.gpu.image_3d:
                    size = "x".join(map(str, extents))
                    text = f"an image of {size} texels: {self.gpu.family} holds {self.gpu.image_3d}"
                    yield self._finding(place, "limit", text, self.gpu.source)
            elif (size_ := padded_bytes(value.dims, value.datatype, r)) > self.gpu.storage_buffer:
                most = self.gpu.storage_buffer
                text = f"a buffer of {size_} bytes: {self.gpu.family} binds {most}"
                yield self._finding(place, "limit", text, self.gpu.source)

    def memory(self) -> Iterator[Finding]:
        """Live tensors that share memory, and layouts that loading replaces by wrong ones."""
        if (error := sharing_error(self.file)) is not None:
            yield self._finding("", "memory", error)
        if None in self.source.made or self.runtime.target == "webgpu":
            return  # the runtime chooses
        limits = Limits(_ANY_EXTENT, runtime=self.runtime)
        repacks = [t.position for t in self.source.transitions]
        repacks += [self.source.positions[index] for index in self.source.repacking]
        if (error := resolution_error(self.file, limits, repacks)) is not None:
            yield self._finding("", "resolution", error)

    def restrictions(self) -> Iterator[Finding]:
        """Operands and tensors that are not what a user restricts them to."""
        if not self.wanted:
            return
        limits = Limits(_ANY_EXTENT, runtime=self.runtime, restrictions=self.wanted)
        source = self.source
        copies = {t.copy: source.tensors[t.tensor] for t in source.transitions}
        repacks = [t.position for t in source.transitions]
        named = Named((self.index,), source.positions)
        for place, text in broken_restrictions(self.file, limits, named, copies, repacks):
            yield self._finding(place, "restriction", text)
