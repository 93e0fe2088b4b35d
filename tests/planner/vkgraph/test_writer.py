"""Written graphs: ids of operators, and tensors that stay what they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from planner.errors import NoRepresentationError
from planner.files.lowered import graphs_of
from planner.options import make_options
from planner.pipelines.lowered import replan
from planner.vkgraph.reader import ContractedGraph, read_vkgraph
from schema import VkGraph, VkTensor, vkgraph
from schema.vkgraph import Value
from tests.planner.verify.sketches import BUF_W, CLONE, TEX_C, UNPLANNED
from tests.planner.vkgraph.test_hostile import RELU, graph, tensor
from tests.recorded import recorded

OPTIONS = make_options("bytes")
UNKNOWN = "mine.operator.default"


def planned(file: VkGraph) -> VkGraph:
    """The graph with its plan, which planning again leaves as it is."""
    result = replan(vkgraph.encode(file), "x", OPTIONS)
    assert replan(result.data, "x", OPTIONS).data == result.data
    return vkgraph.decode(result.data)


def ids(source: ContractedGraph, file: VkGraph) -> list[int]:
    """The ids of the operators without transitions, in their order."""
    return [file.chain[position].node_id for position in source.positions]


def check_ids(file: VkGraph) -> VkGraph:
    """Plans a graph: its operators keep their ids, and no two operators have the same."""
    result = planned(file)
    assert ids(read_vkgraph(result), result) == ids(read_vkgraph(file), file)
    assert max(Counter(call.node_id for call in result.chain).values()) == 1
    return result


@pytest.fixture
def random_layouts() -> VkGraph:
    """A transformer with layouts drawn at random, and so with many transitions."""
    return max(
        graphs_of(recorded("cvt_xs_fp32", "random0.pte"), "x"), key=lambda file: len(file.chain)
    )


def test_every_operator_has_an_id_of_its_own(random_layouts: VkGraph) -> None:
    before, after = read_vkgraph(random_layouts), read_vkgraph(check_ids(random_layouts))
    had = {(t.tensor, t.target): t.node_id for t in before.transitions}
    have = {(t.tensor, t.target): t.node_id for t in after.transitions}
    stay = had.keys() & have.keys()
    assert stay and have.keys() - stay
    assert all(had[key] == have[key] for key in stay)
    new = {have[key] for key in have.keys() - stay}
    assert new.isdisjoint(call.node_id for call in random_layouts.chain)


def test_ids_that_are_not_unique_are_mended(random_layouts: VkGraph) -> None:
    optimal = planned(random_layouts)
    found = read_vkgraph(optimal)
    assert found.transitions
    # As this planner wrote it before: a transition with the id of the operator behind it.
    chain = list(optimal.chain)
    for t in found.transitions:
        chain[t.position] = chain[t.position]._replace(node_id=chain[t.position + 1].node_id)
    check_ids(replace(optimal, chain=tuple(chain)))


def test_ids_above_all_others_do_not_fit() -> None:
    values: list[Value] = [tensor() for _ in range(4)]
    readers = (("aten.avg_pool2d.default", (1, 2)), ("aten.mm.default", (1, 3)))
    file = graph(values, (RELU, (0, 1)), *readers, outputs=(2, 3))
    *others, last = file.chain
    result = check_ids(replace(file, chain=(*others, last._replace(node_id=2**32 - 1))))
    assert read_vkgraph(result).transitions
    assert max(call.node_id for call in result.chain) == 2**32 - 1


def layouts(file: VkGraph) -> list[tuple[int, int] | None]:
    """Storage and layout of each value that is a tensor."""
    return [
        (int(v.storage_type), int(v.memory_layout)) if isinstance(v, VkTensor) else None
        for v in file.values
    ]


def test_an_unknown_operator_reads_no_copy_that_it_did_not_read_before() -> None:
    """What it reads may be more than contents: ``select_as_symint`` reads an input's staging."""
    # By itself, the plan would make a texture, and copy it into the buffer that is kept.
    values: list[Value] = [tensor(TEX_C), tensor(BUF_W), tensor(BUF_W), tensor(TEX_C)]
    file = graph(
        values,
        (RELU, (0, 1)),
        (UNKNOWN, (1, 2)),
        ("aten.avg_pool2d.default", (1, 3)),
        outputs=(2, 3),
    )
    result = planned(file)
    (call,) = (call for call in result.chain if call.name == UNKNOWN)
    made = {made for c in result.chain if c.name == CLONE for made in c.args[-1:]}
    assert made and made.isdisjoint(call.args)
    assert layouts(result)[call.args[0]] == layouts(file)[1]


def test_an_operand_without_a_layout_stays_without() -> None:
    values: list[Value] = [tensor(UNPLANNED), tensor(UNPLANNED), tensor(TEX_C), tensor(TEX_C)]
    file = graph(values, (UNKNOWN, (0, 1)), (RELU, (2, 3)), inputs=(0, 2), outputs=(1, 3))
    assert layouts(planned(file))[:2] == layouts(file)[:2]


def test_of_what_is_also_planned_it_keeps_what_the_runtime_would_choose() -> None:
    values: list[Value] = [tensor(UNPLANNED), tensor(UNPLANNED), tensor(TEX_C)]
    file = graph(values, (UNKNOWN, (0, 1)), (RELU, (0, 2)), outputs=(1, 2))
    after = layouts(planned(file))
    assert after[0] == layouts(graph([tensor(TEX_C)], inputs=(0,), outputs=(0,)))[0]
    assert after[1] == layouts(file)[1]


def test_a_tensor_that_several_operators_write_keeps_one_representation() -> None:
    """As ``alias_buffer_mutations`` writes a state: made, read, and written over."""
    values: list[Value] = [tensor() for _ in range(4)]
    file = graph(
        values,
        (RELU, (0, 1)),
        (RELU, (1, 2)),
        ("aten.avg_pool2d.default", (2, 1)),
        (RELU, (1, 3)),
        outputs=(1, 3),
    )
    result = planned(file)
    # Only the last of those who write it cannot write every representation.
    assert layouts(result)[1] == layouts(graph([tensor(TEX_C)], outputs=(0,)))[0]
    assert [call.args for call in result.chain] == [call.args for call in file.chain]


def test_a_tensor_that_is_written_over_has_no_copies() -> None:
    """A copy that is read before and after would hold what the tensor was."""
    values: list[Value] = [tensor() for _ in range(4)]
    pool, mm = "aten.avg_pool2d.default", "aten.mm.default"
    file = graph(values, (RELU, (0, 1)), (mm, (1, 2)), (pool, (0, 1)), (mm, (1, 3)), outputs=(2, 3))
    with pytest.raises(NoRepresentationError, match="no layouts"):
        planned(file)
