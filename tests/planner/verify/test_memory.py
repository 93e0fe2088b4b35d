"""The check of memory finds every wrong sharing and every wrong total, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from planner.errors import VerificationError
from planner.optimise.colouring import Lifetime
from planner.optimise.memory import MemoryPlan, apply, lifetimes, plan_memory, used_bytes
from planner.options import make_options
from planner.pipelines.lowered import replan
from planner.verify.live import peak_bytes
from planner.verify.memory import check_memory, sharing_error
from schema import VkDataType, VkGraph, VkTensor, vkgraph
from schema.vkgraph import Value, ValueList
from tests.planner.memory_graphs import bytes_of, constant, graph, graphs, tensor


def shared_tensors(graph: VkGraph) -> list[int]:
    return [
        value_id
        for value_id, value in enumerate(graph.values)
        if isinstance(value, VkTensor) and value.constant_id < 0 <= value.mem_obj_id
    ]


def object_of(graph: VkGraph, value_id: int) -> int:
    value = graph.values[value_id]
    assert isinstance(value, VkTensor)
    return value.mem_obj_id


def with_tensor(graph: VkGraph, value_id: int, **changes: Any) -> VkGraph:
    values = list(graph.values)
    value = values[value_id]
    assert isinstance(value, VkTensor)
    values[value_id] = replace(value, **changes)
    return replace(graph, values=tuple(values))


def alive(graph: VkGraph, value_id: int) -> set[int]:
    """The steps that need a tensor, counted one by one; the graph's inputs are step 0."""

    def names(ids: tuple[int, ...]) -> bool:
        values = [graph.values[i] for i in ids]
        return value_id in ids or any(
            isinstance(value, ValueList) and value_id in value.items for value in values
        )

    steps = [((), graph.input_ids), *((c.args[:-1], c.args[-1:]) for c in graph.chain)]
    steps.append((graph.output_ids, ()))
    read = {i for i, (ids, _) in enumerate(steps) if names(ids)}
    written = {i for i, (_, ids) in enumerate(steps) if names(ids)}
    prepacked = any(
        call.name == "et_vk.prepack.default" and names(call.args[-1:]) for call in graph.chain
    )
    if not read | written:
        return set()
    if prepacked or (read and min(read) <= min(written, default=len(steps))):
        return set(range(len(steps)))
    return set(range(min(written), max(read | written) + 1))


@pytest.mark.slow
@given(graphs(), st.data())
def test_sharing_is_wrong_exactly_where_lifetimes_overlap(
    graph: VkGraph, data: st.DataObject
) -> None:
    """With the memory objects of a plan, of which some were drawn anew."""
    graph = apply(graph, plan_memory(graph))
    assume(shared_tensors(graph))
    for _ in range(data.draw(st.integers(0, 3))):
        value_id = data.draw(st.sampled_from(shared_tensors(graph)))
        graph = with_tensor(graph, value_id, mem_obj_id=data.draw(st.integers(0, 4)))
    wrong = {
        frozenset(pair)
        for pair in combinations(shared_tensors(graph), 2)
        if object_of(graph, pair[0]) == object_of(graph, pair[1])
        and alive(graph, pair[0]) & alive(graph, pair[1])
    }
    event("wrong" if wrong else "right")
    error = sharing_error(graph)
    if not wrong:
        assert error is None
        check_memory(graph, used_bytes(graph))
        return
    assert error is not None
    first, second, memory_object = map(int, re.findall(r"\d+", error))
    assert frozenset((first, second)) in wrong
    assert object_of(graph, first) == object_of(graph, second) == memory_object
    with pytest.raises(VerificationError, match=error):
        check_memory(graph, used_bytes(graph))


@given(graphs())
def test_the_peak_is_that_of_the_lifetimes(graph: VkGraph) -> None:
    """Of all tensors, whether they share memory or not."""
    tensors = [i for i, value in enumerate(graph.values) if isinstance(value, VkTensor)]
    sharing = graph
    for value_id in tensors:
        sharing = with_tensor(sharing, value_id, mem_obj_id=0)
    spans = lifetimes(sharing)
    steps = range(-1, len(graph.chain) + 1)
    live = [[t for t, span in spans.items() if span.first <= s <= span.last] for s in steps]
    assert peak_bytes(graph) == max(sum(bytes_of(graph, t) for t in alive) for alive in live)


def _overlap(a: Lifetime, b: Lifetime) -> bool:
    return a.first <= b.last and b.first <= a.last


@pytest.mark.slow
@given(graphs(), st.data())
def test_the_checker_finds_every_pair_that_must_not_share(
    graph: VkGraph, data: st.DataObject
) -> None:
    spans = lifetimes(graph)
    plan = plan_memory(graph)
    pairs = [(a, b) for a, b in combinations(spans, 2) if _overlap(spans[a], spans[b])]
    assume(pairs)
    moved, other = data.draw(st.sampled_from(pairs).flatmap(st.permutations))
    objects = {**plan.objects, moved: plan.objects[other]}
    with pytest.raises(VerificationError, match="while both are alive") as error:
        check_memory(apply(graph, MemoryPlan(objects, 0, 0)), 0)
    a, b, shared = map(int, re.findall(r"\d+", str(error.value)))
    assert objects[a] == objects[b] == shared == objects[moved]
    assert a != b and _overlap(spans[a], spans[b])


