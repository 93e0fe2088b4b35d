"""Lowers exported programs as ExecuTorch does, with our planning in the place of its layout pass.

ExecuTorch's Vulkan backend has no hook for its layout pass. So ``planning`` replaces names of its
preprocessing module while its body runs, for the thread that runs it: the reader of the compile
options, the pass, the memory planner, the builder of the VkGraph, and its serialiser.
"""

from __future__ import annotations

import copy
import hashlib
import operator
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import executorch.backends.vulkan.vulkan_preprocess as etvk
import executorch.exir
from executorch.backends.vulkan.op_registry import get_op_features
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanSupportedOperators
from executorch.exir.backend.utils import DelegateMappingBuilder
from executorch.exir.passes.sym_shape_eval_pass import ConstraintBasedSymShapeEvalPass
from torch.fx import GraphModule, Node
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from planner.errors import NoRepresentationError, PlannerError, Remedy, VerificationError
from planner.executorch.baseline import detached_copy, run_baseline
from planner.executorch.reader import FxGraph, read_graph_module
from planner.executorch.writer import write_graph_module
from planner.ir.limits import Limits
from planner.ir.physical import DEFAULT_TEXTURE_LIMITS, ImageExtents
from planner.optimise.plan import LayoutPlan, plan_graph
from planner.options import PlanOptions
from planner.result.program import Baseline, DelegateResult, TensorNames, describe_delegate
from planner.stopwatch import stopwatch
from planner.verify import verify_delegate
from planner.vkgraph.places import WrittenPlaces
from schema import (
    VkDataType,
    VkGraph,
    VkMemoryLayout,
    VkStorageType,
    VkTensor,
    split_delegate,
    vkgraph,
)
from schema.vkgraph import NAMED_DATA, OperatorCall, Value, VkBytes

_NO_LIMITS: Final = (2**31, 2**31, 2**31)
_one_at_a_time = threading.RLock()


@dataclass(slots=True)
class _Delegate:
    """A delegate on its way through ExecuTorch's preprocessing."""

    options: dict[str, Any]
    untagged: GraphModule | None = None
    fx: FxGraph | None = None
    limits: Limits = field(default_factory=Limits)
    plan: LayoutPlan | None = None
    clones: tuple[Node, ...] = ()
    baseline: Baseline | None = None
    plan_seconds: float = 0.0
    before: VkGraph | None = None
    program: Any = None
    builder: Any = None


