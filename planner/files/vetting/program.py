"""The JSON of an exported program, checked field by field against torch's schema.

Source of the schema: torch 2.13, ``torch/_export/serde/schema.py``. What torch does with a field is
in ``serialize.py`` there: it looks up ``target`` by ``getattr`` from ``torch``, evaluates
``expr_str`` as Python, writes names into Python code, imports what a tree of inputs names, and
evaluates guards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, Final

from planner.files.vetting.checks import (
    Check,
    RefusedError,
    boolean,
    each,
    integer,
    mapping,
    name,
    natural,
    number,
    one_of,
    parsed_text,
    path,
    record,
    text,
)
from planner.files.vetting.expressions import ExpressionError, check_guard, check_size
from schema.frozen import frozen

NAMESPACES: Final = frozenset(
    {
        *("aten", "prims", "quantized", "quantized_decomposed", "torchao", "torchvision"),
        *("llama", "et_vk", "dim_order_ops"),
    }
)
"""Namespaces of ``torch.ops`` whose operators compute and do nothing else."""

_OPERATOR: Final = re.compile(r"torch\.ops\.(\w+)\.(\w+)(?:\.(\w+))?", re.ASCII)
_OUTSIDE: Final = frozenset({"from_file", "save", "load", "open", "warn"})
"""Operators of ``aten`` that reach files, or say things."""

_DUNDER: Final = re.compile(r"__i?(?:and|or|xor|lshift|rshift)__")
_CONTROL: Final = frozenset(
    {
        *("cond", "while_loop", "scan", "map_impl", "associative_scan"),
        *("wrap_with_set_grad_enabled", "wrap_with_autocast"),
        *("auto_functionalized", "auto_functionalized_v2"),
    }
)
"""Higher-order operators: they run graphs of the program itself, or an operator that it names."""

_ON_SIZES: Final = frozenset(
    {
        *(
            f"_operator.{x}"
            for x in (
                *("eq", "ne", "le", "ge", "lt", "gt", "neg", "pos", "mul", "add", "sub"),
                *("floordiv", "mod", "pow", "truediv", "and_", "or_", "lshift", "rshift"),
                *("getitem", "not_"),
            )
        ),
        *(f"math.{x}" for x in ("trunc", "ceil", "floor", "sqrt")),
        *(
            f"torch.{x}"
            for x in (
                *("sym_not", "sym_int", "sym_float", "sym_ite", "sym_max", "sym_min", "sym_sqrt"),
                *("_sym_sqrt", "sym_sum"),
            )
        ),
    }
)
"""Functions on sizes, which are no operators of torch."""

_TREES: Final = frozenset(
    {"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
)
_METADATA: Final = {
    "nn_module_stack": re.compile(r"[\w.\-@\[\]()'<>,; ]*", re.ASCII),
    "source_fn_stack": re.compile(r"[\w.,; ]*", re.ASCII),
    "torch_fn": re.compile(r"[\w.; ]*", re.ASCII),
}
_DEVICES: Final = frozenset({"cpu", "cuda", "meta", "mps", "xpu"})


@frozen
class Vetted:
    """A program whose every field is known, and the operators that it calls, by full name."""

    document: dict[str, Any]
    operators: frozenset[tuple[str, str, str]]


def vet_program(document: Any, namespaces: Collection[str] | None) -> Vetted:
    """The JSON of a program, with nothing in it but what is known to be harmless.

    ``namespaces`` are those of ``torch.ops`` that are allowed besides ``NAMESPACES``; None allows
    all that is registered. Raises ``RefusedError``.
    """
    found = _Program(namespaces)
    return Vetted(found.program(document), frozenset(found.operators))


class _Program:
    """The checks of one program; they note its operators."""

    def __init__(self, namespaces: Collection[str] | None) -> None:
        self._namespaces = None if namespaces is None else NAMESPACES.union(namespaces)
        self.operators: set[tuple[str, str, str]] = set()
        self.program = self._all()

    def _target(self, value: Any) -> str:
        target = text(value)
        if target in _ON_SIZES:
            return target
        match = _OPERATOR.fullmatch(target)
        if match is None:
            raise RefusedError(f"is {target!r}, which is no operator")
        namespace, operator, overload = match[1], match[2], match[3]
        if namespace == "higher_order":
            if overload is not None or operator not in _CONTROL:
                raise RefusedError(f"is {target!r}, a higher-order operator that is not known")
            return target
        allowed = self._namespaces is None or namespace in self._namespaces
        is_hidden = operator.startswith("__") and _DUNDER.fullmatch(operator) is None
        if overload is None or overload.startswith("_") or is_hidden or namespace[0] == "_":
            raise RefusedError(f"is {target!r}, which is no operator")
        if not allowed:
            raise RefusedError(f"is {target!r}, of a namespace that is not known")
        if operator in _OUTSIDE:
            raise RefusedError(f"is {target!r}, which does more than compute")
        self.operators.add((namespace, operator, overload))
        return target

    def _argument(self) -> Check:
        tensor = record({"name": name})
        optional = one_of({"as_tensor": tensor, "as_none": boolean})

        def sized(kind: str, literal: Check) -> Check:
            return one_of({"as_name": name, f"as_{kind}": literal})

        ints, floats, bools = sized("int", integer), sized("float", number), sized("bool", boolean)

        def graph(value: Any) -> Any:
            return self._graph(value)

        def argument(value: Any) -> Any:
            return check(value)

        check = one_of(
            {
                "as_none": boolean,
                "as_tensor": tensor,
                "as_tensors": each(tensor),
                "as_int": integer,
                "as_ints": each(integer),
                "as_float": number,
                "as_floats": each(number),
                "as_string": text,
                "as_strings": each(text),
                "as_sym_int": ints,
                "as_sym_ints": each(ints),
                "as_scalar_type": natural,
                "as_memory_format": natural,
                "as_layout": natural,
                "as_device": _device,
                "as_bool": boolean,
                "as_bools": each(boolean),
                "as_sym_bool": bools,
                "as_sym_bools": each(bools),
                "as_sym_float": floats,
                "as_sym_floats": each(floats),
                "as_graph": record({"name": name, "graph": graph}),
                "as_optional_tensors": each(optional),
                "as_optional_tensor": optional,
                "as_complex": record({"real": number, "imag": number}),
                "as_nested_tensors": each(each(tensor)),
                "as_int_lists": each(each(integer)),
                "as_float_lists": each(each(number)),
                "as_string_to_argument": mapping(name, argument),
                "as_operator": self._target,
            }
        )
        return check

    def _all(self) -> Callable[[Any], Any]:
        argument = self._argument()
        named = record({"name": _keyword, "arg": argument}, {"kind": natural})
        node = record(
            {
                "target": self._target,
                "inputs": each(named),
                "outputs": each(argument),
                "metadata": _metadata,
            },
            {"is_hop_single_tensor_return": boolean, "name": name},
        )
        self._graph = record(
            {
                "inputs": each(argument),
                "outputs": each(argument),
                "nodes": each(node),
                "tensor_values": mapping(name, tensor_meta),
                "sym_int_values": mapping(name, _size("int", integer)),
                "sym_bool_values": mapping(name, _size("bool", boolean)),
            },
            {
                "is_single_tensor_return": boolean,
                "sym_float_values": mapping(name, _size("float", number)),
            },
        )
        call = record(
            {
                "inputs": each(argument),
                "outputs": each(argument),
                "in_spec": _tree,
                "out_spec": _tree,
            },
            {"forward_arg_names": each(name)},
        )
        module = record(
            {
                "graph": self._graph,
                "signature": _signature(argument),
                "module_call_graph": each(record({"fqn": path}, {"signature": call})),
            },
            {"metadata": mapping(text, text)},
        )
        between = record({}, {"min_val": integer, "max_val": integer})
        return record(
            {
                "graph_module": module,
                "opset_version": mapping(name, natural),
                "range_constraints": mapping(_expression, _ends(between)),
                "schema_version": record({"major": natural, "minor": natural}),
            },
            {"verifiers": each(name), "torch_version": text, "guards_code": each(_guard)},
        )


def _ends(between: Check) -> Check:
    """Both ends of a range, which torch's schema wants to be there, null or not."""

    def check(value: Any) -> Any:
        return {"min_val": None, "max_val": None} | between(value)

    return check


