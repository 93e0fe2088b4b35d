"""Plans what is already lowered: a ``.pte``, a VkGraph, or a Vulkan delegate's blob. No torch."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from planner.costs.model import CostModel
from planner.errors import InputError, NoRepresentationError, OptionError, VerificationError
from planner.files.kinds import FileKind, kind_of
from planner.files.lowered import (
    blobs_and_limits,
    graph_of,
    lowered_limits,
    program_of,
    with_limits,
)
from planner.ir.physical import ImageExtents, fitting
from planner.ir.representation import TensorRepSet
from planner.kernels.limits import Limits
from planner.kernels.releases import Runtime, Target
from planner.optimise.constraints import none_left, possible, restricted_away
from planner.optimise.free import FreeTensors
from planner.optimise.memory import apply as apply_memory
from planner.optimise.memory import greedy_plan, plan_memory, used_bytes
from planner.optimise.plan import SEARCH_SECONDS, LayoutPlan, plan_graph, read_plan
from planner.optimise.restricted import check_names
from planner.optimise.slots import NO_LABEL
from planner.options import PlanOptions
from planner.result.program import (
    AlternativeResult,
    Baseline,
    DelegateResult,
    Exported,
    MemoryFigures,
    ProgramKind,
    Progress,
    Source,
    TensorNames,
    assemble,
    describe_delegate,
    faults_of,
)
from planner.result.report import Report, report
from planner.stopwatch import collector_off, stage, stopwatch
from planner.verify import (
    Named,
    sharing_error,
    verify_budget,
    verify_contraction,
    verify_delegate,
    verify_memory,
    verify_pinned,
)
from planner.vkgraph.places import WrittenPlaces
from planner.vkgraph.reader import ContractedGraph, read_vkgraph, without_representations
from planner.vkgraph.runtimes import check_operators, warnings_for_webgpu
from planner.vkgraph.targets import planned_for, runtimes_for, target_to_plan
from planner.vkgraph.wellformed import warnings_of
from planner.vkgraph.writer import NEW, WrittenGraph, is_written, write_vkgraph, written_places
from schema import (
    DelegatePlan,
    PlannedProgram,
    SchemaError,
    VkGraph,
    join_delegate,
    plan,
    split_delegate,
    vkgraph,
)
from schema.bundled_program import is_bundled_program, program_in, with_program
from schema.executorch_program import (
    BlobKey,
    is_executorch_program,
    read_program,
    replace_blobs,
)
from schema.frozen import frozen
from solver import Status as SolverStatus
from solver import TooDenseError

if TYPE_CHECKING:
    from planner.optimise.tradeoff import Criterion
    from planner.result.explanation import Explanation
    from planner.result.opportunities import Opportunities, Study
    from planner.result.outline import Outlines
    from planner.result.sensitivity import SensitivityReport
    from planner.result.tradeoffs import Tradeoffs

_UNRANKED: Final = "it is connected too densely to rank its plans: alternatives are not listed"
_NO_LAYOUTS: Final = (
    "it came without layouts, so that there are none to compare with: the plan stands for them"
)


@frozen
class Planned:
    """A planned program. ``data`` is it, in the form in which it came, or as it was lowered."""

    program: PlannedProgram
    report: Report
    delegates: tuple[DelegateResult, ...]
    data: bytes
    options: PlanOptions = field(repr=False)

    def explanation(self) -> Explanation:
        """Why each repack of the plan remains, and what the plan without it would cost."""
        from planner.result.explanation import explain

        if self.options.budget.words:
            raise _without_budget(self.options, "explanations")
        return explain(self.program, self.delegates, self.options.profile)

    def tradeoffs(
        self, criteria: Sequence[Criterion] = (), search_seconds: float = SEARCH_SECONDS
    ) -> Tradeoffs:
        """What fewer transitions, copies of fewer bytes, and less memory at once would cost, or
        only less by some ``criteria``.

        Elimination proves each point, or a search of at most ``search_seconds`` for each criterion;
        what that does not prove in time says so.
        """
        from planner.optimise.tradeoff import CRITERIA
        from planner.result.tradeoffs import trade_off

        if self.options.budget.words:
            raise _without_budget(self.options, "trade-offs")
        costs, profile = self.options.cost_model(), self.options.profile
        return trade_off(
            self.program, self.delegates, costs, profile, criteria or CRITERIA, search_seconds
        )

    def outlines(self) -> Outlines:
        """What fewer transitions, and copies of fewer bytes, cost at least: sooner found."""
        from planner.result.outline import outlines

        if self.options.budget.words:
            raise _without_budget(self.options, "trade-offs")
        return outlines(self.program, self.delegates, self.options.profile)

    def sensitivity(self) -> SensitivityReport:
        """How far each price may change before another plan is better."""
        from planner.result.sensitivity import sensitivity

        if self.options.budget.words:
            raise _without_budget(self.options, "sensitivities")
        costs, profile = self.options.cost_model(), self.options.profile
        return sensitivity(self.program, self.delegates, costs, profile)

    def study(self) -> Study:
        """What the plan would cost if kernels accepted more: ``planner.rank_opportunities``."""
        from planner.result.opportunities import Study

        options = self.options
        if options.budget.words:
            raise _without_budget(options, "opportunities")
        return Study(self.program, self.delegates, options.cost_model(), options.profile)

    @collector_off()
    def opportunities(self) -> Opportunities:
        """What kernels could accept to make the plan cheaper, the most first."""
        return self.study().report()

    def flatbuffer(self) -> bytes:
        """The planned program as a flatbuffer (``plan.fbs``)."""
        return plan.encode(self.program)

    def pte(self) -> bytes:
        """The program for ExecuTorch's runtime; raises ``OptionError`` where none was handed in."""
        if self.report.kind == "vkgraph":
            raise OptionError(
                "a VkGraph alone is not a program for the runtime: give the .pte that it is from"
            )
        return self.data


