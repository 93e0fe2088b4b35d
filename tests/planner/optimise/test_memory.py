"""Memory plans are safe, minimal among several, never worse than greedy, and the same each time."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import assume, given

from planner.errors import InputError
from planner.optimise.colouring import Lifetime, least_bytes
from planner.optimise.memory import (
    DEDICATED,
    MemoryPlan,
    apply,
    greedy_plan,
    lifetimes,
    plan_memory,
    used_bytes,
)
from planner.verify.memory import check_memory
from schema import VkDataType, VkGraph, VkTensor
from schema.vkgraph import Int, Value, ValueList
from tests.planner.memory_graphs import CHANNELS, TEXTURE, bytes_of, constant, graph, graphs, tensor


def overlap(a: Lifetime, b: Lifetime) -> bool:
    return a.first <= b.last and b.first <= a.last


def dedicated_bytes(graph: VkGraph) -> int:
    spans = lifetimes(graph)
    return sum(
        bytes_of(graph, value_id)
        for value_id, value in enumerate(graph.values)
        if isinstance(value, VkTensor) and value.constant_id < 0 and value_id not in spans
    )


def total_bytes(graph: VkGraph, plan: MemoryPlan) -> int:
    """The total, counted anew from the plan's objects."""
    largest: Counter[int] = Counter()
    for value_id, memory_object in plan.objects.items():
        key = memory_object if memory_object >= 0 else -1 - value_id
        largest[key] = max(largest[key], bytes_of(graph, value_id))
    return largest.total()


@pytest.mark.slow
@given(graphs())
def test_a_plan_is_safe_small_and_stable(graph: VkGraph) -> None:
    plan, greedy = plan_memory(graph), greedy_plan(graph)
    spans = lifetimes(graph)
    for made in (plan, greedy):
        written = apply(graph, made)
        check_memory(written, made.total_bytes)
        assert made.total_bytes == total_bytes(graph, made) == used_bytes(written)
        assert {v for v, memory_object in made.objects.items() if memory_object >= 0} == set(spans)
        assert plan_memory(written) == plan
        assert greedy_plan(written) == greedy
        used = [made.objects[value_id] for value_id in spans]
        assert list(dict.fromkeys(used)) == list(range(len(set(used))))
        for a, b in itertools.combinations(spans, 2):
            assert made.objects[a] != made.objects[b] or not overlap(spans[a], spans[b])
    assert plan.total_bytes <= greedy.total_bytes
    live = (
        sum(bytes_of(graph, v) for v, span in spans.items() if span.first <= at <= span.last)
        for at in range(-1, len(graph.chain) + 1)
    )
    assert plan.total_bytes >= max(live) + dedicated_bytes(graph)


def partitions(ids: list[int], spans: dict[int, Lifetime]) -> Iterator[list[list[int]]]:
    """All ways to share memory."""
    if not ids:
        yield []
        return
    *rest, last = ids
    for parts in partitions(rest, spans):
        yield [*parts, [last]]
        for i, part in enumerate(parts):
            if not any(overlap(spans[last], spans[v]) for v in part):
                yield [*parts[:i], [*part, last], *parts[i + 1 :]]


@given(graphs(most_operators=5))
def test_no_plan_is_better_than_the_best_of_all(graph: VkGraph) -> None:
    spans = lifetimes(graph)
    assume(len(spans) <= 7)
    best = min(
        sum(max(bytes_of(graph, v) for v in part) for part in parts)
        for parts in partitions(list(spans), spans)
    )
    assert plan_memory(graph).total_bytes >= best + dedicated_bytes(graph)
    sizes = {value_id: bytes_of(graph, value_id) for value_id in spans}
    assert least_bytes(spans, sizes) <= best


@pytest.mark.parametrize("steps", [1, 256])
@given(graphs())
def test_what_need_not_be_tried_is_no_better(steps: int, graph: VkGraph) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("planner.optimise.colouring._STEPS", steps)
        plan = plan_memory(graph)
        patched.setattr("planner.optimise.memory.least_bytes", lambda spans, sizes: -1)
        assert plan_memory(graph) == plan


