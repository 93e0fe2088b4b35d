"""Known faults of kernels: how rows are read, which calls they concern."""

from __future__ import annotations

import json
from typing import Any

import pytest

from planner.errors import OptionError
from planner.ir.graph import Argument, Operator, Tensor, TensorArg, TensorListArg
from planner.ir.representation import ANY_BUFFER, ANY_TEXTURE, REPRS
from planner.kernels.faults import EFFECTS, Faults, builtin_faults, load_faults, parse_faults
from planner.kernels.releases import RELEASES, Runtime
from schema import VkDataType

ROW: dict[str, Any] = {
    "operators": ["mine.add.default"],
    "representations": ["buffer"],
    "effect": "wrong values",
    "source": "a run of mine",
}


def rows(**fields: Any) -> Faults:
    return parse_faults(json.dumps([{**ROW, **fields}]), "rows.json")


def concerned(faults: Faults, *args: Argument, shapes: tuple[tuple[int, ...], ...]) -> bool:
    """Whether a call with these arguments, and an output like the first tensor, has a fault."""
    tensors = [Tensor(f"t{i}", shape, VkDataType.FLOAT32) for i, shape in enumerate(shapes)]
    return bool(faults.of(Operator("mine.add.default", args, (0,)), tensors))


def test_the_built_in_rows_say_where_they_come_from() -> None:
    assert builtin_faults().rows
    for row in builtin_faults().rows:
        assert row.source.startswith("https://") or "run" in row.source
        assert row.seen
        assert row.state
        assert row.effect in EFFECTS


@pytest.mark.parametrize(
    ("when", "shape", "expected"),
    [
        ({"size": "argument 0", "at": -1, "not_multiple_of": 4}, (2, 6), True),
        ({"size": "argument 0", "at": -1, "not_multiple_of": 4}, (2, 8), False),
        ({"size": "argument 0", "at": -4, "more_than": 1}, (2, 3, 4, 5), True),
        ({"size": "argument 0", "at": -4, "more_than": 1}, (3, 4, 5), False),
        ({"size": "argument 0", "at": -4, "less_than": 2}, (3, 4, 5), True),
        ({"size": "argument 9", "at": -1, "is_not": 3}, (3,), False),
        ({"size": "output 0", "at": -1, "is": 3}, (3,), True),
        ({"size": "output 1", "at": -1, "is": 3}, (3,), False),
        ({"rank": "argument 0", "is": 2}, (3, 4), True),
        ({"rank": "argument 0", "is_not": 2}, (3, 4), False),
        ({"dtype": "argument 0", "is": "FLOAT32"}, (3,), True),
        ({"dtype": "argument 0", "is": "FLOAT16"}, (3,), False),
        ({"dtype": "argument 0", "is_none_of": ["FLOAT16", "INT32"]}, (3,), True),
        ({"dtype": "argument 0", "is_none_of": ["FLOAT16", "FLOAT32"]}, (3,), False),
        ({"dtype": "argument 9", "is_none_of": ["FLOAT16"]}, (3,), False),
        ({"value": "argument 1", "is": 7}, (3,), True),
        ({"value": "argument 2", "is": []}, (3,), True),
        ({"value": "argument 2", "is_not": []}, (3,), False),
        ({"value": "argument 3", "has": 2}, (3,), True),
        ({"value": "argument 0", "is": 0}, (3,), False),
        ({"value": "argument 9", "is": None}, (3,), False),
        ({"dims": "argument 3", "has": -1}, (1, 1, 3), True),
        ({"dims": "argument 3", "has": -1}, (1, 1, 1, 3), False),
        ({"dims": "argument 4", "is": [-3]}, (2, 3, 4), True),
        ({"size": "argument 5", "at": -1, "is": 3}, (3,), True),
        ({"value": "argument 1", "more_than": 6}, (3,), True),
        ({"value": "argument 2", "more_than": 6}, (3,), False),
        ({"members": "argument 5", "more_than": 2}, (3,), True),
        ({"members": "argument 5", "is": 2}, (3,), False),
        ({"members": "argument 0", "is": 1}, (3,), False),
        ({"members": "output 0", "is": 1}, (3,), False),
        ({"in_place": "output 0", "is": True}, (3,), True),
        ({"in_place": "output 1", "is": True}, (3,), False),
        ({"workgroup_x": "argument 0", "as": "texture:WIDTH_PACKED", "is": 3}, (2, 5, 10), True),
        ({"workgroup_x": "argument 0", "as": "texture:WIDTH_PACKED", "is": 3}, (2, 5, 6), False),
        ({"workgroup_x": "argument 0", "as": "texture:WIDTH_PACKED", "is": 2}, (2, 3, 5, 10), True),
        ({"workgroup_x": "argument 0", "as": "texture:WIDTH_PACKED", "is": 8}, (2, 5, 34), True),
        ({"workgroup_x": "argument 0", "as": "texture:WIDTH_PACKED", "is": 32}, (1, 10, 60), True),
        ({"workgroup_x": "argument 0", "as": "texture:WIDTH_PACKED", "is": 3}, (1,) * 5, False),
    ],
)
def test_conditions(when: dict[str, Any], shape: tuple[int, ...], expected: bool) -> None:
    args = (TensorArg(0), 7, (), (0, 2), -3, TensorListArg((1, None, 0)))
    found = concerned(rows(when=[when]), *args, shapes=(shape, (9,)))
    assert found is expected