def _without_budget(options: PlanOptions, what: str) -> OptionError:
    limits = " and ".join(options.budget.flags)
    return OptionError(f"{what} do not keep {limits}: leave that out")


@collector_off()
def replan(
    data: bytes,
    name: str,
    options: PlanOptions | None = None,
    progress: Progress = lambda stage, delegate: None,
    chooser: CostModel | None = None,
    exported: Exported | None = None,
    repeats: int = 1,
) -> Planned:
    """Plans every Vulkan delegate of a lowered program again.

    A ``chooser`` has costs to choose layouts by, where those are not what the layouts cost: the
    plan then tells its own cost by ``options``, and how much less it might be. With ``exported``
    the plan is one of the program that was lowered. With ``repeats``, which are for benchmarks,
    planning runs that many times, and the least time is kept. Texture limits of the ``options``
    become those that the program says it was lowered with: planned again, it keeps them.

    Raises ``InputError`` for bytes that are damaged or no such program, ``NoRepresentationError``
    where the options leave an operator without representation.
    """
    options = options or PlanOptions()
    if exported is None and options.compile_options:
        raise OptionError(
            f"{name} is lowered already: compile options are for a .pt2 (leave out "
            f"{', '.join(option for option, _ in options.compile_options)})"
        )
    handed_in, data = data, program_of(data, name)
    progress("planning", None)
    lowered = _Lowered.of(data, name)
    target = target_to_plan(options.target, [d.file for d in lowered.delegates.values()], name)
    options.check_for(target)
    read_as, lowered = lowered, lowered.planned_for(target)
    if options.restrictions:
        lowered = lowered.named({} if exported is None else exported.names)
        graphs = [read.source.graph for read in lowered.delegates.values()]
        check_names(options.restrictions, graphs, name)
    announced = 0

    def announce(result: DelegateResult) -> None:
        # Where another runtime is tried, the first delegates are planned again.
        nonlocal announced
        if result.plan.index == announced:
            announced += 1
            progress("planning", result)

    runtimes: tuple[Runtime, ...] = ((options.runtime or Runtime()).of(target),)
    if options.runtime is None and exported is None:
        runtimes = runtimes_for([read.source for read in read_as.delegates.values()], target)
    for runtime in runtimes:
        limits = options.limits(lowered.texture_limits, runtime)
        planning = _Planning(options, limits, chooser, exported, repeats)
        try:
            results, changed = planning.plan(lowered, announce)
        except NoRepresentationError:
            if runtime == runtimes[-1]:
                raise
        else:
            break
    kind: ProgramKind = "pte" if is_executorch_program(data) else "vkgraph"
    source, lowering_seconds = Source.of(name, handed_in), 0.0
    if exported is not None:
        kind, source = "pt2", exported.source
        lowering_seconds = exported.lowering_seconds
    verify_budget([result.plan for result in results], limits)
    program = assemble(source, results, options, limits)
    return Planned(
        program=program,
        report=report(
            program,
            results,
            kind=kind,
            target=target,
            lowering_seconds=lowering_seconds,
            on_cpu=exported.on_cpu if exported is not None else (),
        ),
        delegates=tuple(results),
        data=_bundled_again(handed_in, _put_back(data, name, changed, options.texture_limits)),
        options=options,
    )


