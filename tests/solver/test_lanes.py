"""Packed numbers add and compare as the vectors that they hold."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from solver.lanes import Packed, pack, unpack
from solver.problem import FORBIDDEN, LIMIT, Costs, ProblemError
from tests.solver.problems import entry

SCALES = (1, 100, 10**6, 10**12)


def random_tables(random: Random, levels: int) -> list[Costs]:
    """Tables of two axes; some entries are forbidden, and some tables are one array."""
    scales = [random.choice(SCALES) for _ in range(levels)]
    found: list[Costs] = []
    for _ in range(random.randint(1, 4)):
        if found and random.random() < 0.3:
            found.append(random.choice(found))
            continue
        shape = random.randint(1, 3), random.randint(1, 3)
        table = np.array(
            [
                [[random.randint(-scale, scale) for _ in range(shape[1])] for _ in range(shape[0])]
                for scale in scales
            ],
            np.int64,
        )
        for row in range(shape[0]):
            for column in range(shape[1]):
                if random.random() < 0.1:
                    table[0, row, column] = FORBIDDEN
        found.append(table)
    return found


def choices(tables: list[Costs], random: Random, count: int) -> list[list[tuple[int, int]]]:
    """Some choices of an entry of each table."""
    return [
        [(random.randrange(t.shape[1]), random.randrange(t.shape[2])) for t in tables]
        for _ in range(count)
    ]


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("levels", [1, 2, 3, 5])
def test_sums_compare_as_vectors(levels: int, separate: bool) -> None:
    for seed in range(80):
        random = Random(seed)
        tables = random_tables(random, levels)
        packed = pack(tables, levels, separate=separate)
        known = []
        for choice in choices(tables, random, 8):
            entries = [entry(t, at) for t, at in zip(tables, choice, strict=True)]
            lanes = sum(
                (entry(t, at) for t, at in zip(packed.tables, choice, strict=True)),
                start=np.zeros(packed.lanes),
            )
            if any(e[0] >= FORBIDDEN for e in entries):
                assert np.isinf(lanes[0]), seed
                continue
            vector = [sum(int(e[level]) for e in entries) for level in range(levels)]
            assert packed.numbers(lanes) == packed.pack(vector), seed
            assert packed.cost(packed.numbers(lanes)) == tuple(vector), seed
            known.append((vector, packed.numbers(lanes)))
        assert sorted(known) == sorted(known, key=lambda pair: pair[1]), seed
        assert packed.forbids == any(bool((t[0] >= FORBIDDEN).any()) for t in tables)


def test_separate_levels_are_unpacked_as_they_were() -> None:
    for seed in range(80):
        tables = random_tables(Random(seed), 3)
        packed = pack(tables, 3, separate=True)
        for before, after in zip(tables, unpack(packed.tables), strict=True):
            is_finite = before[0] < FORBIDDEN
            assert np.array_equal(is_finite, after[0] < FORBIDDEN), seed
            assert np.array_equal(before[:, is_finite], after[:, is_finite]), seed


def lanes_of(*scales: int) -> Packed:
    table = np.array([[0, scale] for scale in scales], np.int64)
    return pack([table], len(scales), separate=False)


def test_small_vectors_take_one_number_and_large_ones_more() -> None:
    assert lanes_of(10, 10, 10).tables[0].dtype == np.float64
    assert len(lanes_of(10, 10, 10).weights) == 1
    assert len(lanes_of(2**40, 2**40).weights) == 2
    assert lanes_of(2**40, 2**40).lanes == 1
    assert lanes_of(2**40, 2**40).tables[0].dtype == np.complex128
    assert lanes_of(2**40, 2**40, 2**40).lanes == 2


@pytest.mark.parametrize(("first", "second"), [(LIMIT, 0), (LIMIT - 1, 1)])
def test_sums_that_a_float_does_not_hold_are_refused(first: int, second: int) -> None:
    tables = [np.array([[0, first]], np.int64), np.array([[0, second]], np.int64)]
    with pytest.raises(ProblemError, match="level 0: the costs can sum to"):
        pack(tables, 1, separate=False)
