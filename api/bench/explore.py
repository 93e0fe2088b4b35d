"""How many rounds of measuring lead to the best plan: chosen variants against random ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from api.bench.profiles import recorded
from api.terminal.markdown import head, print_and_write, row
from planner.costs.profile import DeviceProfile
from planner.files.lowered import graphs_of
from planner.measured.costs import DeviceTimes, LearnedCosts, MeasuredSource
from planner.measured.join import Sample
from planner.measured.pricing import price_graph
from planner.options import PlanOptions
from planner.pipelines.lowered import replan
from planner.tuning.corpus import Recording
from planner.tuning.simulation import RandomCosts, RecordedTimes, SimulatedDevice
from planner.tuning.variants import explore
from schema import VkGraph

_CLOSE: Final = 1.02
_STARTS_FROM: Final = "greedy"
_RUN_NOISE: Final = 0.08
_STEP_NOISE: Final = 0.10


def exploring(
    folder: Path | None,
    profile: DeviceProfile,
    count: int,
    rounds: int,
    seeds: int,
    output: Path | None,
) -> None:
    """Explores simulated devices that are made from recorded runs, and prints Markdown.

    Raises ``InputError`` for a folder without recorded runs.
    """
    lines = [
        f"Each round measures {count} variants. Figures are true times of the plan for the least "
        f"time by what was measured so far, over the least possible: the median of {seeds} "
        f"simulated devices, and the worst. Runs are noisy: {_RUN_NOISE:.0%} as a whole and "
        f"{_STEP_NOISE:.0%} a step. The first run is that of ExecuTorch's own plan."
    ]
    for model, recordings in recorded(folder).items():
        lines += ["", f"## {model}", "", *_model(recordings, profile, count, rounds, seeds)]
    print_and_write("\n".join(lines) + "\n", output)


def _model(
    recordings: Sequence[Recording], profile: DeviceProfile, count: int, rounds: int, seeds: int
) -> Iterator[str]:
    runs = [recording.join().samples for recording in recordings]
    first = next((r for r in recordings if r.plan == _STARTS_FROM), recordings[0])
    found = {}
    for name, is_random in (("chosen", False), ("random", True)):
        found[name] = np.array(
            [
                list(
                    _Exploration(first.program, profile, runs, seed).rounds(
                        count, rounds, is_random
                    )
                )
                for seed in range(seeds)
            ]
        )
    yield from head(["variants", *(f"after {r}" for r in range(rounds + 1)), "rounds to 2 %"])
    for name, ratios in found.items():
        cells = [f"{np.median(column):.3f}, {column.max():.3f}" for column in ratios.T]
        yield row([name, *cells, _rounds_to(ratios)])


def _rounds_to(ratios: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> str:
    """The round after which a plan is close to the best, and stays there: median, and worst."""
    needed = []
    for of_seed in ratios:
        far = np.nonzero(of_seed > _CLOSE)[0]
        needed.append(int(far[-1]) + 1 if far.size else 0)
    never = ratios.shape[1]

    def text(n: float) -> str:
        return f"more than {never - 1}" if n >= never else f"{n:g}"

    return f"{text(float(np.median(needed)))}, {text(max(needed))}"


@dataclass(frozen=True, slots=True)
class _Exploration:
    program: bytes
    profile: DeviceProfile
    runs: Sequence[Sequence[Sample]]
    seed: int

    def rounds(self, count: int, rounds: int, is_random: bool) -> Iterator[float]:
        """The true time of the plan before the first round and after each, over the least."""
        times = RecordedTimes(self.runs, self.seed)
        device = SimulatedDevice(times, self.seed, _RUN_NOISE, _STEP_NOISE)
        empty = DeviceTimes.of("", ())
        truth = LearnedCosts(empty, self.profile, "latency", times)

        def true_time(graphs: Sequence[VkGraph]) -> int:
            return sum(p.cost for graph in graphs for p in price_graph(graph, truth))

        least = true_time(
            self._graphs(replan(self.program, "", self._options(empty), chooser=truth).data)
        )
        measured = [device.run(self._graphs(self.program))]
        for number in range(rounds + 1):
            options = self._options(DeviceTimes.of("", measured))
            yield true_time(self._graphs(replan(self.program, "", options).data)) / least
            if number == rounds:
                return
            seed = (self.seed * rounds + number) * count
            if is_random:
                programs = [
                    replan(self.program, "", options, chooser=RandomCosts(seed + i)).data
                    for i in range(count)
                ]
            else:
                programs = [v.program for v in explore(self.program, "", options, count, seed)]
            measured += [device.run(self._graphs(program)) for program in programs]

    def _graphs(self, program: bytes) -> tuple[VkGraph, ...]:
        return tuple(graphs_of(program, ""))

    def _options(self, times: DeviceTimes) -> PlanOptions:
        return PlanOptions(MeasuredSource(times, self.profile), "latency")