@dataclass(slots=True)
class Planning:
    """Plans the delegates that are lowered while it is active; ``delegates`` are those finished."""

    options: PlanOptions
    on_delegate: Callable[[DelegateResult], None] | None = None
    repeats: int = 1
    delegates: list[DelegateResult] = field(default_factory=list)
    unplaced: list[str] = field(default_factory=list)
    texture_limits: ImageExtents = DEFAULT_TEXTURE_LIMITS
    error: PlannerError | None = None
    _current: _Delegate | None = None

    def begin(self, compile_options: dict[str, Any]) -> None:
        """Takes note that ExecuTorch starts to preprocess a delegate with these options."""
        self._current = _Delegate(compile_options)

    def plan(self, graph_module: GraphModule, greedy: Any) -> None:
        """Plans a delegate's graph module in place, where ``greedy`` would have tagged it."""
        delegate = self._delegate()
        costs = self.options.cost_model()
        delegate.untagged = detached_copy(graph_module)
        delegate.limits = self.options.limits(greedy.texture_limits)

        def plan_in_place(target: GraphModule) -> float:
            costs = self.options.cost_model()
            with stopwatch() as watch:
                fx = read_graph_module(
                    target,
                    name=f"delegate {len(self.delegates)}",
                    downcast_64_bit=delegate.options.get("downcast_64_bit", True),
                    force_fp16=greedy.force_fp16,
                )
                plan = plan_graph(fx.graph, delegate.limits, costs)
                clones = write_graph_module(fx, plan)
            delegate.fx, delegate.plan, delegate.clones = fx, plan, clones
            return watch.seconds

        def baseline() -> Baseline:
            assert delegate.untagged and delegate.fx and delegate.plan
            return run_baseline(
                detached_copy(delegate.untagged),
                greedy.call,
                delegate.fx,
                delegate.plan.layout.slots,
                costs,
            )

        trials = [detached_copy(graph_module) for _ in range(self.repeats - 1)]
        delegate.plan_seconds = min(plan_in_place(g) for g in (*trials, graph_module))
        delegate.baseline = min(
            (baseline() for _ in range(self.repeats)), key=lambda found: found.seconds
        )

    def build(self, make_builder: Callable[..., Any], program: Any, *args: Any, **kw: Any) -> Any:
        """Makes ExecuTorch's builder of the VkGraph, and the graph as it was before planning."""
        delegate = self._delegate()
        assert delegate.untagged is not None
        ConstraintBasedSymShapeEvalPass()(delegate.untagged)
        unplanned = copy.copy(program)
        unplanned._graph_module = delegate.untagged
        builder = make_builder(unplanned, DelegateMappingBuilder(generated_identifiers=True), **kw)
        builder.const_scalar_to_value_ids = _Scalars()
        delegate.before = _as_schema(builder.build_graph(), builder.const_tensors)
        delegate.program = program
        delegate.builder = make_builder(program, *args, **kw)
        delegate.builder.const_scalar_to_value_ids = _Scalars()
        return delegate.builder

    def finish(self, blob: bytes) -> None:
        """Describes and checks the delegate that ExecuTorch has just written as ``blob``.

        Raises ``VerificationError`` if the check fails.
        """
        delegate, self._current = self._delegate(), None
        assert delegate.fx is not None and delegate.plan is not None
        assert delegate.baseline is not None and delegate.before is not None
        graph = split_delegate(blob).flatbuffer
        plan = describe_delegate(
            index=len(self.delegates),
            graph=graph,
            written=vkgraph.decode(graph),
            plan=delegate.plan,
            places=_places(delegate),
            names=_names(delegate.builder),
            baseline=delegate.baseline,
            profile=self.options.profile,
        )
        with stopwatch() as watch:
            verify_delegate(
                plan,
                delegate.before,
                costs=self.options.costs,
                objective=self.options.objective,
                limits=delegate.limits,
            )
        result = DelegateResult(
            plan=plan,
            graph=delegate.fx.graph,
            layout_plan=delegate.plan,
            plan_seconds=delegate.plan_seconds,
            baseline_seconds=delegate.baseline.seconds,
            verify_seconds=watch.seconds,
        )
        self.texture_limits = delegate.limits.texture
        self.delegates.append(result)
        if self.on_delegate is not None:
            self.on_delegate(result)

    def check_placed(self) -> None:
        """Raises ``NoRepresentationError`` if the limits asked for kept an operator off the GPU."""
        if self.options.texture_limits is not None and self.unplaced:
            limits = ",".join(map(str, self.options.texture_limits))
            raise NoRepresentationError(
                f"{self.unplaced[0]} has no representation within the texture limits {limits}",
                Remedy.RAISE_TEXTURE_LIMITS,
            )

    def _delegate(self) -> _Delegate:
        if self._current is None:
            raise VerificationError(
                "ExecuTorch's Vulkan backend did not preprocess the delegate in the expected "
                "order: use the executorch release that this planner is pinned to"
            )
        return self._current


class _Scalars(dict[Any, int]):
    """The builder's scalars by value, with 1 and 1.0 kept apart.

    ExecuTorch's own dictionary takes them for one. A convolution whose ``groups`` of 1 then shares
    a value with a scale of 1.0 reads an integer from a double when the program is loaded.
    """

    def __contains__(self, scalar: object) -> bool:
        return super().__contains__((type(scalar), scalar))

    def __getitem__(self, scalar: Any) -> int:
        return super().__getitem__((type(scalar), scalar))

    def __setitem__(self, scalar: Any, value_id: int) -> None:
        super().__setitem__((type(scalar), scalar), value_id)


