"""Variants that are worth measuring: what they try, their folder, and what comes back of it."""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from api.bench.nets import small_net
from planner.errors import InputError
from planner.files.lowered import graphs_of
from planner.measured.calls import Call, calls_of
from planner.measured.costs import DeviceTimes, LearnedCosts, MeasuredSource
from planner.measured.join import Sample
from planner.measured.pricing import price_graph, priced_total
from planner.measured.timemodel import Prediction, TimeModel, counted_domains, labels_of
from planner.options import PlanOptions
from planner.pipelines.lowered import replan
from planner.tuning.folder import MANIFEST, exploration_files, read_exploration
from planner.tuning.simulation import RandomCosts, RecordedTimes, SimulatedDevice
from planner.tuning.variants import HopefulModel, Variant, explore, is_settled
from schema import CostOrigin, Status, VkGraph
from tests.paths import PROFILES

OPTIONS = PlanOptions(objective="latency")


@pytest.fixture(scope="module")
def program() -> bytes:
    return lzma.decompress((PROFILES / "mv2_xs_int8_greedy.vkgraph.xz").read_bytes())


def graphs(data: bytes) -> tuple[VkGraph, ...]:
    return tuple(graphs_of(data, "graph"))


class Bytes:
    """What calls take on a made-up device: bytes, more or less by the representations."""

    @staticmethod
    def weight(label: int) -> int:
        """How slow a representation is: an order that no other price has."""
        return 7 * label % 11

    def run(self, data: bytes) -> tuple[Sample, ...]:
        return tuple(
            Sample(
                call.call,
                call.operands,
                ("kernel",),
                call.call.work[0]
                * (1 + sum(self.weight(label) for _, label in labels_of(call.operands))),
                0.0,
                5,
            )
            for graph in graphs(data)
            for call in calls_of(graph)
        )


@pytest.fixture(scope="module")
def times(program: bytes) -> DeviceTimes:
    return DeviceTimes.of("made up", [Bytes().run(program)])


def options(times: DeviceTimes) -> PlanOptions:
    return PlanOptions(MeasuredSource(times, OPTIONS.profile), "latency")


def tried(variant: Variant) -> set[object]:
    return {(trial.call.call, labels_of(trial.call.operands)) for trial in variant.untried}


@pytest.mark.slow
def test_with_nothing_measured_the_first_is_the_program_itself(program: bytes) -> None:
    first, second, third = explore(program, "graph", OPTIONS, 3)
    assert first.program == program
    assert first.saving is None and second.saving is None
    assert len({first.program, second.program, third.program}) == 3
    assert tried(second).isdisjoint(tried(first))
    assert tried(third).isdisjoint(tried(first) | tried(second))
    assert min(len(v.untried) for v in (first, second, third)) > 50


@pytest.mark.slow
def test_the_seed_draws(program: bytes) -> None:
    (_, a), (_, again), (_, b) = (list(explore(program, "g", OPTIONS, 2, s)) for s in (1, 1, 2))
    assert a.program == again.program != b.program


def test_variants_try_what_was_not_measured(program: bytes, times: DeviceTimes) -> None:
    variants = list(explore(program, "graph", options(times), 3))
    before: set[object] = set()
    for variant in variants:
        assert variant.untried
        assert tried(variant).isdisjoint(before)
        before |= tried(variant)
        for trial in variant.untried:
            labels = labels_of(trial.call.operands)
            assert labels not in times.model.measured(trial.call.call)
            assert trial.least <= trial.guess
    # The first is the best plan for prices that are none above the careful ones.
    assert variants[0].saving is not None and variants[0].saving >= 0


def test_a_variant_tells_its_own_cost(program: bytes, times: DeviceTimes) -> None:
    own = options(times)
    best = replan(program, "graph", own).program.total
    drawn = replan(program, "graph", own, chooser=RandomCosts(3)).program.total
    assert best.status is Status.OPTIMAL
    assert drawn.status is Status.FEASIBLE
    assert drawn.objective_cost > best.objective_cost == drawn.bound
    same = replan(program, "graph", own, chooser=own.cost_model()).program.total
    assert same == best


def test_hopeful_prices(program: bytes, times: DeviceTimes) -> None:
    (graph,) = graphs(program)
    call = next(c for c in calls_of(graph) if len(c.operands) > 1)
    places, own = counted_domains(call.operands)
    domains = tuple(tuple(range(4)) if label < 4 else tuple(range(4, 9)) for (label,) in own)
    guess = times.model.predict(call.call, places, domains, 0.0)
    hopeful = HopefulModel(times.model, [], 0).predict(call.call, places, domains)
    measured = guess.origin == CostOrigin.MEASURED
    assert measured.any() and not measured.all()
    assert np.array_equal(hopeful.ns[measured], guess.ns[measured])
    assert (hopeful.ns[~measured] < guess.ns[~measured]).all()
    index = tuple(np.argwhere(~measured)[0])
    labels = tuple((p, d[i]) for p, d, i in zip(places, domains, index, strict=True))
    again = HopefulModel(times.model, [(call.call, labels)], 0)
    retried = again.predict(call.call, places, domains).ns
    assert retried[index] > guess.ns[index]
    retried[index] = hopeful.ns[index]
    assert np.array_equal(retried, hopeful.ns)


