"""A sweep of kernels: programs of one operator in each representation, run and judged.

A folder holds the sweep: a folder for each program, with the program, its inputs as the runner of
ExecuTorch reads them, and what is expected; ``sweep.json`` lists them. Whoever has a device runs
them with a command of his own, here or elsewhere, and has the outputs judged here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from rich.console import Console

from api.bench.kernel_cases import Case, cases
from api.terminal.markdown import row
from planner.errors import InputError, NoRepresentationError, OptionError
from planner.extras import quiet, require
from planner.files.whole import write_whole
from planner.ir.graph import Side
from planner.ir.physical import DEFAULT_TEXTURE_LIMITS
from planner.ir.representation import NO_STORAGE, REPRS, TensorRepr, TensorRepSet
from planner.kernels.faults import Fault, Faults
from planner.kernels.registry import SYMBOLIC, lookup, registered_names
from planner.kernels.releases import RELEASES, Runtime
from planner.options import PlanOptions
from planner.tuning.runners import RunFailedError, reason_of, run_command
from planner.tuning.tensors import TOLERANCE, TensorType, compare, read_outputs

if TYPE_CHECKING:
    import numpy as np

    from planner.vkgraph.reader import ContractedGraph

Verdict = Literal["right", "wrong", "does not load", "not tried"]

_LIST: Final = "sweep.json"
_PROGRAM: Final = "program.pte"
_ERROR: Final = "error"
_NOISE_FACTOR: Final = 20
_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the sweep: an operator with its operands in these representations.

    ``inputs`` are files; ``outputs`` the types and shapes of what it computes. An int8 program is
    judged by the outputs of ``reference``, the same operator as ExecuTorch lays it out. ``noise``
    is the relative error that eager PyTorch makes itself in float32, against float64.
    """

    folder: str
    operator: str
    shapes: str
    dtype: str
    argument: str
    output: str
    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    reference: str = ""
    noise: float = 0.0


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a program: ``error`` is relative to the largest value expected.

    ``foretold`` is whether a check of the program had found something, without running it.
    """

    program: Program
    verdict: Verdict
    error: float = 0.0
    reason: str = ""
    foretold: bool = False


@dataclass(frozen=True, slots=True)
class Untried:
    """An operator of which no program of these shapes could be made, and why."""

    operator: str
    shapes: str
    reason: str


def make_sweep(folder: Path, only: Sequence[str] = ()) -> list[Program]:
    """Writes the programs of the sweep, those of operators whose names hold one of ``only``.

    What could not be tried is noted beside them. Raises ``OptionError`` where there is no such
    operator.
    """
    require("The sweep of kernels", "torch", "torchao", "executorch")
    import torch

    console = Console(highlight=False, stderr=True)
    programs: list[Program] = []
    untried: list[Untried] = []
    with quiet():
        for case in cases():
            if only and not any(text in case.operator for text in only):
                continue
            torch.manual_seed(0)
            try:
                made = list(_programs(case, folder))
            except InputError as error:
                console.print(f"{case.operator}, {case.shapes}: {error}", markup=False)
                untried.append(Untried(case.operator, case.shapes, str(error)))
                continue
            programs += made
            words = f"{case.operator}, {case.shapes}: {len(made)} programs"
            console.print(words, markup=False)
    if not programs and not untried:
        raise OptionError(f"no operator of the sweep is called {' or '.join(only)}")
    cases_of = {*(p.operator for p in programs), *(one.operator for one in untried)}
    untried += [
        Untried(name, "", "the sweep has no call of it")
        for name in _without_case(cases_of)
        if not only or any(text in name for text in only)
    ]
    write_list(folder, programs, untried)
    return programs


def is_sweep(folder: Path) -> bool:
    """Whether a folder has the programs of a sweep."""
    return (folder / _LIST).exists()


def read_sweep(folder: Path) -> list[Program]:
    """The programs of a sweep that was written; raises ``InputError`` for another folder."""
    return [
        Program(
            **{
                **entry,
                "inputs": tuple(entry["inputs"]),
                "outputs": tuple((dtype, tuple(shape)) for dtype, shape in entry["outputs"]),
            }
        )
        for entry in _read_list(folder)["programs"]
    ]


def read_untried(folder: Path) -> list[Untried]:
    """What a sweep that was written could not try; raises ``InputError`` for another folder."""
    return [Untried(**entry) for entry in _read_list(folder)["untried"]]


def _read_list(folder: Path) -> Any:
    try:
        found = json.loads((folder / _LIST).read_text("utf-8"))
        found["programs"], found["untried"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} holds no sweep of kernels: {error}") from error
    return found


def run_sweep(folder: Path, programs: Sequence[Program], command: str) -> None:
    """Runs each program that has not run yet by a command, in which ``{pte}`` and so on stand.

    ``{inputs}`` are files with commas between them, ``{outputs}`` the name that files of outputs
    begin with: ``-0.bin`` is the first; ``{runs}`` is 1.
    """
    for program in programs:
        place = folder / program.folder
        if (place / "rc").exists():
            continue
        words = {
            "pte": str(place / _PROGRAM),
            "inputs": ",".join(str(place / name) for name in program.inputs),
            "outputs": str(place / "out"),
            "etdump": str(place / "run.etdump"),
            "runs": "1",
        }
        try:
            code, said = 0, run_command(command, words, _SECONDS)
        except RunFailedError as failed:
            code, said = failed.code or -1, failed.said or str(failed)
        (place / "log").write_text(said, "utf-8")
        (place / "run.etdump").unlink(missing_ok=True)
        (place / "rc").write_text(str(code))


def judge_sweep(folder: Path, programs: Sequence[Program]) -> list[Judged]:
    """What became of each program."""
    from planner.pipelines.checking import check_program

    judged = []
    for program in programs:
        data = (folder / program.folder / _PROGRAM).read_bytes()
        found = check_program(data, program.folder, Runtime()).findings
        judged.append(replace(_judge(folder, program), foretold=bool(found)))
    return judged


def sweep_tables(judged: Sequence[Judged], untried: Sequence[Untried] = ()) -> str:
    """The map, operator by representation, what was not right or not tried, as Markdown."""
    by_pair: dict[tuple[str, str], list[Judged]] = {}
    for one in judged:
        for given in dict.fromkeys((one.program.argument, one.program.output)):
            by_pair.setdefault((one.program.operator, given), []).append(one)
    tried = {operator for operator, _ in by_pair}
    operators = sorted(tried | {one.operator for one in untried})
    accepted = {operator: _accepted(operator) for operator in operators}
    counts = ", ".join(
        f"{n:,} {verdict}" for verdict, n in Counter(o.verdict for o in judged).items()
    )
    names = [str(r) for r in REPRS]
    right = [one.foretold for one in judged if one.verdict == "right"]
    not_right = [one.foretold for one in judged if one.verdict not in ("right", "not tried")]
    lines = [
        f"{len(judged):,} programs: {counts}. `layout-planner check` finds something in",
        f"{sum(not_right):,} of the {len(not_right):,} that are not right, and in {sum(right):,} "
        f"of the {len(right):,} that are.",
        "",
    ]
    lines += [row(("operator", *names)), row(["---"] * (len(names) + 1))]
    for operator in operators:
        cells = [
            _cell(by_pair.get((operator, name), [])) or "not tried" * (name in accepted[operator])
            for name in names
        ]
        lines.append(row((f"`{operator}`", *cells)))
    lines += ["", row(("operator", "shapes", "dtype", "argument → output", "seen"))]
    lines.append(row(["---"] * 5))
    for one in judged:
        if one.verdict not in ("right", "not tried"):
            p = one.program
            seen = f"error {one.error:.2g}" if one.verdict == "wrong" else one.reason
            change = f"{p.argument} → {p.output}"
            lines.append(
                row((f"`{p.operator}`", p.shapes, p.dtype, change, f"{one.verdict}: {seen}"))
            )
    if untried:
        lines += ["", row(("not tried", "shapes", "why")), row(["---"] * 3)]
        lines += [row((f"`{one.operator}`", one.shapes, one.reason)) for one in untried]
    return "\n".join(lines) + "\n"


def _without_case(cases_of: Collection[str]) -> list[str]:
    """Operators of the registry that make tensors, and are in no case."""
    bare = {name.rpartition(".")[0].rpartition(".")[2] for name in cases_of}
    return [
        name
        for name in registered_names()
        if name not in (*SYMBOLIC, *cases_of) and name.rpartition(".")[2] not in bare
    ]


def _accepted(operator: str) -> set[str]:
    """The representations that an operator's first argument or output may have, by its registry.

    None are known of one whose sets depend on the call, beyond those that it is registered with.
    """
    features = lookup(operator)
    sets = (*features.inputs[:1], *features.outputs[:1]) if features is not None else ()
    return {str(r) for found in sets for r in found}


def _cell(found: Sequence[Judged]) -> str:
    tried = [one for one in found if one.verdict != "not tried"]
    if not tried:
        return "" if not found else "not tried"
    right = sum(one.verdict == "right" for one in tried)
    if right == len(tried):
        return f"right ({right})"
    bad = [v for v in ("wrong", "does not load") if any(one.verdict == v for one in tried)]
    return f"**{' and '.join(bad)}** ({len(tried) - right} of {len(tried)})"


# Programs.


def _programs(case: Case, folder: Path) -> Iterator[Program]:
    from planner.files.lowered import graphs_of
    from planner.pipelines.lowered import replan
    from planner.vkgraph.reader import read_vkgraph

    module, inputs, pte = _lowered(case)
    try:
        graphs = list(graphs_of(pte, case.name))
    except InputError as error:
        raise InputError("ExecuTorch delegates nothing of it") from error
    sources = [read_vkgraph(graph) for graph in graphs]
    if not any(case.operator in _names(source) for source in sources):
        made = ", ".join(dict.fromkeys(name for source in sources for name in _names(source)))
        raise InputError(f"ExecuTorch makes {made} of it")
    expected = None if case.int8 else outputs_of(module(*inputs))
    seen: set[tuple[str, str]] = set()
    reference = ""
    for faults in (Faults(), *_pins(case.operator, sources)):
        try:
            options = PlanOptions(known=Faults(), avoid=faults, runtime=Runtime())
            data = replan(pte, case.name, options).data if faults.rows else pte
        except NoRepresentationError:
            continue
        given = _given(case.operator, [read_vkgraph(g) for g in graphs_of(data, case.name)])
        if given is None or given in seen:
            continue
        seen.add(given)
        name = f"{case.name}-{len(seen) - 1}"
        if case.int8 and not reference:
            reference = name
        dtype = "int8" if case.int8 else "float16" if case.float16 else "float32"
        program = Program(
            *(name, case.operator, case.shapes, dtype, *given, (), ()),
            reference=reference,
            noise=case.noise,
        )
        yield write_program(folder, program, data, inputs, expected)


def _lowered(case: Case) -> tuple[Any, tuple[Any, ...], bytes]:
    import torch

    from api.bench.zoo import quantized

    module, inputs = case.module().eval(), case.inputs()
    if case.int8:
        module = quantized(module, inputs)
    options = {"force_fp16": True} if case.float16 else {}
    return module, inputs, lower(lambda: torch.export.export(module, inputs), options)


def lower(export: Callable[[], Any], options: Mapping[str, Any]) -> bytes:
    """A program with ExecuTorch's own layouts, by options of ``VulkanPartitioner``.

    Raises ``InputError`` for what cannot be exported or lowered.
    """
    from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    from planner.executorch.repairs import mending
    from planner.pipelines.exported import cause_of

    try:
        with mending():
            edge = to_edge_transform_and_lower(
                export(),
                partitioner=[VulkanPartitioner(dict(options))],
                compile_config=EdgeCompileConfig(_check_ir_validity=False),
            )
            lowered: bytes = edge.to_executorch().buffer
    except Exception as error:
        raise InputError(f"ExecuTorch cannot lower it: {cause_of(error)}") from error
    return lowered


def _names(source: ContractedGraph) -> list[str]:
    return [operator.name for operator in source.graph.operators]


def _pins(operator: str, sources: Sequence[ContractedGraph]) -> Iterator[Faults]:
    """What leaves the operator one representation for its arguments, and one for its output."""
    from planner.kernels.rep_sets import op_rep_sets

    firsts, outs, arguments = NO_STORAGE, NO_STORAGE, set[tuple[Side, int]]()
    for source in sources:
        for call in source.graph.operators:
            sets = op_rep_sets(call, source.graph.tensors, DEFAULT_TEXTURE_LIMITS)
            if call.name != operator or sets is None:
                continue
            arguments |= {(side, i) for side, i, _ in call.operands() if side == "argument"}
            outs |= sets.outs[0] or NO_STORAGE
            if sets.primary_arg is not None:
                firsts |= sets.args[sets.primary_arg] or NO_STORAGE
    for first, out in product(firsts or outs, outs):
        yield Faults((_only(operator, arguments, first), _only(operator, {("output", 0)}, out)))


def _only(operator: str, operands: Collection[tuple[Side, int]], kept: TensorRepr) -> Fault:
    """A row that rules out every other representation."""
    others = TensorRepSet.from_reprs(r for r in REPRS if r != kept)
    about = tuple(sorted(operands))
    return Fault((operator,), others, about, (), RELEASES, (), "unstable", "sweep", "", "")


def _given(operator: str, sources: Sequence[ContractedGraph]) -> tuple[str, str] | None:
    """The representations of the operator's first tensor argument, and of its output."""
    for source in sources:
        given = source.layouts()
        for index, call in enumerate(source.graph.operators):
            if call.name == operator:
                arguments = (
                    given(index, side, position, members[0])
                    for side, position, members in call.operands()
                    if side == "argument" and not source.graph.tensors[members[0]].constant
                )
                out = given(index, "output", 0, call.outputs[0])
                return _name(next((r for r in arguments if r is not None), out)), _name(out)
    return None


