"""What files hold, and how two of them differ, for the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from api.terminal.console import paragraph, visible
from api.terminal.figures import cost, ratio, seconds
from planner.result.check import CheckReport
from planner.result.verification import DelegateVerification, VerificationReport

_MOST_MEMBERS: Final = 16

_KINDS: Final = {
    "pte": "ExecuTorch program",
    "bpte": "bundled ExecuTorch program",
    "vkgraph": "VkGraph",
    "delegate": "Vulkan delegate's blob",
    "plan": "planned program",
}
_DTYPES: Final = {"float": "f", "uint": "u", "int": "i"}
_REPACK: Final = "⇄ repack"


def show_table(description: dict[str, Any]) -> list[RenderableType]:
    """A file's description: a line on the file, then a table for each delegate.

    Texts from the file are shown as they are: no markup, and no control sequences.
    """
    delegates = description["delegates"]
    count = f"{len(delegates)} Vulkan delegate{'' if len(delegates) == 1 else 's'}"
    webgpu = ", planned for WebGPU" * (description["target"] == "webgpu")
    lines = [f"{visible(description['name'])}: {_KINDS[description['kind']]}, {count}{webgpu}"]
    if description["kind"] == "plan":
        lines.append(
            f"planned from {visible(description['source']['name'])} "
            f"with profile {visible(description['profile']['name'])}, "
            f"objective {description['objective']}: "
            f"{_plan_figures(description['figures'], description['unit'])}"
        )
    shown: list[RenderableType] = [paragraph(*lines)]
    for delegate in delegates:
        shown += _delegate(delegate, description.get("unit"))
    return shown


def check_table(report: CheckReport) -> list[RenderableType]:
    """What a check found: a line on the program, then a table of what is wrong."""
    of = "" if report.target == "vulkan" else "the WebGPU runtime of "
    where = f"{of}ExecuTorch {report.runtime}" + (f" on {report.gpu}" if report.gpu else "")
    wrong = len(report.findings)
    lines = [
        f"{visible(report.name)}: {report.operators} operators, for {where}: "
        + (f"{wrong} finding{'s' * (wrong != 1)}" if wrong else "nothing wrong is known"),
        f"{'layouts' if report.target == 'vulkan' else 'operators'} taken by ExecuTorch "
        + (", ".join(report.taken_by) or "in no release"),
    ]
    if report.unknown:
        lines.append(
            "of operators that no release registers nothing is known: "
            + visible(", ".join(report.unknown))
        )
    shown: list[RenderableType] = [paragraph(*lines)]
    if wrong:
        table = _table()
        for heading in ("delegate", "where", "what", "source"):
            table.add_column(heading, overflow="fold")
        for finding in report.findings:
            cells = (str(finding.delegate), finding.place, finding.text, finding.source)
            table.add_row(*(Text(visible(cell)) for cell in cells))
        shown.append(table)
    return shown


_VERDICTS: Final = {
    "right": "right",
    "proven": "right, and proven: no plan costs less",
    "open": "right, but not proven",
    "refuted": "REFUTED: a plan costs less than this one says any does",
}


_TOGETHER: Final = {
    "right": "",
    "proven": "none costs less, all delegates together",
    "open": "nothing, all delegates together",
    "refuted": "one costs less, all delegates together",
}
"""What is shown of delegates that share limits."""


def verification_table(report: VerificationReport) -> list[RenderableType]:
    """What came of verifying a planned program: a line on all of it, then one for each delegate."""
    head = (
        f"{visible(report.name)}: profile {visible(report.profile)}, objective {report.objective}: "
        f"{_VERDICTS[report.verdict]}"
    )
    table = _table()
    table.add_column("delegate", justify="right", no_wrap=True)
    for heading in ("cost", "transitions", "the plan says", "proven here", "time"):
        table.add_column(heading, overflow="fold")
    for delegate in report.delegates:
        table.add_row(
            str(delegate.index),
            cost(delegate.cost, report.unit),
            str(delegate.transitions),
            f"{delegate.status.lower()}, by {delegate.method}",
            _proven(delegate, report.unit),
            "" if delegate.bound is None else seconds(delegate.seconds),
        )
    return [paragraph(head), table]


def _proven(delegate: DelegateVerification, unit: str) -> str:
    if delegate.bound is None or delegate.least_cost is None:
        return _TOGETHER[delegate.verdict]
    if delegate.verdict == "proven":
        as_few = delegate.fewest_transitions == delegate.transitions
        return "none costs less" + (", and none of that cost has fewer transitions" * as_few)
    found = f"none costs less than {cost(delegate.bound, unit)}"
    if delegate.least_cost < delegate.cost:
        found += f", and one costs {cost(delegate.least_cost, unit)}"
    return found


def _delegate(delegate: dict[str, Any], unit: str | None) -> list[RenderableType]:
    table = _table()
    table.add_column("#", justify="right", no_wrap=True)
    for heading in ("operator", "inputs", "outputs"):
        table.add_column(heading, overflow="fold")
    for operator in delegate["operators"]:
        name, arguments, is_repack = operator["name"], operator["arguments"], operator["transition"]
        table.add_row(
            str(operator["index"]),
            Text(_REPACK if is_repack else visible(name)),
            Text(_arguments(arguments[:1] if is_repack else arguments)),
            Text("\n".join(_value(value, names=True) for value in operator["outputs"])),
            style="yellow" if is_repack else None,
        )
    about = paragraph(
        "",
        visible(delegate["name"]),
        f"inputs: {_values(delegate['inputs'], names=True)}",
        f"outputs: {_values(delegate['outputs'], names=True)}",
    )
    return [about, table, paragraph(*_totals(delegate, unit))]


def _totals(delegate: dict[str, Any], unit: str | None) -> list[str]:
    totals = delegate["totals"]
    tensors = [f"{count} {_layout(r)}" for r, count in totals["tensors"].items()]
    tensors.append(f"{totals['constants']} constants")
    lines = [
        f"{totals['operators']} operators, of them {totals['transitions']} repacks",
        f"tensors: {', '.join(tensors)}; "
        f"they take {cost(totals['memory_bytes'], 'bytes')}, constants left out",
    ]
    if unit is not None:
        lines.append(_plan_figures(delegate["figures"], unit))
    return lines


def _plan_figures(figures: dict[str, Any], unit: str) -> str:
    return (
        f"repack cost {_cost(figures['repack_cost'], unit)} "
        f"({figures['transitions']} repacks), before planning "
        f"{_cost(figures['baseline_repack_cost'], unit)} "
        f"({figures['baseline_transitions']}); {figures['status'].lower()}"
    )


def _cost(value: float | str, unit: str) -> str:
    # A damaged plan may claim a cost that is no number; it has its name then.
    return value if isinstance(value, str) else cost(value, unit)


def _arguments(arguments: Iterable[dict[str, Any]]) -> str:
    """Arguments in their order: a line for each tensor, and one for the scalars between two."""
    lines: list[list[str]] = []
    after_tensor = True
    for argument in arguments:
        is_tensor = argument["kind"] == "tensor"
        if is_tensor or after_tensor:
            lines.append([])
        lines[-1].append(_value(argument))
        after_tensor = is_tensor
    return "\n".join(", ".join(line) for line in lines)


def _values(values: list[dict[str, Any]], *, names: bool = False) -> str:
    shown = [_value(value, names=names) for value in values[:_MOST_MEMBERS]]
    if len(values) > _MOST_MEMBERS:
        shown.append(f"… ({len(values)})")
    return ", ".join(shown)


def _value(value: dict[str, Any], *, names: bool = False) -> str:
    """A value in short: ``v12 1×64×56×56 f32 texture:CHANNELS``. Names are long: only on demand."""
    match value["kind"]:
        case "tensor":
            name = f" {visible(value['name'])}" if names and value["name"] else ""
            made = "constant" if value["constant"] else _layout(value["representation"])
            return f"v{value['value_id']}{name} {_shape(value['dims'], value['dtype'])} {made}"
        case "list":
            return f"[{_values(value['members'])}]"
        case "symbolic":
            return f"v{value['value_id']} symbolic"
        case "null":
            return "–"
        case "string":
            return f'"{visible(value["value"])}"'
        case "bool":
            return str(value["value"]).lower()
        case "float" if not isinstance(value["value"], str):
            return f"{value['value']:.7g}" if value["value"] % 1 else str(value["value"])
    return str(value["value"])


def _shape(dims: list[int], dtype: str) -> str:
    short = dtype
    for name, letter in _DTYPES.items():
        if dtype.startswith(name):
            short = letter + dtype.removeprefix(name)
            break
    return f"{'×'.join(map(str, dims[:_MOST_MEMBERS])) or 'scalar'} {short}"


def _layout(representation: str | None) -> str:
    return "default" if representation is None else representation.removesuffix("_PACKED")


def diff_table(difference: dict[str, Any]) -> list[RenderableType]:
    """What ``compare`` found: the figures of A and B, then what changed in each delegate."""
    a, b = (visible(difference[side]["name"]) for side in "ab")
    if difference["is_equal"]:
        verdict = "no difference: representations, repacks and memory are the same"
    else:
        changed = sum(not delegate["is_equal"] for delegate in difference["delegates"])
        verdict = f"delegates that differ: {changed} of {len(difference['delegates'])}"
    about = paragraph(
        f"A: {a}, {_KINDS[difference['a']['kind']]}",
        f"B: {b}, {_KINDS[difference['b']['kind']]}",
        verdict,
        "",
        f"repack cost, profile {visible(difference['profile']['name'])}",
    )
    shown: list[RenderableType] = [about, _figures_table(difference)]
    for delegate in difference["delegates"]:
        if not delegate["is_equal"]:
            shown += _changes(delegate, difference["unit"])
    return shown


def _figures_table(difference: dict[str, Any]) -> Table:
    unit = difference["unit"]
    table = _table()
    table.add_column("delegate", overflow="fold")
    for heading in ("repacks A → B", "cost A", "cost B", "A / B", "memory A", "memory B"):
        table.add_column(heading, justify="right")

    def add(name: str, figures: dict[str, Any]) -> None:
        a, b = figures["a"], figures["b"]
        table.add_row(
            Text(visible(name)),
            f"{a['transitions']} → {b['transitions']}",
            cost(a["repack_cost"], unit),
            cost(b["repack_cost"], unit),
            ratio(figures["ratio"]),
            cost(a["memory_bytes"], "bytes"),
            cost(b["memory_bytes"], "bytes"),
        )

    for delegate in difference["delegates"]:
        add(delegate["name"], delegate)
    if len(difference["delegates"]) > 1:
        table.add_section()
        add("total", difference["total"])
    return table


def _changes(delegate: dict[str, Any], unit: str) -> list[RenderableType]:
    name, tensors = visible(delegate["name"]), delegate["representations"]
    only_in_a, only_in_b = delegate["only_in_a"], delegate["only_in_b"]
    shown: list[RenderableType] = [paragraph(f"{name}: tensors made differently: {len(tensors)}")]
    if tensors:
        shown.append(_tensors_table(tensors))
    shown.append(
        paragraph(
            f"{name}: repacks only in A (-): {len(only_in_a)}, only in B (+): {len(only_in_b)}, "
            f"in both: {len(delegate['in_both'])}"
        )
    )
    if only_in_a or only_in_b:
        shown.append(_repacks_table(only_in_a, only_in_b, unit))
    return shown


def _tensors_table(tensors: list[dict[str, Any]]) -> Table:
    table = _table()
    for heading in ("tensor in A", "in B", "shape", "A", "B"):
        table.add_column(heading, overflow="fold")
    for tensor in tensors:
        table.add_row(
            Text(_named(tensor["a_value_id"], tensor["tensor"])),
            f"v{tensor['b_value_id']}",
            _shape(tensor["dims"], tensor["dtype"]),
            _layout(tensor["from"]),
            _layout(tensor["to"]),
        )
    return table


def _repacks_table(
    only_in_a: list[dict[str, Any]], only_in_b: list[dict[str, Any]], unit: str
) -> Table:
    table = _table()
    table.add_column("", no_wrap=True)
    for heading in ("tensor", "shape", "from", "to", "read by"):
        table.add_column(heading, overflow="fold")
    table.add_column("cost", justify="right", no_wrap=True)
    for side, style, transitions in (("- A", "red", only_in_a), ("+ B", "green", only_in_b)):
        for transition in transitions:
            table.add_row(
                side,
                Text(_named(transition["source"], transition["tensor"])),
                _shape(transition["dims"], transition["dtype"]),
                _layout(transition["from"]),
                _layout(transition["to"]),
                Text(_readers(transition)),
                cost(transition["cost"], unit),
                style=style,
            )
    return table


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False)


def _named(value_id: int, name: str | None) -> str:
    return f"v{value_id} {visible(name)}" if name else f"v{value_id}"


def _readers(transition: dict[str, Any]) -> str:
    """Who reads a copy: operators by their position in the file."""
    users = transition["users"]
    readers = [f"{u['operator_index']} {visible(u['operator'])}" for u in users[:_MOST_MEMBERS]]
    if len(users) > _MOST_MEMBERS:
        readers.append(f"… ({len(users)})")
    return "\n".join(readers)