@pytest.mark.slow
def test_rounds_lead_to_the_best_plan(program: bytes) -> None:
    """A device that nothing is known of but by its runs; noise of the runs left out."""
    runs = [
        Bytes().run(replan(program, "g", OPTIONS, chooser=RandomCosts(s)).data) for s in range(3)
    ]
    times = RecordedTimes([Bytes().run(program), *runs], 5)
    device = SimulatedDevice(times, 5, 0.0, 0.0)
    empty = DeviceTimes.of("", ())
    truth = LearnedCosts(empty, OPTIONS.profile, "latency", times)

    def takes(data: bytes) -> int:
        return sum(priced.cost for graph in graphs(data) for priced in price_graph(graph, truth))

    least = takes(replan(program, "graph", options(empty), chooser=truth).data)
    measured = [device.run(graphs(program))]
    found = [takes(replan(program, "graph", options(DeviceTimes.of("", measured))).data)]
    for _ in range(3):
        known = options(DeviceTimes.of("", measured))
        measured += [device.run(v.graphs) for v in explore(program, "graph", known, 2)]
        found.append(takes(replan(program, "graph", options(DeviceTimes.of("", measured))).data))
    assert least <= min(found)
    assert found[-1] <= 1.02 * least < found[0]


class Doubtful:
    """The times of a model; what was not measured takes anything within two standard errors."""

    def __init__(self, model: TimeModel, seed: int) -> None:
        self.model, self.seed = model, seed

    def knows(self, operator: str) -> bool:
        return self.model.knows(operator)

    def predict(
        self, call: Call, places: Sequence[str], domains: Sequence[Sequence[int]]
    ) -> Prediction:
        low, high = (self.model.predict(call, places, domains, e) for e in (-2.0, 2.0))
        key = f"{self.seed} {call} {places} {domains}".encode()
        random = np.random.default_rng(list(hashlib.sha256(key).digest()))
        # Ends are met as well as what is between.
        part = random.integers(0, 2, low.ns.shape) * random.choice([0.5, 1.0], low.ns.shape)
        return Prediction(low.ns + (high.ns - low.ns) * part, low.origin)


def test_a_plan_that_is_settled_stays_the_best() -> None:
    program = small_net(0)
    assert not is_settled(program, "graph", OPTIONS)
    measured, states = [Bytes().run(program)], []
    for _ in range(9):
        known = options(DeviceTimes.of("", measured))
        states.append(is_settled(program, "graph", known))
        if states[-1]:
            break
        measured += [
            Bytes().run(v.program) for v in explore(program, "graph", known, 3, optimism=2.0)
        ]
    assert states[-1] and not states[0]
    source = known.costs
    assert isinstance(source, MeasuredSource)
    best = graphs(replan(program, "graph", known).data)
    for seed in range(12):
        doubtful = Doubtful(source.times.model, seed)
        costs = LearnedCosts(source.times, OPTIONS.profile, "latency", doubtful)
        other = graphs(replan(program, "graph", known, chooser=costs).data)
        profile = OPTIONS.profile
        assert priced_total(best, costs, profile) <= priced_total(other, costs, profile)


def test_noise_of_a_simulated_device(program: bytes) -> None:
    run = Bytes().run(program)
    times = RecordedTimes([run], 1)
    quiet, again = (SimulatedDevice(times, 1, 0.0, 0.0) for _ in range(2))
    taken = quiet.run(graphs(program))
    assert taken == again.run(graphs(program))
    assert [s.median for s in taken] == pytest.approx([s.median for s in run])
    loud = SimulatedDevice(times, 1, 0.3, 0.0).run(graphs(program))
    ratios = {round(a.median / b.median, 9) for a, b in zip(loud, taken, strict=True)}
    assert len(ratios) == 1 and ratios != {1.0}
    other = SimulatedDevice(RecordedTimes([run], 2), 2, 0.0, 0.0)
    drawn = replan(program, "g", OPTIONS, chooser=RandomCosts(0)).data
    assert [s.median for s in other.run(graphs(drawn))] != [
        s.median for s in quiet.run(graphs(drawn))
    ]


@pytest.fixture
def folder(program: bytes, tmp_path: Path) -> Path:
    variants = list(explore(program, "graph", OPTIONS, 2))
    for name, data in exploration_files(variants, "graph", program, OPTIONS, 0).items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_the_folder_is_read_back(folder: Path, program: bytes) -> None:
    first, second = read_exploration(folder)
    assert first.program == program
    assert (first.name, first.etdump_name) == ("variant-1.pte", "variant-1.etdump")
    assert first.etdump is None and second.etdump is None
    (folder / second.etdump_name).write_bytes(b"measured")
    assert read_exploration(folder)[1].etdump == b"measured"
    manifest = json.loads((folder / MANIFEST).read_text())
    for variant in manifest["variants"]:
        assert variant["untried"] >= len(variant["untried_calls"]) > 0
        assert variant["predicted_ns"] > 0


def test_folders_that_are_not_an_exploration(folder: Path) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    with pytest.raises(InputError, match=r"cannot read .*name a folder that 'explore' wrote"):
        read_exploration(folder / "nothing")
    for text in ("", "[]", "{}", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(InputError, match=r"manifest\.json is damaged"):
            read_exploration(folder)
    for changed in ({"version": 2}, {"format": "another"}):
        path.write_text(json.dumps(manifest | changed))
        with pytest.raises(InputError, match="is not a manifest of this release"):
            read_exploration(folder)
    variant = manifest["variants"][0]
    for name in ("../variant-1.pte", "/etc/passwd", 7, ""):
        path.write_text(json.dumps(manifest | {"variants": [variant | {"program": name}]}))
        with pytest.raises(InputError, match="is not a file name"):
            read_exploration(folder)
    path.write_text(json.dumps(manifest))
    (folder / "variant-2.pte").write_bytes(b"another")
    with pytest.raises(InputError, match=r"variant-2\.pte is not the program"):
        read_exploration(folder)
    (folder / "variant-2.pte").unlink()
    with pytest.raises(InputError, match="cannot read"):
        read_exploration(folder)
