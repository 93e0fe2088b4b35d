"""The field's formats: there and back, and read by toulbar2 with the same optimum."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest

from solver import (
    FORBIDDEN,
    CostTable,
    InfeasibleError,
    Problem,
    ProblemError,
    SharedCopies,
    Variable,
    solve,
)
from solver.__main__ import main
from solver.formats import SUFFIXES, network, read_problem, write_problem
from tests.solver.problems import brute_force, random_net, random_problem

EXACT = (".cfn", ".wcsp", ".lg")


def weights_of(problem: Problem) -> tuple[int, ...]:
    return network.folded(problem).weights


def folded(problem: Problem, cost: Sequence[int]) -> int:
    return sum(w * c for w, c in zip(weights_of(problem), cost, strict=True))


def folded_optimum(problem: Problem) -> int | None:
    best = brute_force(problem)
    return None if best is None else folded(problem, best)


def write(problem: Problem, path: Path) -> bool:
    """Write a problem, unless its costs are below 0 and its format has none that are."""
    try:
        write_problem(problem, path)
    except ProblemError as error:
        assert path.suffix == ".wcsp"
        assert "no costs below 0" in str(error)
        return False
    return True


def optimum(problem: Problem) -> int | None:
    try:
        return solve(problem).cost[0]
    except InfeasibleError:
        return None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read_with_the_same_optimum(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"problem{suffix}"
    for seed in range(150):
        problem = random_problem(Random(seed), variables=4, labels=3)
        if write(problem, path):
            assert optimum(read_problem(path)) == folded_optimum(problem), seed


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tables_come_back_as_they_were(suffix: str, tmp_path: Path) -> None:
    costs = np.array([[[5, 3, FORBIDDEN], [9, 7, 123_456]]], np.int64)
    problem = Problem(
        3, 1, (Variable((0, 1), "a"), Variable((0, 1, 2), "b")), (CostTable((0, 1), costs),)
    )
    path = tmp_path / f"problem{suffix}"
    write_problem(problem, path)
    again = read_problem(path)
    assert [len(v.domain) for v in again.variables] == [2, 3]
    total = np.zeros_like(costs)
    for factor in again.factors:
        assert isinstance(factor, CostTable)
        if len(factor.scope) == 2:
            total = total + factor.costs
        else:
            assert factor.scope == (0,)
            total = total + factor.costs[:, :, None]
    assert np.array_equal(np.minimum(total, FORBIDDEN - 3), np.minimum(costs, FORBIDDEN - 3))
    write_problem(again, path)
    text = path.read_text()
    write_problem(read_problem(path), path)
    assert optimum(read_problem(path)) == 3
    assert suffix in (".cfn", ".wcsp") or path.read_text() == text


@pytest.mark.parametrize("suffix", EXACT)
def test_large_integers_are_exact(suffix: str, tmp_path: Path) -> None:
    costs = np.array([[2**52 - 3, 2**52 - 2]], np.int64)
    problem = Problem(2, 1, (Variable((0, 1)),), (CostTable((0,), costs),))
    path = tmp_path / f"problem{suffix}"
    write_problem(problem, path)
    assert optimum(read_problem(path)) == 2**52 - 3


REFEREE = """
import json, sys
from pytoulbar2 import CFN
for path in sys.argv[1:]:
    referee = CFN()
    try:
        referee.Read(path)
        found = referee.Solve()
    except Exception:  # a contradiction that it meets while it reads
        found = None
    print("FOUND", json.dumps(found[:2] if found else None))
"""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_toulbar2_finds_the_same_optimum(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of UAI it tells the cost less that of the largest potentials: assignments are compared.

    What UAI forbids it does not add up rightly beside tables over four variables (1.4.0.1), so
    that there copies are written as variables.
    """
    pytest.importorskip("pytoulbar2")
    if suffix in (".uai", ".lg"):
        monkeypatch.setattr(network, "DENSE_LIMIT", 1)
    problems: list[tuple[Problem, int | None]] = []
    paths = []
    for seed in range(60):
        problem = random_problem(Random(seed), variables=4, labels=3)
        path = tmp_path / f"{seed}{'.LG' if suffix == '.lg' else suffix}"
        if write(problem, path):
            problems.append((problem, folded_optimum(problem)))
            paths.append(str(path))
    done = subprocess.run(
        [sys.executable, "-c", REFEREE, *paths], capture_output=True, text=True, check=True
    )
    answers = [json.loads(x[6:]) for x in done.stdout.splitlines() if x.startswith("FOUND ")]
    for (problem, expected), found, name in zip(problems, answers, paths, strict=True):
        assert (found is None) == (expected is None), name
        if found is None or expected is None:
            continue
        values, told = found
        if suffix in (".cfn", ".wcsp"):
            assert round(told) == expected, name
        chosen = zip(problem.variables, values[: len(problem.variables)], strict=True)
        cost = problem.cost([variable.domain[value] for variable, value in chosen])
        assert cost is not None, name
        assert folded(problem, cost) == expected, name
    assert len(problems) > 20


def test_copies_with_large_tables_become_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "DENSE_LIMIT", 1)
    path = tmp_path / "problem.cfn"
    for seed in range(60):
        problem = random_problem(Random(seed), variables=4, labels=3)
        write_problem(problem, path)
        assert optimum(read_problem(path)) == folded_optimum(problem), seed


def test_levels_that_do_not_fit() -> None:
    costs = np.array([[0, 2**40], [0, 2**40]], np.int64)
    problem = Problem(2, 2, (Variable((0, 1)),), (CostTable((0,), costs),))
    with pytest.raises(ProblemError, match="2 levels do not fit into one integer of 53 bits"):
        network.folded(problem)
    assert network.folded(problem, 1).weights == (1,)
    with pytest.raises(ProblemError, match="it has 2 levels, not 3"):
        network.folded(problem, 3)


