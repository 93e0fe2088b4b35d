"""What reads and makes values is found by columns as by going through the calls one by one."""

from __future__ import annotations

from hypothesis import given, settings

from planner.errors import InputError
from planner.ir.graph import Operand
from planner.kernels.registry import CLONE, written_args
from planner.vkgraph.reader import read_vkgraph
from planner.vkgraph.wellformed import check_wellformed, is_variable, lists_of, repr_of
from schema import VkDataType, VkGraph, VkTensor
from schema.vkgraph import Null, OperatorCall
from tests.planner.vkgraph.hostile import changed_graphs


def read_too_soon(graph: VkGraph) -> bool:
    """Whether an operator reads a tensor that is not made before."""
    lists, made = lists_of(graph), {*graph.input_ids}
    for call in graph.chain:
        for named in call.args[:-1]:
            for i in lists.get(named, (named,)):
                if is_variable(graph.values[i]) and i not in made:
                    return True
        for named in call.args[-1:]:
            made.update(lists.get(named, (named,)))
    return False


def changes_representation(graph: VkGraph, call: OperatorCall) -> bool:
    """Whether a call is a clone that changes nothing but the representation."""
    if call.name != CLONE or len(call.args) != 3:
        return False
    a, empty, b = (graph.values[i] for i in call.args)
    if not (isinstance(a, VkTensor) and isinstance(empty, Null) and isinstance(b, VkTensor)):
        return False
    made, target = repr_of(a), repr_of(b)
    if made is None or target is None or made == target:
        return False
    if a.datatype == VkDataType.INT8 and made.is_packed_int8 != target.is_packed_int8:
        return False
    return (a.dims, a.datatype, a.staging_datatype) == (b.dims, b.datatype, b.staging_datatype)


def transitions(graph: VkGraph) -> dict[int, int]:
    """The positions of the transitions, and what each copies."""
    lists = lists_of(graph)
    read, made, overwritten = set[int](), {*graph.input_ids}, set[int]()
    for call in graph.chain:
        read.update(call.args[:-1])
        for argument in written_args(call.name):
            for named in call.args[:-1][argument : argument + 1]:
                overwritten.update(lists.get(named, (named,)))
        for named in call.args[-1:]:
            for i in lists.get(named, (named,)):
                if i in made:
                    overwritten.add(i)
                made.add(i)
    read.update(i for named in read & lists.keys() for i in lists[named])
    stays = overwritten.union(graph.output_ids)
    found, copies, present = dict[int, int](), set[int](), set[tuple[int, object]]()
    for position, call in enumerate(graph.chain):
        if not changes_representation(graph, call):
            continue
        source, _, copy = call.args
        tensor = graph.values[copy]
        assert isinstance(tensor, VkTensor)
        kind = source, repr_of(tensor)
        if source in overwritten | copies or copy not in read or copy in stays or kind in present:
            continue
        present.add(kind)
        copies.add(copy)
        found[position] = source
    return found


@given(changed_graphs())
@settings(max_examples=150)
def test_uses_are_those_that_the_calls_show(graph: VkGraph) -> None:
    try:
        check_wellformed(graph, "")
        source = read_vkgraph(graph)
    except InputError as error:
        assert read_too_soon(graph) or "is read here" not in str(error)
        return
    assert not read_too_soon(graph)
    expected = transitions(graph)
    assert {t.position: source.tensors[t.tensor] for t in source.transitions} == expected
    kept = [(at, call) for at, call in enumerate(graph.chain) if at not in expected]
    assert [*source.positions] == [at for at, _ in kept]
    lists = lists_of(graph)
    copies = {graph.chain[at].args[-1]: tensor for at, tensor in expected.items()}
    for call, (_, before) in zip(source.written.chain, kept, strict=True):
        assert call == before._replace(args=tuple(copies.get(i, i) for i in before.args))
    for t in source.transitions:
        users = [
            Operand(operator, argument)
            for operator, (_, call) in enumerate(kept)
            for argument, named in enumerate(call.args[:-1])
            if t.copy in lists.get(named, (named,))
        ]
        assert [*t.users] == users