def test_lifetimes_run_from_the_first_write_to_the_last_use() -> None:
    values: list[Value] = [tensor((4,)) for _ in range(8)]
    values += [ValueList((2, 3)), ValueList((1, 4)), Int(7)]
    made = graph(
        values,
        (0, 10, 1),
        ("aten.split.Tensor", 1, 10, 8),
        (2, 10, 4),
        ("aten.cat.default", 9, 10, 5),
        (5, 10, 6),
        (5, 10, 7),
        outputs=(6,),
    )
    assert lifetimes(made) == {
        0: (-1, 0),
        1: (0, 3),
        2: (1, 2),
        3: (1, 1),
        4: (2, 3),
        5: (3, 5),
        6: (4, 6),
        7: (5, 5),
    }
    assert list(lifetimes(made)) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_an_input_that_is_an_output_lives_from_start_to_end() -> None:
    made = graph([tensor((4,)), tensor((4,))], (0, 1), (0, 1), outputs=(0, 1))
    assert lifetimes(made) == {0: (-1, 2), 1: (0, 2)}


def test_an_input_that_no_operator_reads_lives_only_at_the_start() -> None:
    made = graph([tensor((4,)), tensor((4,)), tensor((4,))], (1, 2), inputs=(0, 1))
    assert lifetimes(made) == {0: (-1, -1), 1: (-1, 0), 2: (0, 0)}
    assert plan_memory(made).objects == {0: 0, 1: 1, 2: 0}


@pytest.mark.parametrize("memory_object", [0, -1])
def test_prepacked_tensors_and_states_keep_their_own_memory(memory_object: int) -> None:
    values: list[Value] = [
        tensor((4,)),
        constant((4,)),
        tensor((4,), mem_obj_id=memory_object),
        tensor((4,), mem_obj_id=memory_object),
        tensor((4,)),
        tensor((4,)),
    ]
    made = graph(
        values,
        ("et_vk.prepack.default", 1, 2),
        (0, 2, 4),
        ("llama.update_cache.default", 4, 3, 5),
        (3, 2, 4),
        outputs=(4,),
    )
    plan = plan_memory(made)
    assert plan.objects == {0: 0, 2: DEDICATED, 3: DEDICATED, 4: 1, 5: 0}
    assert plan.total_bytes == greedy_plan(made).total_bytes == 4 * 16
    check_memory(apply(made, plan), plan.total_bytes)


def test_memory_that_was_not_planned_stays_so() -> None:
    values: list[Value] = [tensor((4,), mem_obj_id=-1) for _ in range(4)]
    made = graph(values, (0, 1), (1, 2), (2, 3), outputs=(3,))
    plan = plan_memory(made)
    assert apply(made, plan) == made
    assert plan.total_bytes == 4 * 16


def test_what_nothing_names_keeps_its_own_memory_and_constants_have_none() -> None:
    values: list[Value] = [tensor((4,)), tensor((4,)), tensor((9,)), constant((8,), mem_obj_id=0)]
    made = graph(values, (0, 3, 1), outputs=(1,))
    plan = plan_memory(made)
    assert plan.objects == {0: 0, 1: 1, 2: DEDICATED}
    assert plan.total_bytes == 16 + 16 + 36
    written = apply(made, plan)
    assert written.values[3] == made.values[3]
    check_memory(written, plan.total_bytes)


def test_a_written_tensor_takes_part_with_a_new_object() -> None:
    """So that a transition which was just added shares memory."""
    values: list[Value] = [tensor((4,), mem_obj_id=i) for i in (0, 1, 0, 77)]
    made = graph(values, (0, 1), (1, 2), (2, 3), outputs=(3,))
    assert plan_memory(made).objects == {0: 0, 1: 1, 2: 0, 3: 1}