def _keyword(value: Any) -> str:
    return "" if value == "" else name(value)


def _expression(value: Any) -> str:
    try:
        return check_size(text(value))
    except ExpressionError as error:
        raise RefusedError(f"is a size that is not known: {error}") from error


def _guard(value: Any) -> str:
    try:
        return check_guard(text(value))
    except ExpressionError as error:
        raise RefusedError(f"is a guard that is not known: {error}") from error


def _size(kind: str, literal: Check) -> Check:
    """A size: a number, or an expression with a hint."""
    hint = one_of({"as_int": integer, "as_bool": boolean, "as_float": number})
    expression = record({"expr_str": _expression}, {"hint": hint})
    return one_of({"as_expr": expression, f"as_{kind}": literal})


def _device(value: Any) -> Any:
    found = record({"type": text}, {"index": natural})(value)
    if found["type"] not in _DEVICES:
        raise RefusedError(f"is the device {found['type']!r}, which is not known")
    return found


tensor_meta: Final = record(
    {
        "dtype": natural,
        "sizes": each(_size("int", integer)),
        "requires_grad": boolean,
        "device": _device,
        "strides": each(_size("int", integer)),
        "storage_offset": _size("int", integer),
        "layout": natural,
    }
)
"""What is said of a tensor."""


def _signature(argument: Check) -> Check:
    """What the graph's inputs and outputs are."""
    tensor = record({"name": name})
    constant = one_of(
        {
            "as_none": boolean,
            "as_int": integer,
            "as_float": number,
            "as_string": text,
            "as_bool": boolean,
        }
    )
    inputs = one_of(
        {
            "user_input": record({"arg": argument}),
            "parameter": record({"arg": tensor, "parameter_name": path}),
            "buffer": record({"arg": tensor, "buffer_name": path, "persistent": boolean}),
            "tensor_constant": record({"arg": tensor, "tensor_constant_name": path}),
            "constant_input": record({"name": name, "value": constant}),
        }
    )
    outputs = one_of(
        {
            "user_output": record({"arg": argument}),
            "loss_output": record({"arg": tensor}),
            "buffer_mutation": record({"arg": tensor, "buffer_name": path}),
            "parameter_mutation": record({"arg": tensor, "parameter_name": path}),
            "gradient_to_parameter": record({"arg": tensor, "parameter_name": path}),
            "gradient_to_user_input": record({"arg": tensor, "user_input_name": name}),
            "user_input_mutation": record({"arg": tensor, "user_input_name": name}),
        }
    )
    return record({"input_specs": each(inputs), "output_specs": each(outputs)})