def test_all_conditions_must_hold() -> None:
    both = [{"rank": "argument 0", "is": 1}, {"size": "argument 0", "at": -1, "is": 3}]
    assert concerned(rows(when=both), TensorArg(0), shapes=((3,),))
    assert not concerned(rows(when=both), TensorArg(0), shapes=((4,),))


def test_representations_and_operands() -> None:
    (row,) = rows(representations=["texture"], operands=["output 0"]).rows
    assert row.representations == ANY_TEXTURE
    texture, buffer = REPRS[0], REPRS[3]
    assert row.concerns("output", 0, texture)
    assert not row.concerns("argument", 0, texture)
    assert not row.concerns("output", 1, texture)
    assert not row.concerns("output", 0, buffer)
    (row,) = rows(representations=["any"]).rows
    assert all(row.concerns("output", 3, r) and row.concerns("argument", 3, r) for r in REPRS)
    (row,) = rows().rows
    assert row.representations & ANY_BUFFER == ANY_BUFFER


@pytest.mark.parametrize(
    ("runtime", "releases"),
    [
        ("1.3+", RELEASES[2:]),
        ("1.2", ("1.2",)),
        (["1.1", "1.4"], ("1.1", "1.4")),
        (None, RELEASES),
    ],
)
def test_releases(runtime: Any, releases: tuple[str, ...]) -> None:
    faults = rows(runtime=runtime)
    assert faults.rows[0].releases == releases
    for release in RELEASES:
        found = faults.for_device(Runtime(release, release), None).rows
        assert bool(found) == (release in releases)


def test_gpus() -> None:
    faults = rows(gpus=["Adreno"])
    assert faults.for_device(Runtime(), "Qualcomm ADRENO (TM) 740").rows
    assert not faults.for_device(Runtime(), "Mali-G715").rows
    assert not faults.for_device(Runtime(), None).rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "invalid JSON"),
        ("{}", "it is not a list of rows"),
        ("[1]", "row 0: it is not an object"),
        ([{**ROW, "operator": "x"}], "row 0: unknown field 'operator': use effect, gpus"),
        ([ROW, {**ROW, "operators": []}], "row 1: operators should be a list of texts"),
        ([{**ROW, "operators": "aten.add"}], "operators is not a list"),
        ([{**ROW, "representations": ["texture:4W4C"]}], "unknown representation 'texture:4W4C'"),
        ([{**ROW, "effect": "slow"}], "effect should be one of wrong values, does not load"),
        ([{**ROW, "source": ""}], "source should be a text"),
        ([{**ROW, "operands": ["input 0"]}], "'input 0' is not an operand: write argument 0"),
        ([{**ROW, "operands": ["output x"]}], "'output x' is not an operand"),
        ([{**ROW, "runtime": "0.9"}], "unknown runtime '0.9'"),
        ([{**ROW, "runtime": 1.3}], "runtime should be a release"),
        ([{**ROW, "when": [{"rank": "argument 0"}]}], "one subject (size, rank, ...) and one test"),
        ([{**ROW, "when": [{"shape": "argument 0", "is": 1}]}], "unknown condition 'shape'"),
        ([{**ROW, "when": [{"size": "argument 0", "is": 1}]}], "size needs at: -1 for the last"),
        ([{**ROW, "when": [{"rank": "argument 0", "more_than": "x"}]}], "should be a number"),
        ([{**ROW, "when": [{"dtype": "argument 0", "is": "FLOAT"}]}], "unknown dtype 'FLOAT'"),
        (
            [{**ROW, "when": [{"rank": "argument 0", "is_none_of": 3}]}],
            "is_none_of should be a list",
        ),
        ([{**ROW, "when": ["x"]}], "a condition in when is not an object"),
        ([{**ROW, "when": [{"rank": "argument 0", "is": {}}]}], "is should be a text, a number"),
        ([{**ROW, "when": [{"dtype": "argument 0", "is": [[]]}]}], "is should be a text, a number"),
        ([{**ROW, "when": [{"workgroup_x": "argument 0", "is": 3}]}], "workgroup_x needs as: a"),
    ],
)
def test_wrong_rows_are_named(text: Any, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_faults(text if isinstance(text, str) else json.dumps(text), "rows.json")
    assert message in str(caught.value)
    assert str(caught.value).startswith("rows.json")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(OptionError, match="cannot read the faults to avoid, /nowhere"):
        load_faults("/nowhere")


def test_a_row_may_be_of_any_operator() -> None:
    faults = rows(operators=["*"], when=[{"in_place": "output 0", "is": True}])
    assert concerned(faults, TensorArg(0), shapes=((3,),))
    assert not concerned(faults, TensorArg(1), shapes=((3,), (3,)))
    assert faults.rows[0].is_of_any_operator