def _bundled_again(data: bytes, program: bytes) -> bytes:
    """The program in the form in which it came."""
    if not is_bundled_program(data):
        return program
    written = with_program(data, program)
    if program_in(written) != program:
        raise VerificationError("the written bundle does not hold the written program")
    return written


def _put_back(
    data: bytes,
    name: str,
    changed: dict[BlobKey | None, bytes],
    texture_limits: ImageExtents | None,
) -> bytes:
    if not is_executorch_program(data):
        return changed.get(None, data)
    blobs = {key: blob for key, blob in changed.items() if key is not None}
    written = replace_blobs(data, blobs) if blobs else data
    if texture_limits is not None:
        written = with_limits(written, name, texture_limits)
        if lowered_limits(written, name) != texture_limits:
            raise VerificationError("the written program does not have the texture limits")
    if blobs:
        found = read_program(written).blobs
        if any(found[key] != blob for key, blob in blobs.items()):
            raise VerificationError("the written program does not hold the checked delegates")
    return written


@frozen
class _Read:
    """A delegate's graph as it came, and how long it took to take its repacks out."""

    index: int
    data: bytes
    file: VkGraph
    is_newer: bool
    """Whether the file has fields of a newer schema than ours."""
    source: ContractedGraph
    seconds: float

    @classmethod
    def of(cls, index: int, data: bytes) -> _Read:
        with stage("decode"):
            file, is_newer = vkgraph.read(data)
        with stage("read"), stopwatch() as watch:
            source = read_vkgraph(file, f"delegate {index}")
        return cls(index, data, file, is_newer, source, watch.seconds)

    def planned_for(self, target: Target) -> _Read:
        """The same, as it is to be planned for a backend."""
        return replace(self, source=planned_for(self.source, target))

    def named(self, aliases: Mapping[int, str], delegates: frozenset[int]) -> _Read:
        """The same, with what is needed to tell what a user's names mean."""
        graph = replace(self.source.graph, aliases=aliases, delegates=delegates)
        return replace(self, source=replace(self.source, graph=graph))


@frozen
class _Lowered:
    """A program's delegates in their order, each blob read once."""

    name: str
    blobs: tuple[tuple[BlobKey | None, bytes], ...]
    delegates: dict[BlobKey | None, _Read]
    texture_limits: ImageExtents

    @classmethod
    def of(cls, data: bytes, name: str) -> _Lowered:
        blobs, texture_limits = blobs_and_limits(data, name)
        found: dict[BlobKey | None, _Read] = {}
        for index, (key, blob) in enumerate(blobs):
            if key not in found:
                with _damage_named(name, index):
                    found[key] = _Read.of(index, graph_of(blob))
        return cls(name, tuple(blobs), found, texture_limits)

    def planned_for(self, target: Target) -> _Lowered:
        """The same, as it is to be planned for a backend."""
        found = {key: read.planned_for(target) for key, read in self.delegates.items()}
        return replace(self, delegates=found)

    def named(self, names: TensorNames) -> _Lowered:
        """The same, with what is needed to tell what a user's names mean."""
        places: dict[BlobKey | None, set[int]] = {}
        for index, (key, _) in enumerate(self.blobs):
            places.setdefault(key, set()).add(index)
        found = {}
        for key, read in self.delegates.items():
            known = names.get(hashlib.sha256(read.data).hexdigest(), {})
            tensors = enumerate(read.source.tensors)
            aliases = {t: known[value] for t, value in tensors if value in known}
            found[key] = read.named(aliases, frozenset(places[key]))
        return replace(self, delegates=found)


