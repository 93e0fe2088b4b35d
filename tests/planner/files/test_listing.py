"""What a file holds is told the same from every kind of file, and from none but these."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import InputError, Remedy
from planner.files.listing import describe, read_listing
from planner.optimise.memory import used_bytes
from schema import (
    PlannedProgram,
    TensorPlan,
    VkDataType,
    VkMemoryLayout,
    VkTensor,
    join_delegate,
    plan,
    vkgraph,
)
from tests.planner.verify.sketches import (
    TEX_C,
    Case,
    Sketch,
    concatenation,
    float_chain,
    group_norm,
    into_convolution,
    quantized,
    shared_copy,
)

CASES = (float_chain, shared_copy, concatenation, quantized, into_convolution, group_norm)


def planned(*cases: Case) -> bytes:
    """The planned program of these delegates."""
    return plan.encode(
        PlannedProgram(
            planner_version="1",
            source_name="m.pt2",
            source_sha256="",
            profile_name="bytes",
            profile_hash="",
            cost_unit="bytes",
            objective="repack",
            texture_limits=(1, 2, 3),
            excluded_layouts=(VkMemoryLayout.PACKED_INT8_4W,),
            delegates=tuple(replace(c.plan, graph=vkgraph.encode(c.after)) for c in cases),
            total=cases[0].plan.figures,
        )
    )


def bare(case: Case) -> bytes:
    return vkgraph.encode(case.after)


def only(description: dict[str, Any]) -> dict[str, Any]:
    (delegate,) = description["delegates"]
    assert isinstance(delegate, dict)
    return delegate


@pytest.mark.parametrize("make", CASES)
def test_operators_are_those_of_the_chain(make: Any) -> None:
    case: Case = make()
    delegate = only(describe(bare(case), "m"))
    operators = delegate["operators"]
    assert [(o["index"], o["name"], o["node_id"]) for o in operators] == [
        (index, call.name, call.node_id) for index, call in enumerate(case.after.chain)
    ]
    assert [len(o["arguments"]) for o in operators] == [len(c.args) - 1 for c in case.after.chain]
    claimed = {t.operator_index for t in case.plan.transitions}
    assert {o["index"] for o in operators if o["transition"]} == claimed
    tensors = [v for v in case.after.values if isinstance(v, VkTensor)]
    totals = delegate["totals"]
    assert totals["operators"] == len(operators)
    assert totals["transitions"] == len(claimed)
    assert sum(totals["tensors"].values()) + totals["constants"] == len(tensors)
    assert totals["memory_bytes"] == used_bytes(case.after)


def test_every_kind_of_value() -> None:
    s = Sketch()
    x = s.input((1, 8, 6, 10), TEX_C)
    out = s.tensor((1, 8, 6, 10), TEX_C)
    weight = s.constant((4, 10), VkDataType.FLOAT16)
    scalars = (7, True, 0.5, float("inf"), "relu", None)
    args = ((x, x), weight, [1, 2], (s.symint(), 3), *scalars)
    s.call("custom.op", *args, out)
    operator = only(describe(bare(s.finish(out)), "m"))["operators"][0]
    tensor = {
        "kind": "tensor",
        "value_id": x.after,
        "name": None,
        "dims": [1, 8, 6, 10],
        "dtype": "float32",
        "representation": "texture:CHANNELS_PACKED",
        "constant": False,
    }
    constant = {
        "kind": "tensor",
        "value_id": weight.after,
        "name": None,
        "dims": [4, 10],
        "dtype": "float16",
        "representation": None,
        "constant": True,
    }
    both, single, numbers, sizes = operator["arguments"][:4]
    assert both == {"kind": "list", "members": [tensor, tensor]}
    assert single == constant
    assert numbers["members"] == [{"kind": "int", "value": 1}, {"kind": "int", "value": 2}]
    assert sizes["members"][0]["kind"] == "symbolic"
    assert operator["arguments"][4:] == [
        {"kind": "int", "value": 7},
        {"kind": "bool", "value": True},
        {"kind": "float", "value": 0.5},
        {"kind": "float", "value": "inf"},
        {"kind": "string", "value": "relu"},
        {"kind": "null"},
    ]
    assert operator["outputs"] == [{**tensor, "value_id": out.after}]


def test_outputs_in_a_list_are_outputs_each() -> None:
    operators = only(describe(bare(group_norm()), "m"))["operators"]
    (norm,) = [o for o in operators if o["name"] == "aten.native_group_norm.default"]
    assert [o["kind"] for o in norm["outputs"]] == ["tensor"] * 3


def test_kinds_hold_the_same() -> None:
    case = quantized()
    graph = bare(case)
    kinds = {"vkgraph": graph, "delegate": join_delegate(graph, b"1234"), "plan": planned(case)}
    shown = {kind: describe(data, "m") for kind, data in kinds.items()}
    assert all(shown[kind]["kind"] == kind for kind in kinds)
    operators = only(shown["vkgraph"])["operators"]
    assert only(shown["delegate"])["operators"] == operators
    unnamed = json.loads(json.dumps(only(shown["plan"])["operators"]))
    for operator in unnamed:
        for value in (*operator["arguments"], *operator["outputs"]):
            if value["kind"] == "tensor":
                value["name"] = None
    assert unnamed == operators


def test_a_plan_has_names_and_figures() -> None:
    case = float_chain()
    first, second = case.plan.tensors[:2]
    named = case.claimed(
        tensors=(
            replace(first, name="x"),
            replace(second, name=f"v{second.value_id}"),
            TensorPlan(10**6, "nowhere", second.storage_type, second.memory_layout),
        )
    )
    description = describe(planned(named, shared_copy()), "m.plan")
    assert description["source"]["name"] == "m.pt2"
    assert (description["profile"]["name"], description["unit"]) == ("bytes", "bytes")
    assert description["excluded_layouts"] == ["PACKED_INT8_4W"]
    assert len(description["delegates"]) == 2
    figures = description["delegates"][0]["figures"]
    assert figures["status"] == "OPTIMAL"
    assert figures["repack_cost"] == case.plan.figures.repack_cost
    (delegate, _) = description["delegates"]
    assert delegate["inputs"][0]["name"] == "x"
    names = {
        v["name"] for o in delegate["operators"] for v in o["outputs"] if v["kind"] == "tensor"
    }
    assert names == {None}  # the id again is no name


def test_figures_that_are_no_numbers_are_json_still() -> None:
    description = describe(planned(float_chain().figures(repack_cost=float("nan"))), "m")
    assert only(description)["figures"]["repack_cost"] == "nan"
    json.dumps(description, allow_nan=False)


def archive(member: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr(member, "pt2")
    return file.getvalue()


def test_an_exported_program_is_to_be_planned_first() -> None:
    with pytest.raises(InputError) as caught:
        describe(archive("m/archive_format"), "m.pt2")
    assert "m.pt2 is an exported program, which has no layouts yet" in str(caught.value)
    assert caught.value.remedies == (Remedy.PLAN_FIRST,)


@pytest.mark.parametrize("data", [b"", b"hello", bytes(100), archive("readme.txt")])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"lowered program \(\.pte\), a planned program, a VkG"):
        describe(data, "m.bin")


def test_damage_is_placed() -> None:
    graph = bare(float_chain())
    with pytest.raises(InputError, match=r"m\.bin, delegate 0 is damaged: "):
        describe(graph[: len(graph) // 2], "m.bin")
    program = planned(float_chain(), float_chain().claimed())
    with pytest.raises(InputError, match=r"m\.plan is damaged: "):
        describe(program[:-200], "m.plan")
    decoded = plan.decode(program)
    broken = replace(decoded.delegates[1], graph=graph[:40])
    damaged = plan.encode(replace(decoded, delegates=(decoded.delegates[0], broken)))
    with pytest.raises(InputError, match=r"m\.plan, delegate 1 is damaged: graph"):
        describe(damaged, "m.plan")


def test_a_graph_that_makes_no_sense_is_placed() -> None:
    case = float_chain()
    source = case.arg("aten.linear.default", 0)
    with pytest.raises(InputError, match="m, delegate 0, operator"):
        describe(bare(case.call(0, 0, source)), "m")


@given(st.sampled_from(CASES), st.data())
def test_damaged_bytes_are_refused_or_listed(make: Any, data: st.DataObject) -> None:
    graph = bytearray(bare(make()))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(graph) - 1))
        graph[at] = data.draw(st.integers(0, 255))
    try:
        description = describe(bytes(graph), "m")
    except InputError as error:
        assert str(error).startswith("m")
    else:
        json.dumps(description, allow_nan=False)
        assert len(read_listing(bytes(graph), "m").delegates) == 1
