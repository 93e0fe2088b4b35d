"""Parts of all choices and their bounds, against brute force."""

from __future__ import annotations

from math import inf

import numpy as np

from solver.branches import Branches
from solver.relaxation import Program, _Model
from tests.solver.nets import Net, go_on


def begun(net: Net) -> tuple[Program, Branches] | None:
    """The program of a net and its parts, if it is possible."""
    program = Program(_Model(net.nodes, net.sizes, net.tables))
    if not program.is_possible or not program.solve(inf, inf, go_on):
        return None
    return program, Branches(program)


def offered(net: Net, branches: Branches) -> float:
    """The least cost of the values that are new."""
    costs = [net.cost([found[v] for v in net.nodes]) for found in branches.taken()]
    return float(min(costs, default=inf))


def test_bounds_rise_to_the_optimum() -> None:
    splits = raised = impossible = 0
    for seed in range(150):
        net = Net(seed, lexicographic=False, forbid=0.2 * (seed % 2))
        best = net.best()
        start = begun(net)
        if start is None:
            impossible += best is None
            continue
        _, branches = start
        least = offered(net, branches)
        first = branches.bound
        while True:
            # The bound holds for all choices but those that were found.
            assert min(branches.bound, least) <= (inf if best is None else best)
            if not branches.bound < least or not branches.split(inf, inf, go_on):
                break
            splits += 1
            least = min(least, offered(net, branches))
        assert (None if np.isinf(least) else least) == best
        raised += branches.bound > first
    assert splits > 90
    assert raised > 30
    assert impossible > 4


def test_bounds_of_parts_are_exact_whatever_the_duals_are() -> None:
    drawn = np.random.default_rng(4)
    tight = 0
    for seed in range(30):
        net = Net(seed, lexicographic=False, forbid=0.0)
        program = Program(_Model(net.nodes, net.sizes, net.tables))
        left = {v: {int(drawn.integers(net.sizes[v]))} for v in net.nodes[::2]}
        program.narrow(left)
        assert program.solve(inf, inf, go_on)
        costs = [
            net.cost(values)
            for values in net.assignments()
            if all(values[v] in own for v, own in left.items())
        ]
        assert program.bound() <= min(costs)
        tight += program.bound() == min(costs)
        assert {v: set(shares) for v, shares in program.shares().items() if v in left} == left
    assert tight > 10


def test_a_part_that_was_not_solved_keeps_the_bound() -> None:
    kept = 0
    for seed in range(40):
        start = begun(Net(seed, lexicographic=False, forbid=0.0))
        assert start is not None
        _, branches = start
        before = branches.bound
        if np.isinf(before):
            continue
        assert not branches.split(0.0, inf, go_on)
        assert branches.bound == before
        assert not branches.split(inf, inf, go_on)
        kept += 1
    assert kept > 20
