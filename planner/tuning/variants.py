"""Variant plans that are worth measuring: untried choices where they might save the most.

A variant is the best plan for optimistic prices: what was measured costs its measured time, and
the rest costs less than the model's guess, the less certain the guess the lower. A plan that is
best for such prices tries what might pay off and nothing else. Later variants do not repeat what an
earlier one tries. Operators without any measurement get random prices, so that variants differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from planner.files.lowered import graphs_of
from planner.measured.calls import Call, GraphCall, Place, calls_of
from planner.measured.costs import DeviceTimes, LearnedCosts, MeasuredSource
from planner.measured.pricing import priced_total
from planner.measured.timemodel import Labels, Prediction, TimeModel, counted_domains, labels_of
from planner.options import PlanOptions
from planner.pipelines.lowered import replan
from schema import CostOrigin, VkGraph
from schema.frozen import frozen

OPTIMISM: Final = 0.5
"""Standard errors by which unmeasured times are taken to be faster than the guess."""

CERTAINTY: Final = 2.0
"""Standard errors beyond which no time is thought to be: 95 of 100 are within."""

_UNKNOWN_NS_PER_BYTE: Final = 0.1
_UNKNOWN_SPREAD: Final = 1.0
_TRIED: Final = 1.0


Tried = tuple[Call, Labels]
"""A call and the representations of its operands."""


@frozen
class Trial:
    """A call in representations not measured yet; ns by the best guess, and at the least."""

    delegate: int
    call: GraphCall
    guess: float
    least: float


@frozen
class Variant:
    """A program to measure, and its predicted times.

    ``predicted`` are the predicted ns of an inference, operators and transitions. ``saving`` is
    how many ns less it may take, at best, than the best known plan; None where nothing was measured
    yet. ``untried`` are the calls that no run and no earlier variant has in these representations,
    the least certain first.
    """

    program: bytes = field(repr=False)
    graphs: tuple[VkGraph, ...] = field(repr=False)
    transitions: int
    predicted: float
    saving: float | None
    untried: tuple[Trial, ...]


class HopefulModel:
    """Optimistic prices, for calls that are neither measured nor ``tried``."""

    def __init__(
        self,
        model: TimeModel,
        tried: Iterable[Tried],
        seed: int,
        optimism: float = OPTIMISM,
        caution: float = _TRIED,
    ) -> None:
        """``optimism`` are the standard errors by which times are less than the guess.

        Those of what was tried are more than it, by ``caution``.
        """
        self.model, self.optimism, self.caution = model, optimism, caution
        self.tried: dict[Call, set[Labels]] = {}
        for call, labels in tried:
            self.tried.setdefault(call, set()).add(labels)
        self.seed = seed

    def knows(self, operator: str) -> bool:
        """Always true: it has a price for every operator."""
        return True

    def predict(
        self, call: Call, places: Sequence[Place], domains: Sequence[Sequence[int]]
    ) -> Prediction:
        """Times in ns: low ones for untried calls, the model's own for the rest."""
        if self.model.knows(call.operator):
            hopeful = self.model.predict(call, places, domains, -self.optimism)
            careful = self.model.predict(call, places, domains, self.caution).ns
        else:
            hopeful = self._drawn(call, places, domains)
            careful = hopeful.ns * np.exp(2 * _UNKNOWN_SPREAD)
        tried = self.tried.get(call)
        if not tried:
            return hopeful
        ns = hopeful.ns.copy()
        for index in np.ndindex(*ns.shape):
            labels = tuple((p, d[i]) for p, d, i in zip(places, domains, index, strict=True))
            if labels in tried:
                ns[index] = careful[index]
        return replace(hopeful, ns=ns)

    def _drawn(
        self, call: Call, places: Sequence[Place], domains: Sequence[Sequence[int]]
    ) -> Prediction:
        key = f"{self.seed} {call.operator} {call.signature} {places} {domains}".encode()
        random = np.random.default_rng(list(hashlib.sha256(key).digest()))
        shape = [len(domain) for domain in domains]
        ns = call.work[0] * _UNKNOWN_NS_PER_BYTE
        drawn: NDArray[np.float64] = ns * np.exp(_UNKNOWN_SPREAD * random.standard_normal(shape))
        return Prediction(drawn, np.full(shape, CostOrigin.MODELLED, np.int8))