def test_a_net_of_three_levels(tmp_path: Path) -> None:
    problem = random_net(Random(3), 12, fan_out=3)
    best = solve(problem).cost
    for suffix in EXACT:
        path = tmp_path / f"net{suffix}"
        write_problem(problem, path)
        assert optimum(read_problem(path)) == folded(problem, best)
        write_problem(problem, path, levels=1)
        assert optimum(read_problem(path)) == best[0]


def test_costs_without_a_potential(tmp_path: Path) -> None:
    table = CostTable((0,), np.array([[0, 10**9]], np.int64))
    problem = Problem(2, 1, (Variable((0, 1)),), (table,))
    with pytest.raises(ProblemError, match="have no potential: write logarithms"):
        write_problem(problem, tmp_path / "problem.uai")


def read(tmp_path: Path, name: str, text: str) -> Problem:
    path = tmp_path / name
    path.write_text(text)
    return read_problem(path)


CFN = '{"problem": {"mustbe": "%s"}, "variables": {"a": 2, "b": ["x", "y"]}, "functions": %s}'


def test_what_others_write(tmp_path: Path) -> None:
    wcsp = read(tmp_path, "a.wcsp", "n 2 3 2 100\n2 3\n1 0 5 1\n1 0\n2 0 1 9 2\n0 2 1\n1 1 100\n")
    assert optimum(wcsp) == 5 + 1
    assert wcsp.cost((1, 1)) is None
    listed = read(
        tmp_path, "a.cfn", CFN % ("<9.5", '[{"scope": ["a", 1], "costs": [1.25, 9.5, 2, 3]}]')
    )
    assert optimum(listed) == 125
    assert listed.cost((0, 1)) is None
    sparse = '{"f": {"scope": ["a", "b"], "defaultcost": 4, "costs": ["1", "y", -2]}}'
    with pytest.raises(ProblemError):
        read(tmp_path, "a.cfn", CFN % ("<9", sparse.replace("-2", '"z"')))
    assert optimum(read(tmp_path, "a.cfn", CFN % ("<9", sparse.replace('"1"', "1")))) == -2
    uai = read(tmp_path, "a.uai", "BAYES\n1\n2\n1\n1 0\n2\n0.25 0.75\n")
    assert optimum(uai) == round(-math.log(0.75) * 1e6)
    logs = read(tmp_path, "a.LG", "MARKOV\n1\n2\n1\n1 0\n2\n-0.5 -inf\n")
    assert optimum(logs) == 500_000


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "has to end in one of"),
        ("a.wcsp", "n 1 2 1 9", "ends too early"),
        ("a.wcsp", "n 1 2 1 9 2 1 0 x", "'x' is not an integer"),
        ("a.wcsp", "n 1 2 1 9 2 1 0 0 1 2 0", "tuple"),
        ("a.wcsp", "n 1 2 1 9 2 1 0 -1 salldiff", "global cost functions"),
        ("a.wcsp", "n 2 2 1 9 2 2 2 0 0 1 0", "different variables"),
        ("a.wcsp", "n 1 2 1 9 -2", "interval"),
        ("a.wcsp", "n 0 0 0 9", "no variables"),
        ("a.cfn", "{problem: 1}", "not strict JSON"),
        ("a.cfn", "{}", "not a cost function network"),
        ("a.cfn", CFN % (">9", "{}"), "not an upper bound"),
        ("a.cfn", CFN % ("<9", '[{"scope": ["a"], "costs": [1]}]'), "1 of 2 costs"),
        ("a.cfn", CFN % ("<9", '[{"scope": ["a"], "type": "salldiff"}]'), "global cost functions"),
        ("a.uai", "1 2", "does not begin with MARKOV"),
        ("a.uai", "MARKOV 1 2 1 1 0 3 1 1 1", "of 2 numbers"),
        ("a.uai", "MARKOV 1 2 1 1 0 2 1 -1", "below 0"),
        ("a.uai", "MARKOV 1 2 1 1 0 2 1 x", "is wrong"),
        ("a.lg", "MARKOV 1 2 1 1 0 2 1 inf", "not finite"),
    ],
)
def test_files_that_are_refused(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=message):
        read(tmp_path, name, text)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = np.array([[[0, 3], [4, 0]]], np.int64)
    wants = CostTable((1,), np.array([[9, 0]], np.int64))
    path, other = tmp_path / "a.cfn", tmp_path / "b.wcsp"
    hates = CostTable((0,), np.array([[0, 8]], np.int64))
    both = (Variable((0, 1)), Variable((0, 1)))
    problem = Problem(2, 1, both, (SharedCopies(0, (1,), prices), wants, hates))
    write_problem(problem, path)
    assert main(["convert", str(path), str(other)]) == 0
    for more in ([], ["--prove"]):
        assert main(["solve", str(other), *more]) == 0
        assert capsys.readouterr().out == "optimal: cost 3, bound 3\n0 1\n"
    never = CostTable((0,), np.full((1, 2), FORBIDDEN, np.int64))
    write_problem(Problem(2, 1, both, (never,)), path)
    assert main(["solve", str(path)]) == 1
    assert "infeasible" in capsys.readouterr().out
    assert main(["solve", str(tmp_path / "c.cfn")]) == 2
    assert main(["convert", str(path), str(tmp_path / "c.txt")]) == 2
    assert capsys.readouterr().err.count("Error: ") == 2
