"""What changed between files of one program; and where two programs part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.compare.layouts import compare
from planner.costs.profile_file import load_profile
from planner.errors import InputError
from planner.ir.representation import TensorRepr
from schema import VkDataType, join_delegate
from schema.vkgraph import Double, Int, Null, Value, ValueList, encode
from tests.planner.files.test_listing import CASES, bare, planned
from tests.planner.verify.sketches import (
    BUF_C,
    BUF_W,
    TEX_C,
    TEX_H,
    TEX_W,
    Case,
    Sketch,
    float_chain,
    shared_copy,
)

BYTES = load_profile("bytes")
DEFAULT = load_profile("default")
REPRS = (TEX_W, TEX_H, TEX_C, BUF_W, BUF_C)


def diff(a: bytes, b: bytes, profile: Any = BYTES) -> dict[str, Any]:
    return compare(a, "a.pte", b, "b.pte", profile)


def chain(reprs: tuple[TensorRepr, ...], shared: bool = True) -> Case:
    """A row of sums, each made in a representation of its own, with the repacks between.

    ``shared`` copies are read by both arguments, others only by the first one's.
    """
    s = Sketch()
    x = s.input((1, 8, 6, 10), reprs[0])
    for before, after in pairwise(reprs):
        copy = x if before == after else s.repack(x, after)
        other = copy if shared else x
        x = s.call("aten.add.Tensor", copy, other, 1, s.tensor((1, 8, 6, 10), after))
    return s.finish(x, objective="repack", profile="bytes")


def renumbered(case: Case) -> bytes:
    """The same program with every value at another id."""
    graph, last = case.after, len(case.after.values)

    def moved(value: Value) -> Value:
        if isinstance(value, ValueList):
            return ValueList(tuple(last - i for i in value.items))
        return value

    return encode(
        replace(
            graph,
            chain=tuple(c._replace(args=tuple(last - i for i in c.args)) for c in graph.chain),
            values=(Null(), *(moved(v) for v in reversed(graph.values))),
            input_ids=tuple(last - i for i in graph.input_ids),
            output_ids=tuple(last - i for i in graph.output_ids),
        )
    )


chains = st.tuples(
    st.lists(st.sampled_from(REPRS), min_size=4, max_size=4).map(tuple), st.booleans()
).map(lambda drawn: chain(*drawn))


@pytest.mark.parametrize("make", CASES)
def test_a_file_equals_itself_in_every_kind(make: Callable[[], Case]) -> None:
    case = make()
    files = (bare(case), join_delegate(bare(case)), planned(case), renumbered(case))
    for a in files:
        for b in files:
            found = diff(a, b)
            (delegate,) = found["delegates"]
            assert found["is_equal"] and delegate["is_equal"]
            assert delegate["representations"] == []
            assert delegate["only_in_a"] == delegate["only_in_b"] == []
            assert len(delegate["in_both"]) == len(case.plan.transitions)
            assert found["total"]["a"] == found["total"]["b"]
            assert found["total"]["ratio"] == 1.0


def test_kinds_are_named() -> None:
    case = float_chain()
    found = compare(planned(case), "m.plan", bare(case), "m.graph", DEFAULT)
    assert found["a"] == {"name": "m.plan", "kind": "plan"}
    assert found["b"] == {"name": "m.graph", "kind": "vkgraph"}
    assert (found["profile"]["name"], found["unit"]) == ("default", "ns")


def test_what_changed_is_listed() -> None:
    a = chain((TEX_C, TEX_W, TEX_W, TEX_C))
    b = chain((TEX_C, TEX_C, TEX_W, TEX_C))
    (delegate,) = diff(bare(a), bare(b))["delegates"]
    first_a, first_b = a.arg("aten.add.Tensor", -1), b.arg("aten.add.Tensor", -1)
    assert delegate["representations"] == [
        {
            "tensor": None,
            "a_value_id": first_a,
            "b_value_id": first_b,
            "dims": [1, 8, 6, 10],
            "dtype": "float32",
            "from": "texture:WIDTH_PACKED",
            "to": "texture:CHANNELS_PACKED",
        }
    ]
    (gone,), (new,) = delegate["only_in_a"], delegate["only_in_b"]
    (claim_a, last_a), (claim_b, last_b) = a.plan.transitions, b.plan.transitions
    for shown, claim, source in ((gone, claim_a, a.after.input_ids[0]), (new, claim_b, first_b)):
        assert (shown["source"], shown["output"]) == (source, claim.output)
        assert shown["operator_index"] == claim.operator_index
        assert shown["cost"] == claim.cost
        assert [(u["operator_index"], u["operator"], u["argument"]) for u in shown["users"]] == [
            (u.operator_index, u.operator_name, u.argument) for u in claim.users
        ]
    ((kept),) = delegate["in_both"]
    assert (kept["a"]["output"], kept["b"]["output"]) == (last_a.output, last_b.output)


def test_a_copy_with_other_readers_is_another_one() -> None:
    a, b = (chain((TEX_C, BUF_W), shared=shared) for shared in (True, False))
    (delegate,) = diff(bare(a), bare(b))["delegates"]
    assert [len(t["users"]) for t in delegate["only_in_a"]] == [2]
    assert [len(t["users"]) for t in delegate["only_in_b"]] == [1]
    assert delegate["in_both"] == delegate["representations"] == []
    assert not delegate["is_equal"]


def test_a_copy_from_another_representation_is_another_one() -> None:
    (delegate,) = diff(bare(chain((TEX_C, BUF_W))), bare(chain((TEX_W, BUF_W))))["delegates"]
    froms = [[t["from"] for t in delegate[only]] for only in ("only_in_a", "only_in_b")]
    assert froms == [["texture:CHANNELS_PACKED"], ["texture:WIDTH_PACKED"]]
    assert delegate["in_both"] == []


def test_names_come_from_whichever_file_has_them() -> None:
    a, b = chain((TEX_C, TEX_W)), chain((TEX_C, TEX_C))
    (found,) = diff(planned(a), bare(b))["delegates"]
    name = f"t{a.after.input_ids[0]}"
    assert found["only_in_a"][0]["tensor"] == name
    (found,) = diff(bare(b), planned(a))["delegates"]
    assert found["only_in_b"][0]["tensor"] == name
    (found,) = diff(bare(a), planned(b))["delegates"]
    assert found["only_in_a"][0]["tensor"] == f"t{b.after.input_ids[0]}"


def test_memory_alone_may_differ() -> None:
    a = chain((TEX_C, TEX_C, TEX_C))
    b = a.tensor(a.after.output_ids[0], mem_obj_id=a.after.input_ids[0])
    found = diff(bare(a), bare(b))
    assert not found["is_equal"]
    assert found["total"]["a"]["memory_bytes"] > found["total"]["b"]["memory_bytes"]
    assert found["delegates"][0]["representations"] == []


@given(chains, chains, st.sampled_from([BYTES, DEFAULT]))
def test_it_is_antisymmetric_and_costs_add_up(a: Case, b: Case, profile: Any) -> None:
    there, back = diff(bare(a), bare(b), profile), diff(bare(b), bare(a), profile)
    (x,), (y,) = there["delegates"], back["delegates"]
    assert x["only_in_a"] == y["only_in_b"]
    assert x["only_in_b"] == y["only_in_a"]
    assert [(t["a"], t["b"]) for t in x["in_both"]] == [
        (t["b"], t["a"]) for t in sorted(y["in_both"], key=lambda t: t["b"]["operator_index"])
    ]
    assert (x["a"], x["b"]) == (y["b"], y["a"])
    assert [(r["from"], r["to"]) for r in x["representations"]] == [
        (r["to"], r["from"]) for r in y["representations"]
    ]
    assert there["is_equal"] == back["is_equal"] == (bare(a) == bare(b))
    for side, only in (("a", "only_in_a"), ("b", "only_in_b")):
        mine = x[only] + [t[side] for t in x["in_both"]]
        assert x[side]["transitions"] == len(mine)
        assert x[side]["repack_cost"] == pytest.approx(sum(t["cost"] for t in mine))
    if profile is BYTES:
        assert x["a"]["repack_cost"] == sum(t.cost for t in a.plan.transitions)


def test_the_total_is_of_all_delegates() -> None:
    cases = chain((TEX_C, TEX_W)), chain((TEX_C, BUF_W, TEX_W))
    found = diff(planned(*cases), planned(*cases))
    parts = [d["a"] for d in found["delegates"]]
    assert len(parts) == 2
    for key, value in found["total"]["a"].items():
        assert value == sum(part[key] for part in parts)


def test_ratio_is_of_a_over_b() -> None:
    none, one, two = (
        bare(chain(reprs)) for reprs in ((TEX_C,) * 3, (TEX_C, TEX_C, TEX_W), (TEX_C, TEX_W, TEX_C))
    )
    assert diff(two, one)["total"]["ratio"] == 2.0
    assert diff(none, one)["total"]["ratio"] == 0.0
    assert diff(one, none)["total"]["ratio"] is None
    assert diff(none, none)["total"]["ratio"] == 1.0


def test_delegates_that_are_alike_may_be_one() -> None:
    case = float_chain()
    assert diff(planned(case, case), bare(case))["is_equal"]
    with pytest.raises(InputError, match="distinct Vulkan delegates is 2 in "):
        diff(planned(case, shared_copy()), bare(case))


def refused(a: Case, b: Case) -> str:
    """Why two programs are different; the other way round they are, too."""
    with pytest.raises(InputError) as caught:
        diff(bare(a), bare(b))
    with pytest.raises(InputError):
        diff(bare(b), bare(a))
    text = str(caught.value)
    assert text.startswith("these are different programs: ")
    return text


def test_another_operator_is_named_with_its_positions() -> None:
    a = chain((TEX_C, TEX_W, TEX_W))
    calls = list(a.after.chain)
    calls[-1] = calls[-1]._replace(name="aten.mul.Tensor")
    assert (
        "operator 2 of a.pte is 'aten.add.Tensor' but operator 2 of b.pte is 'aten.mul.Tensor'"
    ) in refused(a, a.chained(*calls))


def test_a_clone_of_the_programs_own_is_hinted_at() -> None:
    def program(made: TensorRepr) -> Case:
        s = Sketch()
        x = s.input((4, 8), TEX_W)
        copy = s.call("aten.clone.default", x, None, s.tensor((4, 8), made))
        return s.finish(s.call("aten.relu.default", copy, s.tensor((4, 8), made)))

    assert "'aten.clone.default' but operator 1 of b.pte is 'aten.relu.default' (a clone" in (
        refused(program(TEX_W), program(TEX_C))
    )


def test_operators_that_are_missing() -> None:
    a, b = chain((TEX_C, TEX_W, TEX_W)), chain((TEX_C, TEX_C))
    text = refused(a, b)
    assert "operator 2 of a.pte, 'aten.add.Tensor', has no counterpart in b.pte" in text
    text = refused(b, a)
    assert "operator 2 of b.pte, 'aten.add.Tensor', has no counterpart in a.pte" in text


def with_argument(value: Any) -> Case:
    """An operator with a number."""
    case = chain((TEX_C, TEX_C))
    return case.value(case.arg("aten.add.Tensor", 2), value)


def test_another_shape_type_or_number() -> None:
    a = chain((TEX_C, TEX_C))
    out = a.arg("aten.add.Tensor", -1)
    where = "the output of 'aten.add.Tensor' (operator 0 of a.pte, 0 of b.pte)"
    assert (
        f"{where} is a 1×8×6×10 float32 tensor in a.pte but a 8×6×10 float32 tensor in b.pte"
    ) in refused(a, a.tensor(out, dims=(8, 6, 10)))
    assert f"{where} is a 1×8×6×10 float32 tensor in a.pte but a 1×8×6×10 float16" in refused(
        a, a.tensor(out, datatype=VkDataType.FLOAT16)
    )
    assert "argument 2 of 'aten.add.Tensor'" in refused(a, with_argument(Int(2)))
    assert "is 1 in a.pte but not given in b.pte" in refused(a, with_argument(Null()))


def test_numbers_that_the_builder_takes_for_the_same() -> None:
    assert diff(bare(with_argument(Int(1))), bare(with_argument(Double(1.0))))["is_equal"]
    nan = bare(with_argument(Double(float("nan"))))
    assert diff(nan, nan)["is_equal"]
    assert "nan" in refused(with_argument(Double(float("nan"))), with_argument(Double(1.0)))


def test_another_tensor_of_the_same_shape() -> None:
    def program(swapped: bool) -> Case:
        s = Sketch()
        x, y = (s.input((4, 8), TEX_W) for _ in range(2))
        args = (y, y) if swapped else (x, y)
        return s.finish(s.call("aten.add.Tensor", *args, 1, s.tensor((4, 8), TEX_W)))

    assert "another value, v" in refused(program(False), program(True))


def test_other_lists_inputs_outputs_and_constants() -> None:
    def cat(members: int) -> Case:
        s = Sketch()
        x = s.input((2, 8), TEX_W)
        return s.finish(s.call("aten.cat.default", (x,) * members, 0, s.tensor((4, 8), TEX_W)))

    assert "the length of argument 0 of 'aten.cat.default'" in refused(cat(2), cat(3))
    a = chain((TEX_C, TEX_C))
    x, out = a.after.input_ids[0], a.after.output_ids[0]
    more = a.written(values=(*a.after.values, a.after.values[x]))
    more = more.written(input_ids=(x, len(a.after.values)))
    assert "the number of inputs is 1 in a.pte but 2 in b.pte" in refused(a, more)
    assert "the number of outputs is 1" in refused(a, a.written(output_ids=(out, out)))
    assert "output 0 of the graph" in refused(a, a.written(output_ids=(x,)))
    b = float_chain()
    constants = (*b.after.constants, b.after.constants[0])
    assert "the number of constants is 4 in" in refused(b, b.written(constants=constants))


def test_a_long_name_or_shape_is_cut() -> None:
    a = chain((TEX_C, TEX_C))
    call = a.after.chain[0]
    text = refused(a, a.chained(call._replace(name="x" * 256)))
    assert "x" * 90 in text and "x" * 101 not in text
