"""The grammar of sizes and guards: what SymPy and torch write, and nothing that does anything."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.files.vetting.expressions import ExpressionError, check_guard, check_size

SIZES = [
    "s0",
    "4*s77 + 1",
    "-s0 // 2",
    "Symbol('s77', positive=True, integer=True)",
    "Add(Symbol('u0', integer=True), Integer(-1))",
    "Mul(Rational(1, 2), Symbol('s0'))",
    "FloorDiv(Symbol('s0', integer=True), Integer(2))",
    "Pow(Symbol('s0'), Integer(2))",
    "s0**2",
    "Max(1, Mod(s0, 2))",
    "(s0 > 1) & ~(s1 <= 4)",
    "Piecewise((s0, s0 > 1), (1, True))",
    "Float('0.5', precision=53)",
    "Eq(s0, oo)",
]
GUARDS = [
    "L['x'].size()[0] >= 2",
    "2*(L['x'].size()[0] // 2) <= 64 and L['args'][0]['k'].stride()[1] == 1",
    "not L['x'].dim() != max(1, 2)",
    "math.floor(L['x'].size()[0] / 2) % 3 == 0",
]
HOSTILE = [
    "__import__('os').system('true')",
    "().__class__.__base__.__subclasses__()",
    "s0.__class__",
    "Symbol('x', cls=1)",
    "Symbol('__import__')",
    "Symbol(Symbol('s0'))",
    "Lambda(s0, s0)",
    "lambdify(s0, s0)",
    "exec('1')",
    "eval(s0)",
    "open('x')",
    "[s0 for s0 in (1,)]",
    "(lambda: 1)()",
    "f'{s0}'",
    "'text'",
    "s0 if s1 else s2",
    "Max(*s0)",
    "FloorDiv(s0, b=2)",
    "(s0 := 1)",
    "s0\nexec('1')",
    "9**9**9",
    "s0 ** s1",
    "Pow(9, 999999)",
    "1 << 9999999",
    "9" * 40,
    "Float('__import__')",
    "",
    "(" * 5000,
    "-" * 200_000 + "1",
]


@pytest.mark.parametrize("text", SIZES)
def test_sizes_stay_as_they_are(text: str) -> None:
    assert check_size(text) == text


@pytest.mark.parametrize("text", GUARDS)
def test_guards_mean_what_they_meant(text: str) -> None:
    assert ast.dump(ast.parse(check_guard(text))) == ast.dump(ast.parse(text))


def test_what_follows_a_guard_is_left_out() -> None:
    assert check_guard("L['x'].size()[0] > 1  # why") == "L['x'].size()[0] > 1"


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_not_of_the_grammar_is_refused(text: str) -> None:
    for check in (check_size, check_guard):
        with pytest.raises(ExpressionError):
            check(text)


@pytest.mark.parametrize(
    "text", ["L", "L[0]", "x.size()", "L['x'].__class__", "L['x'].size(1)", "L['x y'].size()", "s0"]
)
def test_a_guard_asks_inputs_for_sizes_alone(text: str) -> None:
    with pytest.raises(ExpressionError):
        check_guard(text)


WORDS = st.sampled_from(
    (
        *("s0", "u1", "Max", "(", ")", ",", "+", "**", "2", "L", "[", "]", "'x'", ".", "size", "="),
        *("__import__", "lambda", ":", "exec", "Symbol", "integer", "True", " ", "\n", "#", "math"),
    )
)


@given(st.lists(WORDS, max_size=12).map("".join))
def test_nothing_but_the_grammar_comes_through(text: str) -> None:
    """What is taken has no names besides those that are known, and no attribute but a few."""
    for check in (check_size, check_guard):
        try:
            taken = check(text)
        except ExpressionError:
            continue
        for node in ast.walk(ast.parse(taken.strip(), mode="eval")):
            assert not isinstance(node, (ast.Lambda, ast.Starred, ast.NamedExpr, ast.JoinedStr))
            if isinstance(node, ast.Name):
                assert node.id in {"s0", "u1", "Max", "Symbol", "L", "math"}
            if isinstance(node, ast.Attribute):
                assert node.attr == "size"
