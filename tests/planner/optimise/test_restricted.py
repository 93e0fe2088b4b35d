"""Plans within a user's restrictions are the best that keep them; errors name what is wrong."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.costs.by_profile import ProfileCosts
from planner.costs.profile_file import load_profile
from planner.errors import ConflictingLimitsError, NoRepresentationError, OptionError
from planner.ir.graph import LayoutGraph, Layouts, Operator, Tensor, TensorArg
from planner.ir.representation import REPRS, TensorRepr
from planner.kernels.limits import Limits
from planner.kernels.restrictions import Restriction, parse_restrictions
from planner.optimise.plan import LayoutPlan, plan_graph
from planner.optimise.restricted import check_names
from schema import VkDataType
from tests.planner.optimise.brute_force import graphs, layouts, optimal_plan, restrictions

COSTS = ProfileCosts(load_profile("bytes"), "repack")
RELU = "aten.relu.default"


@pytest.mark.slow
@settings(max_examples=100)
@given(
    graphs().flatmap(
        lambda graph: st.tuples(st.just(graph), st.none() | layouts(graph), restrictions(graph))
    )
)
def test_a_plan_is_the_best_within_restrictions(
    program: tuple[LayoutGraph, Layouts | None, tuple[Restriction, ...]],
) -> None:
    graph, given_layouts, wanted = program
    optimal_plan(graph, COSTS, (), given_layouts, wanted)


def chain(count: int = 3, *, textures_first: bool = False) -> LayoutGraph:
    """Activations one after another."""
    tensors = tuple(Tensor(f"v{i}", (1, 8, 4, 4), VkDataType.FLOAT32) for i in range(count + 1))
    operators = tuple(Operator(RELU, (TensorArg(i),), (i + 1,)) for i in range(count))
    return LayoutGraph("chain", tensors, operators, (0,), (count,), textures_first)


def planned(graph: LayoutGraph, **wanted: object) -> LayoutPlan:
    limits = Limits(restrictions=parse_restrictions(**wanted))  # type: ignore[arg-type]
    return plan_graph(graph, limits, COSTS)


def made(plan: LayoutPlan) -> list[str]:
    return [str(representation) for representation in plan.made]


def test_an_input_is_copied_for_its_only_reader() -> None:
    plan = planned(chain(), input_layout="buffer:HEIGHT_PACKED", pin=["0=texture:WIDTH_PACKED"])
    assert made(plan) == ["buffer:HEIGHT_PACKED"] + ["texture:WIDTH_PACKED"] * 3
    assert [(t.tensor, str(t.source), str(t.target)) for t in plan.transitions] == [
        (0, "buffer:HEIGHT_PACKED", "texture:WIDTH_PACKED")
    ]


def test_a_pin_is_of_the_tensor_and_a_ban_of_its_copies_as_well() -> None:
    wanted = ["v1=buffer:WIDTH_PACKED", "1=texture:WIDTH_PACKED"]
    plan = planned(chain(), pin=wanted)
    assert [t.tensor for t in plan.transitions] == [1]
    with pytest.raises(ConflictingLimitsError) as failed:
        planned(chain(), pin=wanted[1:], forbid=["v1:texture", "4W4C"])
    assert failed.value.what == (
        "chain: no plan keeps --pin 1=texture:WIDTH_PACKED and --forbid v1:texture together"
    )


def test_outputs_and_operands_are_restricted_by_name() -> None:
    plan = planned(chain(), output_layout="buffer:HEIGHT_PACKED", pin=["0@argument0=texture"])
    assert made(plan)[-1] == "buffer:HEIGHT_PACKED"
    assert made(plan)[1].startswith("texture")


def test_textures_are_preferred_only_where_restrictions_leave_them() -> None:
    graph = chain(textures_first=True)
    plan = planned(graph, pin=["v1=buffer:WIDTH_PACKED", "2=texture:HEIGHT_PACKED"])
    assert made(plan)[1:] == ["buffer:WIDTH_PACKED", *made(plan)[2:]]
    assert made(plan)[3] == "texture:HEIGHT_PACKED"


def test_delegates_are_told_apart() -> None:
    graph = replace(chain(), delegates=frozenset({1}))
    assert made(planned(graph, pin=["1/v1=buffer:HEIGHT_PACKED"]))[1] == "buffer:HEIGHT_PACKED"
    assert made(planned(graph, pin=["0/v1=buffer:HEIGHT_PACKED"]))[1] != "buffer:HEIGHT_PACKED"
    (other,) = parse_restrictions(pin=["0/v1=texture"])
    with pytest.raises(OptionError, match="--pin 0/v1=texture names nothing in x"):
        check_names([other], [graph], "x")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("v11=texture", "did you mean v1 or "),
        ("aten.rleu.default=texture", "did you mean aten.relu.default"),
        ("7=texture", "show lists its operators and tensors"),
        ("input@3=texture", "its input has no such operand or tensor"),
        ("0@argument4=texture", "its 0 has no such operand"),
        ("zebra=texture", "layout-planner show lists"),
    ],
)
def test_a_name_of_nothing_is_told_with_near_ones(name: str, hint: str) -> None:
    wanted = parse_restrictions(pin=[name])
    with pytest.raises(OptionError, match=f"--pin {name} names nothing in model.pte: .*{hint}"):
        check_names(wanted, [chain()], "model.pte")


def test_names_of_an_exported_program_are_known() -> None:
    graph = replace(chain(), aliases={1: "aten_relu"})
    wanted = parse_restrictions(pin=["aten_relu=buffer:HEIGHT_PACKED"])
    check_names(wanted, [graph], "x")
    assert made(plan_graph(graph, Limits(restrictions=wanted), COSTS))[1] == "buffer:HEIGHT_PACKED"


def parsed(**wanted: object) -> set[TensorRepr]:
    (restriction,) = parse_restrictions(**wanted)  # type: ignore[arg-type]
    return set(restriction.allowed)


def test_representations_are_storages_layouts_or_both() -> None:
    assert parsed(pin=["v1=buffer"]) == {r for r in REPRS if r.is_buffer}
    assert {str(r) for r in parsed(pin=["v1=texture:width_packed"])} == {"texture:WIDTH_PACKED"}
    assert {str(r) for r in parsed(pin=["v1=TENSOR_WIDTH_PACKED"])} == {
        *("texture:WIDTH_PACKED", "buffer:WIDTH_PACKED")
    }
    assert parsed(forbid=["v1:texture:WIDTH_PACKED"]) == parsed(forbid=["texture:WIDTH_PACKED"])
    assert parsed(forbid=["buffer"]) == {r for r in REPRS if not r.is_buffer}


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"pin": ["v1"]}, "does not say what to pin to what"),
        ({"pin": ["v1=image"]}, "--pin: 'image' is not a representation"),
        ({"pin": ["v1=texture:4C1W"]}, "'texture:4C1W' is not a representation"),
        ({"pin": ["=texture"]}, "'' is not a name"),
        ({"pin": ["v1@0=texture"]}, "a tensor has no operands"),
        ({"pin": ["3@0=texture"]}, "write 3@argument0 or @output0"),
        ({"pin": ["input@argument0=texture"]}, "write input@0"),
        ({"forbid": ["a b:texture"]}, "'a b' is not a name"),
        ({"forbid": [""]}, "'' is not a representation"),
        ({"forbid": ["v1:"]}, "'' is not a representation"),
        ({"pin": ["v1="]}, "'' is not a representation"),
        ({"input_layout": "wide"}, "--input-layout: 'wide' is not a representation"),
    ],
)
def test_a_wrong_restriction_is_told(wanted: dict[str, object], error: str) -> None:
    with pytest.raises(OptionError, match=error):
        parse_restrictions(**wanted)  # type: ignore[arg-type]


def test_limits_of_the_device_are_no_conflict_of_the_users() -> None:
    limits = Limits(
        excluded_layouts=frozenset(r.memory_layout for r in REPRS),
        restrictions=parse_restrictions(forbid=["4W4C"]),
    )
    with pytest.raises(NoRepresentationError) as failed:
        plan_graph(chain(), limits, COSTS)
    assert not isinstance(failed.value, ConflictingLimitsError)


def test_the_smallest_conflict_is_named_and_the_fewest_to_drop() -> None:
    wanted = ["v1=buffer", "v2=texture", "v3=buffer:HEIGHT_PACKED", "2@output0=texture"]
    with pytest.raises(ConflictingLimitsError) as failed:
        planned(chain(), pin=wanted, forbid=["v2:texture"])
    assert failed.value.what == (
        "chain: no plan keeps --pin v2=texture and --forbid v2:texture together"
        " (at least 2 limits have to go, such as --pin v2=texture and --pin 2@output0=texture)"
    )
    with pytest.raises(ConflictingLimitsError, match="no plan keeps --pin v1=4W4C: drop one of"):
        planned(chain(), pin=["v1=4W4C"])


@pytest.mark.slow
@settings(max_examples=60)
@given(graphs().flatmap(lambda g: st.tuples(st.just(g), restrictions(g), restrictions(g))))
def test_conflicts_are_the_smallest_of_all(
    program: tuple[LayoutGraph, tuple[Restriction, ...], tuple[Restriction, ...]],
) -> None:
    graph, wanted = program[0], tuple(dict.fromkeys(program[1] + program[2]))

    def holds(chosen: tuple[Restriction, ...]) -> bool:
        try:
            plan_graph(graph, Limits(restrictions=chosen), COSTS)
        except NoRepresentationError:
            return False
        return True

    try:
        plan_graph(graph, Limits(restrictions=wanted), COSTS)
    except ConflictingLimitsError as error:
        sizes = range(len(wanted) + 1)
        least = min(s for s in sizes for c in combinations(wanted, s) if not holds(c))
        assert error.what.split(" (at least")[0].count("--") == least
        fewest = min(s for s in sizes for c in combinations(wanted, len(wanted) - s) if holds(c))
        if "(at least" in error.what:
            assert error.what.split("(at least")[1].count("--") == fewest
        else:
            assert fewest == 1