def test_sizes_count_padding_where_executorch_does_not() -> None:
    """By elements 2 is the smaller one, so greedy gives 3 the place beside 0."""
    texture = partial(tensor, storage_type=TEXTURE, memory_layout=CHANNELS)
    values: list[Value] = [tensor((1, 1, 1, 100)), tensor((1,)), texture((1, 1, 1, 60))]
    values += [tensor((1, 1, 1, 70)), tensor((1,))]
    made = graph(values, (0, 1), ("aten.split.Tensor", 1, 5), (2, 3, 4), outputs=(4,))
    made = replace(made, values=(*made.values, ValueList((2, 3))))
    greedy, plan = greedy_plan(made), plan_memory(made)
    assert greedy.objects[3] == greedy.objects[0] != greedy.objects[2]
    assert plan.objects[2] == plan.objects[0] != plan.objects[3]
    assert (greedy.total_bytes, plan.total_bytes) == (400 + 960 + 4, 960 + 280 + 4)


@pytest.mark.parametrize(
    ("widths", "calls", "total"),
    [
        ([1, 7, 5, 1, 3, 4], [(0, 1), (1, 2), (0, 2, 3), (2, 3, 4), (3, 4, 5)], 56),
        ([5, 5, 1, 4, 2, 7], [(0, 1), (1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5)], 60),
        ([7, 3, 2, 3, 8, 8], [(0, 1), (0, 1, 2), (1, 2, 3), (1, 3, 4), (3, 4, 5)], 84),
        ([6, 2, 7, 1, 2, 8], [(0, 1), (0, 1, 2), (1, 2, 3), (3, 4), (4, 5)], 64),
        ([7, 4, 4, 1, 5], [(0, 1), (1, 2), (2, 3), (2, 3, 4)], 52),
    ],
    ids=["ExecuTorch's", "last end first", "first made first", "along time", "against time"],
)
def test_for_each_way_to_plan_there_is_a_graph_that_needs_it(
    widths: list[int], calls: list[tuple[str | int, ...]], total: int
) -> None:
    made = graph([tensor((width,)) for width in widths], *calls, outputs=(len(widths) - 1,))
    assert plan_memory(made).total_bytes == total


def test_greedy_measures_elements_in_their_type_before_it_was_narrowed() -> None:
    half = partial(replace, tensor((6,)), datatype=VkDataType.FLOAT16)
    values: list[Value] = [tensor((5,)), half(staging_datatype=VkDataType.FLOAT32), half()]
    values += [tensor((1,)), tensor((9,)), ValueList((1, 2))]
    made = graph(values, (0, 3), (3, 4), ("aten.split.Tensor", 4, 5), outputs=(1, 2))
    objects = greedy_plan(made).objects
    assert objects[3] == objects[1] != objects[2]


def test_a_list_in_a_list_is_refused() -> None:
    values: list[Value] = [tensor((4,)), ValueList((0,)), ValueList((1,)), tensor((4,))]
    made = graph(values, (2, 3))
    with pytest.raises(InputError, match="value 2 is a list that holds a list"):
        plan_memory(made)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (tensor((1, 1, 1, 1, 1), storage_type=TEXTURE), "5 dimensions cannot be a texture"),
        (replace(tensor((4,)), datatype=VkDataType.UNSET), "tensor 1 has no datatype"),
    ],
)
def test_a_tensor_without_a_size_is_refused(bad: VkTensor, message: str) -> None:
    made = graph([tensor((4,)), bad], (0, 1))
    for plan in (plan_memory, greedy_plan):
        with pytest.raises(InputError, match=message):
            plan(made)


def test_an_empty_graph_needs_nothing() -> None:
    assert plan_memory(graph([], inputs=())) == MemoryPlan({}, 0, 0)


def test_many_tensors_alive_at_once_are_planned_as_greedy_does_in_one_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Works in layers of objects, which must not show."""
    count = 60
    values: list[Value] = [tensor((1 + (7 * i) % 11,)) for i in range(count + 1)]
    calls = [(max(0, i - 9 - i % 3), i + 1) for i in range(count)]
    made = graph(values, *calls, outputs=(count, 5, 20))
    whole = greedy_plan(made), plan_memory(made)
    assert max(whole[0].objects.values()) > 6
    monkeypatch.setattr("planner.optimise.colouring._LAYER_OBJECTS", 3)
    assert (greedy_plan(made), plan_memory(made)) == whole
