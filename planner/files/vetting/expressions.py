"""Expressions in exported programs, in a small grammar of our own; torch evaluates them as Python.

Sizes that are not fixed are written as SymPy prints them (``s0 + 1``), or as it would build them
(``Add(Symbol('s0', integer=True), Integer(1))``), and guards as Python that asks inputs for their
sizes (``L['x'].size()[0] >= 2``).
"""

from __future__ import annotations

import ast
import re
from typing import Final

_LONGEST: Final = 10_000
_LARGEST: Final = 2**64
_LARGEST_POWER: Final = 16
_SYMBOL: Final = re.compile(r"[a-z]{1,4}\d{1,9}", re.ASCII)
_KEY: Final = re.compile(r"\w+", re.ASCII)
_CONSTANTS: Final = frozenset({"oo", "zoo", "nan", "int_oo", "true", "false"})
# Source: the functions that torch 2.13 gives to SymPy (``torch/_export/serde/serialize.py``,
# ``sympy_functions``), and those that SymPy itself prints for sizes.
_FUNCTIONS: Final = frozenset(
    {
        *("FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod", "CleanDiv", "CeilToInt"),
        *("FloorToInt", "CeilDiv", "LShift", "RShift", "PowByNatural", "FloatPow"),
        *("FloatTrueDiv", "IntTrueDiv", "IsNonOverlappingAndDenseIndicator", "TruncToFloat"),
        *("TruncToInt", "RoundToInt", "RoundDecimal", "ToFloat", "Identity"),
        *("Max", "Min", "Abs", "floor", "ceiling", "sqrt", "Eq", "Ne", "Lt", "Le", "Gt", "Ge"),
        *("And", "Or", "Not", "Piecewise", "Add", "Mul", "Pow", "Integer", "Rational", "Tuple"),
        *("Equality", "Unequality", "LessThan", "StrictLessThan", "GreaterThan"),
        *("StrictGreaterThan", "ExprCondPair", "Infinity", "NegativeInfinity", "NegativeOne"),
        *("Zero", "One", "Half", "BooleanTrue", "BooleanFalse", "BitwiseFn_bitwise_and"),
        *("BitwiseFn_bitwise_or", "BitwiseFn_bitwise_xor"),
    }
)
_ASSUMPTIONS: Final = frozenset(
    {"integer", "positive", "nonnegative", "negative", "nonpositive", "real", "zero", "nonzero"}
)
_DIGITS: Final = re.compile(r"[-+]?\d{1,40}(?:\.\d{0,40})?(?:[eE][-+]?\d{1,4})?", re.ASCII)
_GUARD_FUNCTIONS: Final = frozenset({"max", "min", "abs", "int", "float", "round"})
_MATH: Final = frozenset({"floor", "ceil", "trunc", "sqrt", "pow"})
_METHODS: Final = frozenset({"size", "stride", "storage_offset", "dim", "numel"})
_OPERATORS: Final = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow),
    *(ast.BitAnd, ast.BitOr, ast.LShift, ast.RShift),
)
_UNARY: Final = (ast.UAdd, ast.USub, ast.Not, ast.Invert)
_COMPARISONS: Final = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)


class ExpressionError(ValueError):
    """An expression has something in it that the grammar does not have."""


def check_size(text: str) -> str:
    """An expression of sizes, as it is; raises ``ExpressionError``."""
    _check(_parsed(text), is_guard=False)
    return text


def check_guard(text: str) -> str:
    """A guard, written anew without anything that Python does not evaluate; as ``check_size``."""
    tree = _parsed(text)
    _check(tree, is_guard=True)
    return ast.unparse(tree)


def _parsed(text: str) -> ast.expr:
    if len(text) > _LONGEST:
        raise ExpressionError(f"it has {len(text)} characters")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ExpressionError("it is no expression") from error


def _check(node: ast.expr, *, is_guard: bool) -> None:
    """Looks at an expression and all within it."""
    waiting = [node]
    while waiting:
        found = waiting.pop()
        waiting += _parts(found, is_guard=is_guard)


def _parts(node: ast.expr, *, is_guard: bool) -> list[ast.expr]:
    """The expressions right below one that the grammar has."""
    match node:
        case ast.Constant(value=bool()):
            return []
        case ast.Constant(value=int(number)) if abs(number) <= _LARGEST:
            return []
        case ast.Constant(value=float()):
            return []
        case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _OPERATORS):
            if isinstance(op, (ast.Pow, ast.LShift)) and not _is_small(right):
                raise ExpressionError(f"{ast.unparse(node)!r} may be too large to compute")
            return [left, right]
        case ast.UnaryOp(op=op, operand=operand) if isinstance(op, _UNARY):
            return [operand]
        case ast.BoolOp(values=values):
            return list(values)
        case ast.Compare(left=left, ops=ops, comparators=others) if all(
            isinstance(op, _COMPARISONS) for op in ops
        ):
            return [left, *others]
        case _:
            return _guard_parts(node) if is_guard else _size_parts(node)


def _is_small(power: ast.expr) -> bool:
    match power:
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _is_small(operand)
        case ast.Constant(value=int() | float() as number):
            return abs(number) <= _LARGEST_POWER
        case ast.Call(func=ast.Name(id="Integer" | "Rational"), args=args, keywords=[]):
            return all(map(_is_small, args))
        case _:
            return False


def _is_assumption(keyword: ast.keyword) -> bool:
    is_flag = isinstance(keyword.value, ast.Constant) and type(keyword.value.value) is bool
    return keyword.arg in _ASSUMPTIONS and is_flag


def _is_precision(keyword: ast.keyword) -> bool:
    is_number = isinstance(keyword.value, ast.Constant) and type(keyword.value.value) is int
    return keyword.arg in ("precision", "dps") and is_number


def _size_parts(node: ast.expr) -> list[ast.expr]:
    match node:
        case ast.Name(id=name) if _SYMBOL.fullmatch(name) or name in _CONSTANTS:
            return []
        case ast.Call(
            func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))], keywords=assumptions
        ) if _SYMBOL.fullmatch(name) and all(map(_is_assumption, assumptions)):
            return []
        case ast.Call(
            func=ast.Name(id="Float"), args=[ast.Constant(value=str(digits))], keywords=precision
        ) if _DIGITS.fullmatch(digits) and all(map(_is_precision, precision)):
            return []
        case ast.Call(func=ast.Name(id="Pow"), args=[base, power], keywords=[]):
            if not _is_small(power):
                raise ExpressionError(f"{ast.unparse(node)!r} may be too large to compute")
            return [base]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return args
        case ast.Tuple(elts=elements):
            # Pieces of a Piecewise.
            return elements
        case _:
            raise ExpressionError(f"{ast.unparse(node)!r} is not of sizes")


def _guard_parts(node: ast.expr) -> list[ast.expr]:
    match node:
        case ast.Subscript(value=value, slice=ast.Constant(value=str(key))) if _KEY.fullmatch(key):
            return [] if _is_inputs(value) else [value]
        case ast.Subscript(value=value, slice=ast.Constant(value=int())):
            return [value]
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="math"), attr=name), args=args, keywords=[]
        ) if name in _MATH:
            return args
        case ast.Call(func=ast.Attribute(value=value, attr=name), args=[], keywords=[]) if (
            name in _METHODS
        ):
            return [value]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _GUARD_FUNCTIONS:
            return args
        case _:
            raise ExpressionError(f"{ast.unparse(node)!r} does not ask an input for its size")


def _is_inputs(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "L"