def _name(representation: TensorRepr | None) -> str:
    return "" if representation is None else str(representation)


def outputs_of(found: Any) -> list[np.ndarray]:
    """What a program computed, as arrays."""
    tensors = found if isinstance(found, (tuple, list)) else [found]
    return [tensor.detach().numpy() for tensor in tensors]


def write_program(
    folder: Path,
    program: Program,
    data: bytes,
    inputs: Sequence[Any],
    expected: Sequence[np.ndarray] | None,
) -> Program:
    """Writes a program's folder; returns it with the names of its inputs, and its outputs."""
    place = folder / program.folder
    place.mkdir(parents=True, exist_ok=True)
    (place / _PROGRAM).write_bytes(data)
    names = []
    for index, tensor in enumerate(inputs):
        names.append(f"in-{index}.bin")
        (place / names[-1]).write_bytes(tensor.contiguous().numpy().tobytes())
    for index, array in enumerate(expected or ()):
        (place / f"expected-{index}.bin").write_bytes(array.tobytes())
    outputs = tuple((str(a.dtype), a.shape) for a in expected or ())
    return replace(program, inputs=tuple(names), outputs=outputs)


def write_list(folder: Path, programs: Sequence[Program], untried: Sequence[Untried] = ()) -> None:
    """Notes the programs of a sweep in its folder. Raises ``OptionError`` if there are none."""
    if not programs:
        raise OptionError("no program could be made: there is nothing to run")
    listed = {"programs": [*map(asdict, programs)], "untried": [*map(asdict, untried)]}
    write_whole(folder / _LIST, json.dumps(listed, indent=1).encode())


def _judge(folder: Path, program: Program) -> Judged:
    import numpy as np

    place = folder / program.folder
    if not (place / "rc").exists():
        return Judged(program, "not tried")
    files = sorted(place.glob("out-*.bin"))
    if (place / "rc").read_text().strip() != "0" or not files:
        said = (place / "log").read_text("utf-8")
        return Judged(program, "does not load", reason=reason_of(said) or "no output")
    if program.reference:
        theirs = sorted((folder / program.reference).glob("out-*.bin"))
        same = [f.read_bytes() for f in files] == [f.read_bytes() for f in theirs]
        return Judged(program, "right" if same else "wrong", error=0.0 if same else 1.0)
    wanted = [
        np.frombuffer((place / f"expected-{index}.bin").read_bytes(), dtype)
        for index, (dtype, _) in enumerate(program.outputs)
    ]
    types = [TensorType(dtype, shape) for dtype, shape in program.outputs]
    try:
        error = compare(wanted, read_outputs(place / "out", types)).error
    except InputError:
        error = float("inf")
    tolerance = TOLERANCE["float16" if program.dtype == "float16" else "float32"]
    tolerance += _NOISE_FACTOR * program.noise
    return Judged(program, "right" if error <= tolerance else "wrong", error=error)
