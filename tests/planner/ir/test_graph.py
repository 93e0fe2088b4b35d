"""Operators as columns are the operators that they were made of."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from planner.ir.graph import (
    Argument,
    Operator,
    Operators,
    Symbolic,
    Tensor,
    TensorArg,
    TensorListArg,
)
from schema import VkDataType

TENSORS = tuple(
    Tensor("", shape, dtype, constant)
    for shape in ((2, 3), (4,))
    for dtype in (VkDataType.FLOAT32, VkDataType.INT8)
    for constant in (False, True)
)
PLACES = st.integers(0, len(TENSORS) - 1)
LITERALS = st.sampled_from([1, True, 1.0, 0.0, -0.0, "1", None, (1, 2), (1.0, 2), Symbolic.VALUE])
ARGUMENTS: st.SearchStrategy[Argument] = st.one_of(
    PLACES.map(TensorArg),
    st.lists(st.none() | PLACES, min_size=1, max_size=3).map(lambda t: TensorListArg(tuple(t))),
    LITERALS,
)
OPERATORS = st.lists(
    st.builds(
        Operator,
        st.sampled_from(["a", "b"]),
        st.lists(ARGUMENTS, max_size=3).map(tuple),
        st.lists(PLACES, max_size=2).map(tuple),
    ),
    max_size=8,
)


def form(operator: Operator) -> str:
    """All that may tell operators apart: kinds of tensors, which are one, and literals."""
    row = [t for t in operator.row() if t is not None]
    kinds = [TENSORS[t] if t is not None else None for t in operator.row()]
    return repr((operator.general(), kinds, [row.index(t) for t in row]))


@settings(max_examples=200, deadline=None)
@given(OPERATORS)
def test_columns_have_the_operators(operators: list[Operator]) -> None:
    columns = Operators.of(operators)
    assert repr([*columns]) == repr(operators)
    assert columns == tuple(operators)
    assert [*columns.names()] == [operator.name for operator in operators]
    assert columns.outputs().tolist() == [t for o in operators for t in o.outputs]


@settings(max_examples=200, deadline=None)
@given(OPERATORS)
def test_operators_are_alike_where_nothing_but_tensors_differs(operators: list[Operator]) -> None:
    forms = [form(operator) for operator in operators]
    alike = Operators.of(operators).alike(TENSORS)
    assert alike.tolist() == [forms.index(one) for one in forms]
