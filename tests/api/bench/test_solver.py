"""The race of solvers: all find what brute force does, and what is worse is said."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
from click.testing import CliRunner

from api.bench import instances, solver
from api.bench.instances import Instance, drawn, grid, priced, recurrent, regular, tree
from api.bench.pbqp import Pbqp
from api.bench.referees import PARTS, SOLVERS, Found, Run, run
from api.bench.solver import beaten, summary
from api.cli import main
from solver import FORBIDDEN, Problem, solve
from tests.solver.problems import brute_force, random_problem

TINY = Instance("tiny", priced(grid(2, 3), 3, "copies", Random(1)))


def _solvable(count: int) -> list[tuple[Problem, int]]:
    """Those of so many drawn problems that have a solution, with the least first level."""
    drawn_ = (random_problem(Random(seed)) for seed in range(count))
    found = ((problem, brute_force(problem)) for problem in drawn_)
    return [(problem, best[0]) for problem, best in found if best is not None]


@pytest.mark.parametrize("name", [*(name for name in SOLVERS if name != "PBQP"), *PARTS])
def test_each_finds_the_least_first_level(name: str) -> None:
    solver = {**SOLVERS, **PARTS}[name]
    problems = _solvable(25)
    assert len(problems) > 10
    for problem, best in problems:
        assert solver(problem, 5.0) == Found(best, best), problem


def test_a_heuristic_finds_no_less_and_says_when_it_is_exact() -> None:
    exact = 0
    for problem, best in _solvable(200):
        found = SOLVERS["PBQP"](problem, 1.0)
        assert found.value is None or found.value >= best
        assert found.bound in (None, best)
        exact += found.is_proven
    assert exact > 20


def _square() -> Pbqp:
    """Four variables in a square, each with two neighbours, which like to differ."""
    square = Pbqp([2, 2, 2, 2])
    for v, u in ((0, 1), (1, 2), (2, 3), (3, 0)):
        square.add((v, u), np.array([[5.0, 1.0], [1.0, 5.0]]))
    square.add((0,), np.array([3.0, 0.0]))
    return square


@pytest.mark.parametrize("late", [False, True])
def test_pairs_are_eliminated_exactly(late: bool) -> None:
    assert _square().solve(late) == ([1, 0, 1, 0], True)
    # All of three must be equal: a table of three is a variable of its entries.
    three = Pbqp([2, 2, 2])
    table = np.full((2, 2, 2), np.inf)
    table[0, 0, 0], table[1, 1, 1] = 7.0, 4.0
    three.add((0, 1, 2), table)
    assert three.solve(late) == ([1, 1, 1, 1], True)


def test_choices_are_made_at_once_or_last() -> None:
    def crossed(likes: Sequence[float], differs: Sequence[float]) -> Pbqp:
        """Four variables that all know each other: what label 1 costs, and what differing does."""
        net = Pbqp([2, 2, 2, 2])
        for v, cost in enumerate(likes):
            net.add((v,), np.array([0.0, cost]))
        for (u, v), cost in zip(itertools.combinations(range(4), 2), differs, strict=True):
            net.add((u, v), np.array([[0.0, cost], [cost, 0.0]]))
        return net

    # The first variable leaves first. Here it is best to follow what it likes, at once ...
    likes, differs = (-1, 0, 0, 0), (1, 0, 0, -1, 0, 0)
    assert crossed(likes, differs).solve(late=False) == ([1, 1, 0, 0], False)
    assert crossed(likes, differs).solve(late=True) == ([0, 0, 1, 0], False)
    # ... and here to wait for what the others do.
    likes, differs = (0, 0, 1, -1), (2, 0, -1, -1, 1, 0)
    assert crossed(likes, differs).solve(late=False) == ([0, 0, 0, 1], False)
    assert crossed(likes, differs).solve(late=True) == ([1, 1, 0, 1], False)


def test_what_is_better_is_said() -> None:
    def ran(value: int | None, bound: int | None) -> Run:
        return Run(Found(value, bound), 0.1, 1.0)

    assert list(beaten({"ours": ran(5, 5), "a": ran(5, 5), "b": ran(7, 3), "c": None})) == []
    assert list(beaten({"ours": ran(9, 5), "a": ran(8, 4), "b": ran(None, 6)})) == [
        "a has the value 8 after 0.10 s, ours is 9 after 0.10 s",
        "b has the bound 6 after 0.10 s, ours is 5 after 0.10 s",
    ]
    assert list(beaten({"ours": None, "a": ran(8, None)})) == [
        "a has the value 8 after 0.10 s, ours is none"
    ]


def test_a_part_that_is_replaced_is_missed() -> None:
    problem = priced(grid(10, 20), 4, "copies", Random(3))
    assert PARTS["ours"](problem, 2.0).is_proven
    assert not PARTS["CP-SAT for the core"](problem, 0.5).is_proven


def test_a_process_of_its_own_says_what_it_took() -> None:
    found = run("ours", TINY.problem, 5.0)
    assert found.found.is_proven
    assert found.cpu_seconds >= 0
    assert found.megabytes > 1


def test_the_command_prints_a_row_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "drawn", lambda quick: iter([TINY]))
    file = tmp_path / "solver.md"
    result = CliRunner().invoke(main, ["bench", "solver", "--seconds", "1", "-o", str(file)])
    assert result.exit_code == 0, result.output
    best = solve(TINY.problem).cost[0]
    rows = [line for line in file.read_text().splitlines() if line.startswith("| tiny")]
    assert [row.split(" | ")[2:6] for row in rows] == [
        [name, f"{best:,}", f"{best:,}", "proven"] for name in SOLVERS
    ]
    assert "- nowhere" in file.read_text()
    assert "| ours | 1 of 1 | 1 of 1 |" in file.read_text()


def test_ours_is_run_again_beside_what_others_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solver, "drawn", lambda quick: [TINY])
    file = tmp_path / "solver.md"
    command = ["bench", "solver", "--seconds", "1", "-o", str(file), "--beside", str(file)]
    file.write_text(
        "| tiny | 1 | toulbar2 | -1,000 | none |  | 0.50 | 53 |\n"
        "| tiny | 1 | HiGHS |  |  |  | does not end |  |\n"
        "| tiny | 1 | CP-SAT | none | none |  | 1.24 | 160 |\n"
    )
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert "no run of PBQP for 1 s of tiny" in result.output
    with file.open("a") as table:
        table.write("| tiny | 1 | PBQP | 9,999 | none |  | 0.01 | 41 |\n")
    before = file.read_text().splitlines()
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    after = file.read_text().splitlines()
    assert [line for line in after if line.startswith("| tiny")][1:] == before
    assert "toulbar2 has the value -1,000 after 0.50 s, ours is" in file.read_text()


def test_a_summary_counts_proofs_and_best_values() -> None:
    def ran(value: int | None, bound: int | None) -> Run:
        return Run(Found(value, bound), 0.1, 1.0)

    races: list[dict[str, Run | None]] = [
        {"ours": ran(5, 5), "a": ran(6, 5), "b": None},
        {"ours": ran(7, 5), "a": ran(6, 4), "b": ran(6, 6)},
    ]
    assert list(summary({1.0: races}))[2:] == [
        "| ours | 1 of 2 | 1 of 2 |",
        "| a | 0 of 2 | 1 of 2 |",
        "| b | 1 of 2 | 1 of 2 |",
    ]


def test_drawn_problems_are_well_formed_and_the_same_again() -> None:
    first, again = list(drawn(quick=True)), list(drawn(quick=True))
    assert len({instance.name for instance in first}) == len(first)
    for a, b in zip(first, again, strict=True):
        a.problem.validate()
        labels = tuple(v.domain[0] for v in a.problem.variables)
        assert a.name == b.name
        assert a.problem.cost(labels) == b.problem.cost(labels)


def test_nets_have_the_edges_that_they_say() -> None:
    degrees = [0] * 20
    for edge in regular(20, 3, Random(1)):
        for v in edge:
            degrees[v] += 1
    assert degrees == [3] * 20
    assert len(grid(4, 5)) == 3 * 5 + 4 * 4
    assert len(tree(10, 3, Random(1))) == 3 + 3 * 7
    graph = recurrent(steps=3, width=8, layers=2)
    assert sum(operator.name.startswith("aten.split") for operator in graph.operators) == 6


def test_files_are_problems(tmp_path: Path) -> None:
    from api.bench.nets import small_net

    file = tmp_path / "net.vkgraph"
    file.write_bytes(small_net(1))
    (instance,) = instances.of_file(file)
    assert instance.name == "net"
    assert solve(instance.problem).cost[0] < FORBIDDEN
