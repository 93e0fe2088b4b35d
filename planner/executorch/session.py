"""Lowers exported programs as ExecuTorch does, with our plans instead of its layout pass's."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import executorch.exir
from executorch.backends.vulkan.partitioner.vulkan_partitioner import (
    VulkanBackend,
    parse_compile_options,
)
from executorch.exir.backend.partitioner import DelegationSpec
from executorch.exir.backend.utils import DelegateMappingBuilder
from executorch.exir.passes.sym_shape_eval_pass import ConstraintBasedSymShapeEvalPass
from torch.fx import GraphModule, Node
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from planner.errors import (
    OptionError,
    PlannerError,
    VerificationError,
)
from planner.executorch.baseline import detached_copy, run_greedy
from planner.executorch.fusion import kept_patterns
from planner.executorch.lowerable import lowerable
from planner.executorch.patches import Hook, Wrapper, replaced
from planner.executorch.placement import placing
from planner.executorch.reader import FxGraph, read_graph_module
from planner.executorch.repairs import Scalars, ordered_memory
from planner.executorch.shortcuts import shortcuts
from planner.executorch.vkgraph import as_schema, tensor_names
from planner.executorch.writer import write_graph_module
from planner.ir.physical import ImageExtents
from planner.kernels.limits import Limits
from planner.kernels.registry import PREPACK
from planner.kernels.releases import Runtime
from planner.optimise.plan import LayoutPlan, plan_graph
from planner.optimise.restricted import check_names
from planner.options import PlanOptions
from planner.result.program import Baseline, DelegateResult, describe_delegate, faults_of
from planner.stopwatch import stopwatch
from planner.verify import Named, verify_delegate
from planner.vkgraph.places import WrittenPlaces
from planner.vkgraph.runtimes import check_operators
from schema import VkGraph, split_delegate, vkgraph
from schema.frozen import frozen


@frozen
class _Begun:
    """A delegate whose compile options ExecuTorch has read."""

    options: dict[str, Any]


@frozen
class _Laid:
    """A graph module with a plan in it, and its transitions' nodes."""

    fx: FxGraph
    plan: LayoutPlan
    clones: tuple[Node, ...]
    seconds: float


@frozen
class _Planned:
    """A delegate whose layouts are planned; ``untagged`` is its graph module without them."""

    limits: Limits
    untagged: GraphModule
    laid: _Laid
    baseline: Baseline


@frozen
class _Built:
    """A delegate that ExecuTorch is about to write.

    ``before`` is its graph before planning, and ``names`` are those of the values there.
    """

    planned: _Planned
    before: VkGraph
    names: dict[int, str]
    program: Any
    builder: Any


Stage = TypeVar("Stage", _Begun, _Planned, _Built)