@pytest.mark.parametrize(
    ("first", "second", "calls"),
    [
        (0, 1, [(0, 1)]),
        (1, 2, [(0, 1), (1, 2)]),
        (1, 2, [(0, 4), (4, 5), (0, 3)]),
        (1, 2, [(0, 4), (4, 3)]),
        (0, 3, [(0, 2), (2, 3)]),
        (1, 3, [("et_vk.prepack.default", 6, 1), (0, 2), (2, 3)]),
        (1, 2, [(0, 2), (2, 3), ("et_vk.prepack.default", 6, 1)]),
        (1, 2, [(0, 2), (2, 3), (0, 1, 3)]),
        (1, 3, [(0, 1), (1, 2)]),
        (2, 3, [(0, 2, 2), (0, 3)]),
    ],
    ids=[
        "an output and an input",
        "a later output and an input",
        "two members of a list that is made",
        "two outputs of an operator",
        "two graph values",
        "a prepacked tensor and a later one",
        "a prepacked tensor and an earlier one",
        "a state and an earlier tensor",
        "an output that nothing writes and an earlier tensor",
        "a tensor updated in place and a later one",
    ],
)
def test_the_checker_names_two_tensors(
    first: int, second: int, calls: list[tuple[str | int, ...]]
) -> None:
    values: list[Value] = [tensor((4,), mem_obj_id=i) for i in range(4)]
    values += [ValueList((1, 2)), tensor((4,), mem_obj_id=5), constant((4,))]
    made = graph(values, *calls, outputs=(0, 3))
    assert sharing_error(made) is None
    merged = list(made.values)
    merged[second] = merged[first]
    with pytest.raises(
        VerificationError, match=f"tensors ({first} and {second}|{second} and {first}) "
    ):
        check_memory(replace(made, values=tuple(merged)), 0)


def test_a_list_in_a_list_is_refused() -> None:
    values: list[Value] = [tensor((4,)), ValueList((0,)), ValueList((1,)), tensor((4,))]
    with pytest.raises(VerificationError, match="value 2 is a list that holds a list"):
        check_memory(graph(values, (2, 3)), 32)


@pytest.mark.slow
@given(graphs(), st.data())
def test_another_total_is_refused(graph: VkGraph, data: st.DataObject) -> None:
    plan = plan_memory(graph)
    written = apply(graph, plan)
    other = data.draw(st.integers(-64, 64).map(lambda more: plan.total_bytes + more))
    assume(other != plan.total_bytes)
    message = f"takes {plan.total_bytes} bytes of memory, not the {other} that are claimed"
    with pytest.raises(VerificationError, match=message):
        check_memory(written, other)


@pytest.mark.slow
@given(graphs(), st.data())
def test_a_tensor_that_outgrew_its_object_is_found(graph: VkGraph, data: st.DataObject) -> None:
    plan = plan_memory(graph)
    written = apply(graph, plan)
    tensors = [v for v, value in enumerate(written.values) if isinstance(value, VkTensor)]
    value_id = data.draw(st.sampled_from([v for v in tensors if v in plan.objects]))
    room = max(
        bytes_of(written, v)
        for v in plan.objects
        if v == value_id or plan.objects[v] == plan.objects[value_id] >= 0
    )
    grown = with_tensor(written, value_id, dims=(1, 1, 1, 16 + room))
    with pytest.raises(VerificationError, match=f"not the {plan.total_bytes} that are claimed"):
        check_memory(grown, plan.total_bytes)


def test_constants_take_no_memory_and_share_none() -> None:
    values: list[Value] = [tensor((4,)), constant((99,), mem_obj_id=0), tensor((4,), mem_obj_id=1)]
    check_memory(graph(values, (0, 1, 2), outputs=(2,)), 32)


def test_a_tensor_without_datatype_is_named() -> None:
    made = graph([tensor((4,)), replace(tensor((4,)), datatype=VkDataType.UNSET)], (0, 0))
    with pytest.raises(VerificationError, match="tensor 1 has no datatype"):
        check_memory(made, 16)


CHAIN = graph(
    [tensor((1, 4, 4, 4), mem_obj_id=i) for i in (0, 1, 2, 2)],
    ("aten.relu.default", 0, 1),
    ("aten.add.Tensor", 0, 1, 2),
    ("aten.relu.default", 2, 3),
    outputs=(3,),
)


def all_in_one(graph: VkGraph) -> MemoryPlan:
    return MemoryPlan(dict.fromkeys(lifetimes(graph), 0), 0, 0)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("plan_memory", lambda real: all_in_one, "share memory object 0 while both are alive"),
        ("used_bytes", lambda real: lambda graph: real(graph) + 1, "bytes of memory, not the"),
        (
            "vkgraph.encode",
            lambda real: lambda graph: real(apply(graph, all_in_one(graph))),
            "share memory object 0 while both are alive",
        ),
    ],
)
def test_a_wrong_plan_does_not_leave_the_planner(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    wrong: Callable[[Any], Any],
    message: str,
) -> None:
    """In the planner's choice, in its figures, or in the bytes alone."""
    assert sharing_error(CHAIN) is not None
    data, options = vkgraph.encode(CHAIN), make_options("bytes")
    assert sharing_error(vkgraph.decode(replan(data, "x", options).data)) is None
    place = f"planner.pipelines.lowered.{name}"
    real = {"plan_memory": plan_memory, "used_bytes": used_bytes, "vkgraph.encode": vkgraph.encode}
    monkeypatch.setattr(place, wrong(real[name]))
    with pytest.raises(VerificationError, match=message):
        replan(data, "x", options)