@contextmanager
def _damage_named(name: str, index: int) -> Iterator[None]:
    try:
        yield
    except SchemaError as error:
        raise InputError(f"{name}, delegate {index} is damaged: {error}") from error


@frozen
class _Planning:
    """How the delegates of a program are planned."""

    options: PlanOptions
    limits: Limits
    chooser: CostModel | None
    exported: Exported | None
    repeats: int

    def plan(
        self, lowered: _Lowered, announce: Callable[[DelegateResult], None]
    ) -> tuple[list[DelegateResult], dict[BlobKey | None, bytes]]:
        """The planned delegates in their order, and the blobs that change."""
        results: list[DelegateResult] = []
        changed: dict[BlobKey | None, bytes] = {}
        planned: dict[BlobKey | None, DelegateResult] = {}
        costs = self.options.cost_model()
        within = self._within(lowered, costs)
        for key, blob in lowered.blobs:
            if key in planned:
                results.append(planned[key].again(len(results)))
            else:
                with _damage_named(lowered.name, len(results)):
                    result, graph = self._delegate(lowered.delegates[key], costs, within.get(key))
                results.append(result)
                planned[key] = result
                if graph is not None:
                    if kind_of(blob) is not FileKind.VKGRAPH:
                        graph = join_delegate(graph, bytes(split_delegate(blob).constants))
                    changed[key] = graph
            announce(results[-1])
        return results, changed

    def _within(self, lowered: _Lowered, costs: CostModel) -> dict[BlobKey | None, LayoutPlan]:
        """The plans of all delegates, where limits tie them together."""
        if not self.limits.budget.words:
            return {}
        if self.chooser is not None:
            raise _without_budget(self.options, "layouts that are chosen by other costs")
        if self.options.alternatives:
            raise _without_budget(self.options, "alternatives")
        from planner.optimise.budgets import Part, plans_within

        times = Counter(key for key, _ in lowered.blobs)
        sources = {key: read.source for key, read in lowered.delegates.items()}
        parts = [Part(s.graph, s.layouts(), times[key]) for key, s in sources.items()]
        for source in sources.values():
            check_operators(source.graph, self.limits.runtime)
        plans = plans_within(parts, self.limits, costs, lowered.name)
        return dict(zip(sources, plans, strict=True))

    def _delegate(
        self, read: _Read, costs: CostModel, within: LayoutPlan | None
    ) -> tuple[DelegateResult, bytes | None]:
        """The best of as many trials as asked for; one after the first begins from nothing."""
        check_operators(read.source.graph, self.limits.runtime)
        digest = hashlib.sha256(read.data).hexdigest()
        names = self.exported.names.get(digest, {}) if self.exported is not None else {}
        trials = [_Delegate(read, self, costs, names, within).replan()]
        for _ in range(self.repeats - 1):
            known = read.source.graph
            again = _Read.of(read.index, read.data).planned_for(self.limits.runtime.target)
            again = again.named(known.aliases, known.delegates)
            prices = self.options.cost_model()
            trials.append(_Delegate(again, self, prices, names, within).replan())
        result, graph = min(trials, key=lambda trial: trial[0].plan_seconds)
        if self.exported is not None:
            seconds = self.exported.baseline_seconds.get(digest, 0.0)
            result = replace(result, baseline_seconds=seconds)
        return result, graph