class _PlanningPass(PassBase):
    """Stands in for ``TagMemoryMetaPass``."""

    def __init__(self, planning: Planning, greedy: Any) -> None:
        super().__init__()
        self._planning = planning
        self._greedy = greedy

    def call(self, graph_module: GraphModule) -> PassResult:
        try:
            self._planning.plan(graph_module, self._greedy)
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

    Put a script's call of ``to_edge_transform_and_lower`` in its body. ``on_delegate`` is called
    with each delegate once it is planned, written and checked. With ``repeats``, our planning and
    ExecuTorch's pass run that many times each, and the least time of each is kept. Errors of the
    planner come out of the body: ``NoRepresentationError``, ``VerificationError``.
    """
    session = Planning(options or PlanOptions(), on_delegate, repeats)
    owner = threading.get_ident()

    def ours(replacement: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
        def dispatch(*args: Any, **kw: Any) -> Any:
            return (replacement if threading.get_ident() == owner else original)(*args, **kw)

        return dispatch

    parse, make_pass = etvk.parse_compile_spec, etvk.TagMemoryMetaPass
    make_builder, serialize = etvk.VkGraphBuilder, etvk.serialize_vulkan_graph
    place = etvk.greedy
    is_compatible = VulkanSupportedOperators.op_node_is_compatible

    def begin(*args: Any) -> Any:
        compile_options = parse(*args)
        session.begin(compile_options)
        return compile_options

    def tag(*args: Any, **kw: Any) -> Any:
        return _PlanningPass(session, make_pass(*args, **kw))

    def place_in_order(
        alignment: int, specs: Any, graph: GraphModule, *args: Any, **kw: Any
    ) -> Any:
        return place(alignment, in_graph_order(specs, graph), graph, *args, **kw)

    def build(*args: Any, **kw: Any) -> Any:
        return session.build(make_builder, *args, **kw)

    def write(*args: Any) -> Any:
        blob = serialize(*args)
        session.finish(blob)
        return blob

    def compatible(support: Any, node: Node, features: Any = None) -> Any:
        answer = is_compatible(support, node, features=features)
        if not answer[0]:
            features = features or get_op_features(node.target)
            if not features.make_op_repsets(node, _NO_LIMITS).any_is_empty():
                session.unplaced.append(_describe(node))
        return answer

    with _one_at_a_time, ExitStack() as stack:
        for owner_of, name, original, replacement in (
            (etvk, "parse_compile_spec", parse, begin),
            (etvk, "TagMemoryMetaPass", make_pass, tag),
            (etvk, "greedy", place, place_in_order),
            (etvk, "VkGraphBuilder", make_builder, build),
            (etvk, "serialize_vulkan_graph", serialize, write),
            (VulkanSupportedOperators, "op_node_is_compatible", is_compatible, compatible),
        ):
            stack.callback(setattr, owner_of, name, original)
            setattr(owner_of, name, ours(replacement, original))
        try:
            yield session
        except Exception:
            if session.error is not None:
                raise session.error from None
            raise


@contextmanager
def mending() -> Iterator[TensorNames]:
    """Keeps ExecuTorch's own layouts in what its body lowers, but writes them as we do.

    Scalars of different types stay apart, and the same program gets the same memory objects: see
    ``_Scalars`` and ``in_graph_order``. Gives the names of tensors in the
    graphs that were written.
    """
    owner = threading.get_ident()
    place, make_builder = etvk.greedy, etvk.VkGraphBuilder
    serialize = etvk.serialize_vulkan_graph
    names: dict[str, dict[int, str]] = {}
    latest: Any = None

    def place_in_order(
        alignment: int, specs: Any, graph: GraphModule, *args: Any, **kw: Any
    ) -> Any:
        if threading.get_ident() == owner:
            specs = in_graph_order(specs, graph)
        return place(alignment, specs, graph, *args, **kw)

    def build(*args: Any, **kw: Any) -> Any:
        nonlocal latest
        builder = make_builder(*args, **kw)
        if threading.get_ident() == owner:
            builder.const_scalar_to_value_ids = _Scalars()
            latest = builder
        return builder

    def write(*args: Any) -> Any:
        blob = serialize(*args)
        if threading.get_ident() == owner:
            graph = hashlib.sha256(split_delegate(blob).flatbuffer).hexdigest()
            # Delegates that are alike share a graph in the file: the first one names its tensors.
            names.setdefault(graph, _names(latest))
        return blob

    with _one_at_a_time, ExitStack() as stack:
        for name, original, replacement in (
            ("greedy", place, place_in_order),
            ("VkGraphBuilder", make_builder, build),
            ("serialize_vulkan_graph", serialize, write),
        ):
            stack.callback(setattr, etvk, name, original)
            setattr(etvk, name, replacement)
        yield names


def in_graph_order(specs: Collection[Any], graph_module: GraphModule) -> list[Any]:
    """Tensor specs in the order in which the nodes of a graph have them.

    ExecuTorch plans memory from a set of them, whose order is that of addresses in this process:
    the same program would get other memory objects on another day.
    """
    position: dict[int, int] = {}
    for node in graph_module.graph.nodes:
        found = node.meta.get("spec")
        for spec in found if isinstance(found, (list, tuple)) else [found]:
            position.setdefault(id(spec), len(position))
    return sorted(specs, key=lambda spec: position[id(spec)])


def to_edge_transform_and_lower(
    *args: Any, plan_options: PlanOptions | None = None, **kw: Any
) -> executorch.exir.EdgeProgramManager:
    """ExecuTorch's function of this name, with the layouts of Vulkan delegates planned by us.

    Takes the same arguments, and ``plan_options``. Import it in the place of ExecuTorch's.
    """
    with planning(plan_options):
        return executorch.exir.to_edge_transform_and_lower(*args, **kw)


def _describe(node: Node) -> str:
    values: list[Any] = [a.meta.get("val") for a in (*node.all_input_nodes, node)]
    shapes = ["x".join(map(str, v.shape)) for v in values if hasattr(v, "shape")]
    target: Any = node.target
    return f"{target.__name__} ({', '.join(shapes)})"


def _names(builder: Any) -> dict[int, str]:
    """What the exported program calls the values that ExecuTorch's builder wrote."""
    return {value_id: node.name for node, value_id in builder.node_to_value_ids.items()}


