"""Which operands make a program bad: minimal sets of them, and programs that are mixed."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from planner.ir.representation import REPRS
from planner.kernels.faults import parse_faults
from planner.pipelines.lowered import replan
from planner.tuning.bisection import Suspect, culprits, mixed, rows_of, suspects
from planner.tuning.simulation import RandomCosts
from tests.planner.tuning.devices import OPTIONS, program


def suspect(number: int) -> Suspect:
    return Suspect("aten.relu.default", REPRS[0], (("argument", number),))


@given(
    st.integers(1, 40).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1, max_size=3))
    )
)
@settings(max_examples=300)
def test_those_that_are_needed_are_found_and_no_others(case: tuple[int, set[int]]) -> None:
    number, guilty = case
    found = [suspect(i) for i in range(number)]
    asked: list[Sequence[Suspect]] = []

    def is_bad(some: Sequence[Suspect]) -> bool:
        asked.append(some)
        return {found[i] for i in guilty} <= set(some)

    assert set(culprits(found, is_bad)) == {found[i] for i in guilty}
    if len(guilty) == 1:
        assert len(asked) <= 2 * number.bit_length() + 2


def test_a_program_without_suspects_has_no_culprit() -> None:
    assert culprits((), lambda some: True) == ()


def test_a_program_is_mixed_of_two() -> None:
    base = program()
    other = replan(base, "graph", OPTIONS, chooser=RandomCosts(1)).data
    differ = suspects(base, other, "graph")
    assert len(differ) > 2
    assert suspects(base, base, "graph") == ()
    assert suspects(base, mixed(base, other, "graph", OPTIONS, ()), "graph") == ()
    assert suspects(other, mixed(base, other, "graph", OPTIONS, differ), "graph") == ()
    (one, *_) = differ
    assert one.operands == (("argument", 0), ("output", 0))
    assert suspects(base, mixed(base, other, "graph", OPTIONS, [one]), "graph") == (one,)


def test_rows_are_a_table_of_faults() -> None:
    rows = rows_of([suspect(0)], "wrong values", "tuning on a phone", "off by 0.5")
    (row,) = parse_faults(json.dumps(rows), "avoid.json").rows
    assert row.operators == ("aten.relu.default",) and row.operands == (("argument", 0),)
    assert REPRS[0] in row.representations and row.effect == "wrong values"