class _Delegate:
    """A delegate's graph on its way through planning."""

    def __init__(
        self,
        read: _Read,
        planning: _Planning,
        costs: CostModel,
        names: Mapping[int, str],
        within: LayoutPlan | None,
    ) -> None:
        self.index, self.data, self.names = read.index, read.data, names
        self.read, self.given = read, read.source.layouts()
        self.options, self.limits = planning.options, planning.limits
        self.costs, self.chooser = costs, planning.chooser
        self.within = within

    def replan(self) -> tuple[DelegateResult, bytes | None]:
        """The result, and the new graph's bytes; None where the file's are right already."""
        file, source = self.read.file, self.read.source
        # What ExecuTorch's layout pass does, too: neither decodes, places in memory or encodes.
        with stopwatch() as watch:
            given = self.given
            planned = self.within or plan_graph(source.graph, self.limits, self.costs, given)
            if self.chooser is not None:
                chosen = plan_graph(source.graph, self.limits, self.chooser, given)
                planned = self._priced(source, planned, chosen.solution.assignment)
            planned = self._with_free_tensors(source, planned)
            with stage("write"):
                stays = (
                    file.version == source.written.version
                    and is_written(source, planned)
                    and sharing_error(file) is None
                )
                written = None if stays else write_vkgraph(source, planned)
        # Whether the file says of every operand that has a representation which one it is.
        has_layouts = bool((planned.layout.slots.labels(given) != NO_LABEL).all())
        baseline = self._baseline(planned, has_layouts)
        described, places, memory = self._described(planned, written, baseline)
        changed = None if written is None else described.graph
        # The check decodes it again: no need for two of it in memory.
        del written
        with stage("check"), stopwatch() as checking:
            before = without_representations(source.written)
            as_read = replace(before, version=file.version)
            verify_contraction(as_read, file, [t.position for t in source.transitions])
            self._verify(described, before, planned.limits, memory.planned)
        others, unranked = self._alternatives(planned, before, baseline)
        warnings, mended = faults_of(source.graph, planned, baseline, self.limits.faults)
        result = DelegateResult(
            plan=described,
            graph=source.graph,
            layout_plan=planned,
            plan_seconds=self.read.seconds + watch.seconds,
            baseline_seconds=0.0,
            verify_seconds=checking.seconds,
            pinned_operators=source.unknown,
            warnings=(
                *(warnings_of(file) if self.limits.runtime.target == "vulkan" else ()),
                *warnings_for_webgpu(source, self.limits.runtime),
                *(() if has_layouts else (_NO_LAYOUTS,)),
                *warnings,
                *unranked,
            ),
            mended=mended,
            memory=memory,
            alternatives=others,
            places=places,
        )
        return result, changed

    def _described(
        self, planned: LayoutPlan, written: WrittenGraph | None, baseline: Baseline
    ) -> tuple[DelegatePlan, WrittenPlaces, MemoryFigures]:
        """A plan with its graph's bytes, those of the file if nothing is written; its memory."""
        source, graph, data = self.read.source, self.read.file, self.data
        if written is None:
            places = written_places(source, planned)
            with stage("memory"):
                greedy_bytes = greedy_plan(graph).greedy_bytes
        else:
            with stage("memory"):
                objects = plan_memory(written.graph)
                graph, greedy_bytes = apply_memory(written.graph, objects), objects.greedy_bytes
                del objects
            with stage("encode"):
                places, data = written.places, self._encode(graph, written)
        described = describe_delegate(
            index=self.index,
            graph=data,
            written=graph,
            plan=planned,
            places=places,
            name_of=self._name_of(source, places),
            baseline=baseline,
            profile=self.options.profile,
        )
        with stage("memory"):
            memory = MemoryFigures(used_bytes(graph), greedy_bytes, planned.peak_bytes)
        return described, places, memory

    def _verify(
        self, described: DelegatePlan, before: VkGraph, limits: Limits, memory_bytes: int
    ) -> None:
        """Shows that a written plan is right; raises ``VerificationError``."""
        source = self.read.source
        checked = verify_delegate(
            described,
            before,
            costs=self.options.costs,
            objective=self.options.objective,
            limits=limits,
            named=Named(source.graph.delegates, source.positions, self.names),
        )
        verify_pinned(self.read.file, checked, source.unknown)
        verify_memory(checked, memory_bytes)

    def _alternatives(
        self, chosen: LayoutPlan, before: VkGraph, baseline: Baseline
    ) -> tuple[tuple[AlternativeResult, ...], tuple[str, ...]]:
        """As many of the plans that come next as asked for, checked; and why there are none."""
        source, most = self.read.source, self.options.alternatives
        if not most:
            return (), ()
        from planner.optimise.alternatives import alternatives, differences

        found = []
        try:
            for other in islice(alternatives(source.graph, chosen, self.costs), most):
                planned = self._with_free_tensors(source, other.plan)
                written = write_vkgraph(source, planned)
                described, _, memory = self._described(planned, written, baseline)
                self._verify(described, before, planned.limits, memory.planned)
                differing = tuple(differences(chosen, planned))
                found.append(AlternativeResult(described, planned, other.is_proven, differing))
        except TooDenseError:
            return (), (_UNRANKED,)
        return tuple(found), ()

    def _name_of(self, source: ContractedGraph, places: WrittenPlaces) -> Callable[[int], str]:
        """Names tensors, in terms of the graph as it was written; else by their ids."""
        ids = zip(source.tensors, places.tensors, strict=True) if self.names else ()
        known = {new: self.names[old] for old, new in ids if old in self.names}
        return lambda value: known.get(value, f"v{value}")

    def _priced(
        self, source: ContractedGraph, best: LayoutPlan, assignment: tuple[int, ...]
    ) -> LayoutPlan:
        """The plan that an assignment stands for; the best one's bound holds for it, too."""
        cost = best.layout.problem.cost(assignment)
        if cost is None:
            raise ValueError("the assignment is none of this graph's problem")
        status = best.status if cost == best.solution.cost else SolverStatus.FEASIBLE
        solution = replace(best.solution, assignment=assignment, cost=cost, status=status)
        return read_plan(source.graph, best.live, solution, self.costs, best.limits)

    def _with_free_tensors(self, source: ContractedGraph, planned: LayoutPlan) -> LayoutPlan:
        """The plan with a representation for tensors that no operator constrains.

        They keep the one that the file gave them, unless the device or the user rules it out.
        """
        made = list(planned.made)
        free = FreeTensors(source.graph, self.limits, self.given)
        for t, want in enumerate(planned.made):
            if want is not None or not free.has_to_change(t):
                continue
            made[t] = free.made(t)
            if made[t] is None:
                tensor, family = source.graph.tensors[t], free.family(t)
                what = f"delegate {self.index}, value {source.tensors[t]} ({tensor.shape_text})"
                accepted = TensorRepSet.from_reprs(family).mask
                if accepted & possible(tensor, self.limits):
                    raise restricted_away(what, self.limits)
                accepted &= fitting(tensor.shape, self.limits.texture).mask
                raise none_left(what, accepted, [tensor], self.limits)
        return replace(planned, made=tuple(made))

    def _encode(self, graph: VkGraph, written: WrittenGraph) -> bytes:
        """The graph's bytes, with what the file has of a newer schema than ours."""
        if not self.read.is_newer:
            return vkgraph.encode(graph)
        try:
            origins = (
                [None if origin == NEW else origin for origin in each]
                for each in (written.operators, written.values)
            )
            return vkgraph.amend(self.data, graph, *origins)
        except SchemaError as error:
            raise InputError(
                f"delegate {self.index} has fields that this release does not know and would "
                f"lose ({error}): lower the model with the executorch release that the planner is "
                "pinned to"
            ) from error

    def _baseline(self, planned: LayoutPlan, has_layouts: bool) -> Baseline:
        """The layouts that the file came with, and what they cost; without any, the plan's own."""
        if not has_layouts:
            cost = sum(price.cost for price in planned.operators)
            return Baseline(planned.made, planned.transitions, cost, seconds=0.0)
        graph, slots = self.read.source.graph, planned.layout.slots
        return Baseline.of(self.given, graph, slots, self.costs, seconds=0.0)