def explore(
    program: bytes,
    name: str,
    options: PlanOptions,
    count: int,
    seed: int = 0,
    optimism: float = OPTIMISM,
) -> Iterator[Variant]:
    """At most ``count`` variants of a lowered program; fewer once no other would try anything new.

    The more ``optimism``, in standard errors, the more is tried that is less likely to pay. If
    nothing was measured yet, the first one is the program with its present layouts. Raises the
    errors of ``replan``.
    """
    source = options.costs
    if not isinstance(source, MeasuredSource):
        source = MeasuredSource(DeviceTimes.of("", ()), source.profile)
    options, times = replace(options, costs=source, objective="latency"), source.times
    is_first = not times.model.drift
    costs = options.cost_model()
    best = replan(program, name, options).program.total.objective_cost
    tried: set[Tried] = set()
    for number in range(count):
        prices = HopefulModel(times.model, tried, seed + number, optimism)
        hopeful = LearnedCosts(times, options.profile, "latency", prices)
        variant = program
        if not is_first or number:
            variant = replan(program, name, options, chooser=hopeful).data
        graphs = tuple(graphs_of(variant, name))
        untried = _untried(graphs, times.model, hopeful, tried)
        if number and not untried:
            return
        tried |= untried.keys()
        yield Variant(
            program=variant,
            graphs=graphs,
            transitions=sum(call.is_transition for graph in graphs for call in calls_of(graph)),
            predicted=priced_total(graphs, costs, options.profile),
            saving=None if is_first else best - priced_total(graphs, hopeful, options.profile),
            untried=tuple(sorted(untried.values(), key=lambda trial: trial.least - trial.guess)),
        )


def is_settled(program: bytes, name: str, options: PlanOptions, seed: int = 0) -> bool:
    """Whether no plan is faster than the best known one, whatever was not measured takes.

    That is within two standard errors of the guesses: what the best plan has of these calls takes
    as long as it may, and what others have as little. Raises the errors of ``replan``.
    """
    source = options.costs
    if not isinstance(source, MeasuredSource) or not source.times.model.drift:
        return False
    model = source.times.model
    best = tuple(graphs_of(replan(program, name, options).data, name))
    own = {
        (call.call, labels)
        for graph in best
        for call in calls_of(graph)
        if (labels := labels_of(call.operands)) not in model.measured(call.call)
    }
    doubts = HopefulModel(model, own, seed, CERTAINTY, CERTAINTY)
    prices = LearnedCosts(source.times, options.profile, "latency", doubts)
    other = tuple(graphs_of(replan(program, name, options, chooser=prices).data, name))
    least, ns = (priced_total(graphs, prices, options.profile) for graphs in (other, best))
    return ns <= least


def _untried(
    graphs: Sequence[VkGraph], model: TimeModel, costs: LearnedCosts, tried: set[Tried]
) -> dict[Tried, Trial]:
    found: dict[Tried, Trial] = {}
    for delegate, graph in enumerate(graphs):
        for call in calls_of(graph):
            labels = labels_of(call.operands)
            key = call.call, labels
            # What has no choice is the same in every plan.
            if not labels or key in tried or key in found or labels in model.measured(call.call):
                continue
            places, domains = counted_domains(call.operands)
            least = float(costs.model.predict(call.call, places, domains).ns.flat[0])
            guess = least
            if model.knows(call.call.operator):
                guess = float(model.predict(call.call, places, domains, 0.0).ns.flat[0])
            found[key] = Trial(delegate, call, guess, least)
    return found