def _metadata(value: Any) -> Any:
    """What a node says of where it comes from; only what a plan or its errors may need is kept."""
    found = mapping(text, text)(value)
    return {key: found[key] for key, form in _METADATA.items() if _has(found.get(key), form)}


def _has(value: str | None, form: re.Pattern[str]) -> bool:
    # Torch looks up names of modules and functions by getattr: none that leads further.
    return value is not None and form.fullmatch(value) is not None and "__" not in _own(value)


def _own(value: str) -> str:
    return value.replace("L__self__", "").replace("__main__", "")


def _tree(value: Any) -> str:
    """How inputs or outputs are nested, as torch's ``pytree`` writes it."""
    context = parsed_text(_context)

    def node(value: Any) -> Any:
        found = record({"children_spec": each(node)}, {"type": text, "context": context})(value)
        kind = found.get("type")
        if kind is None:
            if found["children_spec"] or "context" in found:
                raise RefusedError("is no tree of inputs")
        elif kind not in _TREES:
            raise RefusedError(f"nests inputs in {kind!r}, which is not known")
        return {"type": None, "context": None} | found

    def tree(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != 2 or value[0] != 1:
            raise RefusedError("is no tree of inputs")
        return [1, node(value[1])]

    return str(parsed_text(tree)(value))


def _context(value: Any) -> Any:
    """The keys of a dictionary, or nothing."""
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(key) in (str, int) for key in value):
        raise RefusedError("has keys that are neither texts nor numbers")
    return value