@dataclass(slots=True)
class Planning:
    """Plans the delegates that are lowered while it is active; ``delegates`` are those finished.

    ``unplaced`` are the operators, by their nodes' names, that only limits keep off the GPU.
    """

    options: PlanOptions
    on_delegate: Callable[[DelegateResult], None] | None = None
    repeats: int = 1
    delegates: list[DelegateResult] = field(default_factory=list)
    unplaced: dict[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    error: PlannerError | None = None
    _stage: _Begun | _Planned | _Built | None = None

    def __post_init__(self) -> None:
        if self.options.compile_options or self.options.imports:
            raise OptionError(
                "a script gives compile options to VulkanPartitioner, and imports modules itself: "
                "leave them out of the plan's options"
            )
        if self.options.budget.words:
            raise OptionError(
                f"{' and '.join(self.options.budget.flags)}: delegates are lowered one after the "
                "other here: plan the .pte again within limits of a whole plan"
            )
        if self.options.target == "webgpu":
            raise OptionError(
                "a script's delegates are planned for Vulkan as they are lowered: plan the .pt2 or "
                "the .pte for WebGPU"
            )
        for restriction in self.options.restrictions:
            if restriction.target is not None and restriction.target.kind == "operator":
                raise OptionError(
                    f"{restriction}: operators have no numbers before they are lowered: name a "
                    "type of operator, or a tensor"
                )

    def begin(self, compile_options: dict[str, Any]) -> None:
        """Takes note that ExecuTorch starts to preprocess a delegate with these options."""
        if compile_options.get("skip_tag_memory_metadata", False):
            raise OptionError(
                "VulkanPartitioner is asked to skip_tag_memory_metadata, so that there is no "
                "layout to plan: leave that option out"
            )
        self._stage = _Begun(compile_options)

    def plan(self, graph_module: GraphModule, greedy: Any, program: Any) -> None:
        """Plans a delegate's graph module in place, where ``greedy`` would have tagged it.

        ``program`` is the exported program that it is of.
        """
        begun = self._at(_Begun)
        limits = self.options.limits(greedy.texture_limits)
        untagged = detached_copy(graph_module)
        aliases = _aliases(graph_module, program, begun.options)

        def read(target: GraphModule) -> FxGraph:
            index = len(self.delegates)
            fx = read_graph_module(
                target,
                name=f"delegate {index}",
                downcast_64_bit=begun.options.get("downcast_64_bit", True),
                force_fp16=greedy.force_fp16,
                aliases=aliases,
            )
            return replace(fx, graph=replace(fx.graph, delegates=frozenset({index})))

        fx = read(untagged)
        check_operators(fx.graph, limits.runtime)
        runs = (run_greedy(detached_copy(untagged), greedy.call, fx) for _ in range(self.repeats))
        theirs = min(runs, key=lambda run: run.seconds)

        def lay(target: GraphModule) -> _Laid:
            costs = self.options.cost_model()
            with stopwatch() as watch:
                fx = read(target)
                plan = plan_graph(fx.graph, limits, costs, theirs.layouts)
                clones = write_graph_module(fx, plan)
            return _Laid(fx, plan, clones, watch.seconds)

        trials = [detached_copy(graph_module) for _ in range(self.repeats - 1)]
        tried = [lay(trial).seconds for trial in trials]
        laid = lay(graph_module)
        laid = _Laid(laid.fx, laid.plan, laid.clones, min([*tried, laid.seconds]))
        costs, slots = self.options.cost_model(), laid.plan.layout.slots
        baseline = Baseline.of(theirs.layouts, fx.graph, slots, costs, theirs.seconds)
        self._stage = _Planned(limits, untagged, laid, baseline)

    def build(self, make_builder: Callable[..., Any], program: Any, *args: Any, **kw: Any) -> Any:
        """Makes ExecuTorch's builder of the VkGraph, and the graph as it was before planning."""
        planned = self._at(_Planned)
        ConstraintBasedSymShapeEvalPass()(planned.untagged)
        unplanned = copy.copy(program)
        unplanned._graph_module = planned.untagged
        builder = make_builder(unplanned, DelegateMappingBuilder(generated_identifiers=True), **kw)
        builder.const_scalar_to_value_ids = Scalars()
        before = as_schema(builder.build_graph(), builder.const_tensors)
        names = tensor_names(builder)
        builder = make_builder(program, *args, **kw)
        builder.const_scalar_to_value_ids = Scalars()
        self._stage = _Built(planned, before, names, program, builder)
        return builder

    def finish(self, blob: bytes) -> None:
        """Describes and checks the delegate that ExecuTorch has just written as ``blob``.

        Raises ``VerificationError`` if the check fails.
        """
        built = self._at(_Built)
        planned, laid = built.planned, built.planned.laid
        self._stage = None
        graph = split_delegate(blob).flatbuffer
        places, names = _places(built), tensor_names(built.builder)
        plan = describe_delegate(
            index=len(self.delegates),
            graph=graph,
            written=vkgraph.decode(graph),
            plan=laid.plan,
            places=places,
            name_of=lambda value: names.get(value, ""),
            baseline=planned.baseline,
            profile=self.options.profile,
        )
        with stopwatch() as watch:
            verify_delegate(
                plan,
                built.before,
                costs=self.options.costs,
                objective=self.options.objective,
                limits=laid.plan.limits,
                named=Named((len(self.delegates),), values=built.names),
            )
        warnings, mended = faults_of(
            laid.fx.graph, laid.plan, planned.baseline, planned.limits.faults
        )
        result = DelegateResult(
            plan=plan,
            graph=laid.fx.graph,
            layout_plan=laid.plan,
            plan_seconds=laid.seconds,
            baseline_seconds=planned.baseline.seconds,
            verify_seconds=watch.seconds,
            warnings=warnings,
            mended=mended,
            places=places,
        )
        self.limits = planned.limits
        self.delegates.append(result)
        if self.on_delegate is not None:
            self.on_delegate(result)

    def _at(self, stage: type[Stage]) -> Stage:
        if not isinstance(self._stage, stage):
            raise VerificationError(
                "ExecuTorch's Vulkan backend did not preprocess the delegate in the expected "
                "order: use the executorch release that this planner is pinned to"
            )
        return self._stage


class _PlanningPass(PassBase):
    """Stands in for ``TagMemoryMetaPass``."""

    def __init__(self, planning: Planning, greedy: Any) -> None:
        super().__init__()
        self._planning = planning
        self._greedy = greedy
        self._exported_program: Any = None  # set by ExecuTorch before it calls a pass that has it

    def call(self, graph_module: GraphModule) -> PassResult:
        try:
            self._planning.plan(graph_module, self._greedy, self._exported_program)
        except PlannerError as error:
            self._planning.error = error  # ExecuTorch's pass manager hides what a pass raises
            raise
        return PassResult(graph_module, True)


@contextmanager
def planning(
    options: PlanOptions | None = None,
    *,
    on_delegate: Callable[[DelegateResult], None] | None = None,
    repeats: int = 1,
) -> Iterator[Planning]:
    """Plans the layouts of every Vulkan delegate that its body lowers.

    Put a script's call of ``to_edge_transform_and_lower`` in its body. Texture limits in the
    options are those that the partitioner places operators by, too. ``on_delegate`` is called with
    each delegate once it is planned, written and checked. With ``repeats``, our planning and
    ExecuTorch's pass run that many times each, and the least time of each is kept. Errors of the
    planner come out of the body: ``NoRepresentationError``, ``VerificationError``, and
    ``OptionError`` for options that do not go with those of the partitioner.
    """
    options = options or PlanOptions()
    if options.alternatives:
        raise OptionError(
            "alternatives are of a program that is lowered: leave them out, and ask for them when "
            "planning the .pte again"
        )
    session = Planning(options, on_delegate, repeats)
    with replaced(_hooks(session)):
        try:
            yield session
            check_names(
                session.options.restrictions, [d.graph for d in session.delegates], "the program"
            )
        except Exception:
            if session.error is not None:
                raise session.error from None
            raise


def _hooks(session: Planning) -> dict[Hook, Wrapper]:
    """What a session does where ExecuTorch would do as it always does."""

    def partitioning(partition: Any) -> Callable[..., Any]:
        def with_limits(partitioner: Any, program: Any) -> Any:
            return partition(_limited(partitioner, session.options.texture_limits), program)

        return with_limits

    def beginning(parse: Any) -> Callable[..., Any]:
        def begin(*args: Any) -> Any:
            compile_options = parse(*args)
            session.begin(compile_options)
            return compile_options

        return begin

    def laying(make_pass: Any) -> Callable[..., Any]:
        return lambda *args, **kw: _PlanningPass(session, make_pass(*args, **kw))

    def building(make_builder: Any) -> Callable[..., Any]:
        return lambda *args, **kw: session.build(make_builder, *args, **kw)

    def writing(serialize: Any) -> Callable[..., Any]:
        def write(*args: Any) -> Any:
            blob = serialize(*args)
            session.finish(blob)
            return blob

        return write

    return {
        **kept_patterns(),
        **shortcuts(),
        **lowerable(),
        Hook.PARTITION: partitioning,
        Hook.SUPPORT: placing(session.unplaced, Runtime()),
        Hook.COMPILE_OPTIONS: beginning,
        Hook.LAYOUT_PASS: laying,
        Hook.MEMORY_PLANNER: ordered_memory,
        Hook.GRAPH_BUILDER: building,
        Hook.SERIALISER: writing,
    }


def to_edge_transform_and_lower(
    *args: Any, plan_options: PlanOptions | None = None, **kw: Any
) -> executorch.exir.EdgeProgramManager:
    """ExecuTorch's function of this name, with the layouts of Vulkan delegates planned by us.

    Takes the same arguments, and ``plan_options``. Import it instead of ExecuTorch's. Raises as
    ``planning`` does.
    """
    with planning(plan_options):
        return executorch.exir.to_edge_transform_and_lower(*args, **kw)


def _aliases(graph_module: GraphModule, program: Any, options: dict[str, Any]) -> dict[str, str]:
    """Nodes whose values are written into a buffer's tensor, and the nodes that make that tensor.

    Source: ``serialization/vulkan_graph_builder.py`` (``alias_buffer_mutations``): of a buffer that
    is prepacked, it is the prepacked tensor.
    """
    if not options.get("alias_buffer_mutations", False):
        return {}
    signature = program.graph_signature
    nodes = {node.name: node for node in graph_module.graph.nodes}
    tensors = {}
    for name, buffer in signature.inputs_to_buffers.items():
        if name in nodes:
            users = nodes[name].users
            packed = (u.name for u in users if getattr(u.target, "__name__", "") == PREPACK)
            tensors[buffer] = next(packed, name)
    mutated = signature.buffers_to_mutate.items()
    return {output: tensors[buffer] for output, buffer in mutated if buffer in tensors}


def _limited(partitioner: Any, limits: ImageExtents | None) -> Any:
    """The partitioner, with these texture limits among its compile options.

    ExecuTorch keeps these options in the program, so that it is lowered, planned and planned again
    by the same limits.
    """
    if limits is None:
        return partitioner
    own = partitioner.options.get("texture_limits")
    if own is not None and tuple(own) != limits:
        theirs, ours = (",".join(map(str, each)) for each in (own, limits))
        raise OptionError(
            f"VulkanPartitioner has the texture limits {theirs}, and the options of the plan "
            f"{ours}: give them in one place"
        )
    limited = copy.copy(partitioner)
    limited.options = {**partitioner.options, "texture_limits": limits}
    limited.delegation_spec = DelegationSpec(
        VulkanBackend.__name__, parse_compile_options(limited.options)
    )
    return limited


def _places(built: _Built) -> WrittenPlaces:
    laid, builder = built.planned.laid, built.builder
    # Passes after ours may rebuild the graph: names survive, nodes need not.
    value_of = {node.name: value for node, value in builder.node_to_value_ids.items()}
    calls = (
        node.name
        for node in built.program.graph_module.graph.nodes
        if node.op == "call_function" and node.target is not operator.getitem
    )
    position = {name: i for i, name in enumerate(calls)}

    def value(node: Node, place: int | None) -> int:
        made: int = value_of.get(node.name, -1)  # an input that nothing uses is not written
        return made if place is None else builder.values[made].value.items[place]

    return WrittenPlaces(
        tensors=[value(node, place) for node, place in laid.fx.makers],
        operators=[position[node.name] for node in laid.fx.nodes],
        copies=[value(node, None) for node in laid.clones],
        clones=[position[node.name] for node in laid.clones],
    )
