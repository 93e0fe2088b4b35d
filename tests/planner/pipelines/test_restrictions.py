"""Restrictions of lowered programs: planned, checked, and found again in files."""

from __future__ import annotations

import pytest

from planner.costs.by_profile import ProfileSource
from planner.costs.profile_file import load_profile
from planner.errors import OptionError, VerificationError
from planner.ir.representation import TensorRepr
from planner.kernels.limits import Limits
from planner.kernels.restrictions import Restriction, parse_restrictions
from planner.options import PlanOptions, make_options, parse_limits
from planner.pipelines.checking import check_program
from planner.pipelines.lowered import replan
from planner.verify import Named, verify_delegate
from planner.vkgraph.reader import read_vkgraph, without_representations
from schema import plan, vkgraph
from tests.api.graphs import graph

DATA = graph(8, 3)
"""Three activations: v0 is the input, v3, v6 and v9 what they make; clones are at 0, 2 and 4."""


def wanted(**asked: object) -> tuple[Restriction, ...]:
    return parse_restrictions(**asked)  # type: ignore[arg-type]


def test_the_plan_says_which_limits_it_keeps() -> None:
    options = make_options("bytes", forbid=["texture"], pin=["v3=buffer:HEIGHT_PACKED"])
    planned = replan(DATA, "x.pte", options)
    words = ("pin v3=buffer:HEIGHT_PACKED", "forbid texture")
    assert planned.report.limits == planned.program.limits == words
    assert planned.report.document()["limits"] == list(words)
    assert plan.decode(planned.flatbuffer()).limits == words
    assert {t.storage_type.name for t in planned.program.delegates[0].tensors} == {"BUFFER"}
    # Without limits the bytes are those that they were.
    assert b"limits" not in replan(DATA, "x.pte", make_options("bytes")).flatbuffer()
    assert make_options("bytes", **parse_limits(words)).restrictions == options.restrictions


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"pin": ["v6=buffer"]}, r"operator 1 \(aten.relu.default\), output 0: it is texture"),
        ({"pin": ["3=buffer"]}, "operator 1 .*, argument 0: it is texture"),
        ({"pin": ["aten.relu@output0=buffer"]}, "operator 0 .*, output 0: it is"),
        ({"forbid": ["texture"]}, "it is texture:.*, against --forbid texture"),
        ({"forbid": ["v0:texture"]}, "operator 0 .*, argument 0: .*against --forbid v0:texture"),
        ({"input_layout": "buffer"}, "argument 0: it is texture.*--input-layout buffer"),
        ({"output_layout": "buffer"}, "operator 2 .*, output 0: .*--output-layout buffer"),
    ],
)
def test_the_checker_refuses_a_plan_that_breaks_a_restriction(
    asked: dict[str, object], where: str
) -> None:
    planned = replan(DATA, "x.pte", make_options("bytes"))
    source = read_vkgraph(vkgraph.decode(DATA))

    def verify(options: PlanOptions, limits: Limits) -> None:
        verify_delegate(
            planned.program.delegates[0],
            without_representations(source.written),
            costs=ProfileSource(load_profile("bytes")),
            objective=options.objective,
            limits=limits,
            named=Named((0,), source.positions),
        )

    verify(PlanOptions(), Limits(restrictions=wanted(forbid=["buffer"], pin=["5=texture"])))
    with pytest.raises(VerificationError, match=where):
        verify(PlanOptions(), Limits(restrictions=wanted(**asked)))
    # What the planner makes of it passes.
    replan(DATA, "x.pte", make_options("bytes", **asked))  # type: ignore[arg-type]


def test_a_copy_is_of_the_tensor_that_is_forbidden() -> None:
    """A file's transitions are read as copies, and so is what a plan adds."""
    found = check_program(DATA, "x", restrictions=wanted(forbid=["v3:HEIGHT_PACKED"]))
    assert [(f.kind, f.place) for f in found.findings] == [
        ("restriction", "operator 1 (aten.relu.default), output 0")
    ]
    found = check_program(DATA, "x", restrictions=wanted(forbid=["v3:WIDTH_PACKED"]))
    assert [(f.kind, f.place) for f in found.findings] == [
        ("restriction", "operator 2 (aten.clone.default), output 0")
    ]
    assert not check_program(DATA, "x", restrictions=wanted(pin=["v3=HEIGHT_PACKED"])).findings
    with pytest.raises(OptionError, match="--pin v1=texture names nothing in x"):
        check_program(DATA, "x", restrictions=wanted(pin=["v1=texture"]))


def test_names_are_those_of_the_file_that_was_handed_in() -> None:
    with pytest.raises(OptionError, match=r"--pin 2=texture names nothing in x\.pte"):
        replan(DATA, "x.pte", make_options("bytes", pin=["2=texture"]))
    planned = replan(DATA, "x.pte", make_options("bytes", pin=["3=buffer:WIDTH_PACKED"]))
    tensors = planned.program.delegates[0].tensors
    layouts = {str(TensorRepr(t.storage_type, t.memory_layout)) for t in tensors}
    assert layouts == {"buffer:WIDTH_PACKED"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("colour red", "'colour red' is not a limit: write one of pin, forbid, input-layout"),
        ("pin", "'pin' is not a limit"),
        ("pin x", "does not say what to pin to what"),
    ],
)
def test_a_wrong_limit_in_words_is_told(text: str, error: str) -> None:
    with pytest.raises(OptionError, match=error):
        make_options(**parse_limits([text]))
    with pytest.raises(OptionError, match="input-layout is texture and buffer: name one"):
        parse_limits(["input-layout texture", "--input-layout buffer"])