def _places(delegate: _Delegate) -> WrittenPlaces:
    fx, builder = delegate.fx, delegate.builder
    assert fx is not None
    # Passes after ours may rebuild the graph: names survive, nodes need not.
    value_of = {node.name: value for node, value in builder.node_to_value_ids.items()}
    calls = (
        node.name
        for node in delegate.program.graph_module.graph.nodes
        if node.op == "call_function" and node.target is not operator.getitem
    )
    position = {name: i for i, name in enumerate(calls)}

    def value(node: Node, place: int | None) -> int:
        made: int = value_of.get(node.name, -1)  # an input that nothing uses is not written
        return made if place is None else builder.values[made].value.items[place]

    return WrittenPlaces(
        tensors=[value(node, place) for node, place in fx.makers],
        operators=[position[node.name] for node in fx.nodes],
        copies=[value(node, None) for node in delegate.clones],
        clones=[position[node.name] for node in delegate.clones],
    )


def _as_schema(graph: Any, constants: Sequence[Any]) -> VkGraph:
    """ExecuTorch's dataclasses of a VkGraph as ours, with its constants filled in."""
    return VkGraph(
        version=graph.version,
        chain=tuple(OperatorCall(c.node_id, c.name, tuple(c.args)) for c in graph.chain),
        values=tuple(_value_as_schema(v.value) for v in graph.values),
        input_ids=tuple(graph.input_ids),
        output_ids=tuple(graph.output_ids),
        constants=tuple(
            VkBytes(0, 0) if c is None else VkBytes(NAMED_DATA, c[1], c[0]) for c in constants
        ),
    )


def _value_as_schema(value: Any) -> Value:
    kind: Any = getattr(vkgraph, type(value).__name__)
    fields = {name: getattr(value, name) for name in kind.__dataclass_fields__}
    if kind is VkTensor:
        for name, enumeration in _TENSOR_ENUMS.items():
            fields[name] = enumeration(int(fields[name]))
    made: Value = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
    return made


_TENSOR_ENUMS: Final = {
    "datatype": VkDataType,
    "staging_datatype": VkDataType,
    "storage_type": VkStorageType,
    "memory_layout": VkMemoryLayout,
}
