"""toulbar2's CFN format: JSON, with costs that are decimal numbers and may be below 0.

Decimal numbers become integers: all are multiplied by the same power of 10, as many places as the
most exact of them has. Source of the facts: toulbar2's documentation, "cfn format".
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from solver.formats.network import Network, dense, raised
from solver.problem import FORBIDDEN, LIMIT, Costs, ProblemError


def read(text: str) -> Network:
    """The network of a file's text; raises ``ProblemError``."""
    try:
        document = json.loads(text, parse_float=Decimal, parse_int=Decimal)
        top = _top(document["problem"])
        variables, functions = document["variables"], document["functions"]
        names = tuple(variables)
        values = [_values(variables[name]) for name in names]
        listed = functions.values() if isinstance(functions, dict) else functions
        found = [_function(function, names, values, top) for function in listed]
    except json.JSONDecodeError as error:
        raise ProblemError(f"it is not strict JSON: {error}") from None
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ProblemError(f"it is not a cost function network: {error!r}") from None
    places = max((_places(n) for _, table in found for n in table.flat if n is not None), default=0)
    tables = tuple((scope, _integers(table, places)) for scope, table in found)
    return Network(names, tuple(map(len, values)), tables)


def write(network: Network) -> str:
    """The text of a file."""
    found = raised(network)
    # With a constant below 0 it takes more to be over the bound.
    forbidden = found.top + max(-found.constant, 0)
    functions: dict[str, Any] = {"constant": {"scope": [], "costs": [found.constant]}}
    for number, (scope, costs) in enumerate(found.tables):
        functions[f"f{number}"] = {
            "scope": [network.names[v] for v in scope],
            "costs": np.where(costs < FORBIDDEN, costs, forbidden).reshape(-1).tolist(),
        }
    document = {
        "problem": {"name": "problem", "mustbe": f"<{found.top}"},
        "variables": dict(zip(network.names, network.sizes, strict=True)),
        "functions": functions,
    }
    return json.dumps(document, indent=1) + "\n"


def _top(problem: dict[str, Any]) -> Decimal:
    """The upper bound: what costs as much or more is forbidden."""
    bound = problem["mustbe"]
    if not isinstance(bound, str) or not bound.startswith("<"):
        raise ProblemError(f"its mustbe {bound!r} is not an upper bound ('<' and a number)")
    return _decimal(bound[1:])


def _values(given: Any) -> list[str]:
    if isinstance(given, Decimal):
        if not 0 < given < LIMIT:
            raise ProblemError("a domain is empty or an interval, which is not supported")
        return [str(value) for value in range(int(given))]
    return [str(value) for value in given]


def _function(
    function: dict[str, Any], names: tuple[str, ...], values: list[list[str]], top: Decimal
) -> tuple[tuple[int, ...], Any]:
    """The scope of a function, and its costs as decimal numbers; None is forbidden."""
    if "type" in function or isinstance(function.get("costs"), str):
        raise ProblemError("global cost functions, and those that share costs, are not supported")
    scope = tuple(
        names.index(v) if isinstance(v, str) and v in names else int(v) for v in function["scope"]
    )
    shape = dense(list(map(len, values)), scope, 0).shape
    table = np.empty(shape, object)
    if "defaultcost" not in function:
        numbers = [_cost(number, top) for number in function["costs"]]
        if len(numbers) != table.size:
            raise ProblemError(f"a table over {scope} has {len(numbers)} of {table.size} costs")
        table.reshape(-1)[:] = numbers
        return scope, table
    table.reshape(-1)[:] = [_cost(function["defaultcost"], top)] * table.size
    given, width = function["costs"], len(scope) + 1
    for start in range(0, len(given), width):
        *at, cost = given[start : start + width]
        index = tuple(
            values[v].index(a) if isinstance(a, str) else int(a)
            for v, a in zip(scope, at, strict=True)
        )
        table[index] = _cost(cost, top)
    return scope, table


def _cost(number: Any, top: Decimal) -> Decimal | None:
    amount = _decimal(number)
    return None if amount >= top else amount


def _decimal(number: Any) -> Decimal:
    try:
        return Decimal(number)
    except InvalidOperation:
        raise ProblemError(f"{number!r} is not a number") from None


def _places(number: Decimal) -> int:
    exponent = number.normalize().as_tuple().exponent
    if not isinstance(exponent, int):
        raise ProblemError(f"a cost is {number}")
    return max(-exponent, 0)


def _integers(table: Any, places: int) -> Costs:
    scaled = [FORBIDDEN if n is None else int(n.scaleb(places)) for n in table.flat]
    if any(LIMIT <= abs(n) < FORBIDDEN or abs(n) > FORBIDDEN for n in scaled):
        raise ProblemError(f"its costs are too large with {places} places: {LIMIT} is the limit")
    return np.array(scaled, np.int64).reshape(table.shape)
