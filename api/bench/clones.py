"""ExecuTorch's clone kernels against our shaders: the same repacks, on the same GPU.

A program walks a tensor through representations by transitions, so that each is repacked into each
other one once, and the last is the first again: its output is its input. ExecuTorch's runtime
times every dispatch; our shaders do the same walk, each between two timestamps as well.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Final

import numpy as np

from api.bench.gpu import adapter_words
from api.terminal.markdown import head, row
from gpu.bench import FLOATS, HARDWARE_SHAPES, INT8S, Bench, Conversion, arena_bytes
from gpu.device import Backend, open_gpu
from planner.errors import InputError
from planner.extras import quiet, require
from planner.files.lowered import VULKAN_BACKEND, graphs_of
from planner.files.whole import write_whole
from planner.ir.representation import BY_PARTS, DENSE, LABELS, TensorRepr
from planner.measured.etdump import read_etdump
from planner.tuning.runners import RunFailedError, check_command, reason_of, run_command
from schema import VkDataType, VkGraph, VkTensor, join_delegate, vkgraph
from schema.vkgraph import Double, Int, Null, OperatorCall, Value

_CLONE: Final = "aten.clone.default"
_QUANTIZE: Final = "quantized_decomposed.quantize_per_tensor.default"
_DEQUANTIZE: Final = "quantized_decomposed.dequantize_per_tensor.default"
_TYPES: Final = {
    VkDataType.FLOAT32: ("float32", 4),
    VkDataType.FLOAT16: ("float16", 2),
    VkDataType.INT8: ("int8", 1),
}
_SHAPES: Final = ((1, 4, 4, 4), *HARDWARE_SHAPES)
"""Of the first one, all but the launch of a kernel takes no time."""

_SESSION: Final = "session.json"
_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Session:
    """What a GPU did: ns of our shaders by program and clone, and what became of their runs.

    ``runs`` has a word for each program: ``right``, ``wrong``, or why it does not run.
    """

    adapter: str
    shaders: dict[str, tuple[float, ...]]
    runs: dict[str, str]


@dataclass(frozen=True, slots=True)
class Pair:
    """A repack of a tensor, in ns: by ExecuTorch's kernel, and by our shader."""

    conversion: Conversion
    shape: tuple[int, ...]
    theirs: float
    ours: float

    @property
    def ratio(self) -> float:
        """How many times as long ExecuTorch's kernel takes."""
        return self.theirs / self.ours


def make_walks(folder: Path, shapes: Sequence[tuple[int, ...]]) -> None:
    """Writes a program for each type and shape: by default a tiny one, and ``gpu bench``'s."""
    require("The programs of clones", "executorch", "torch")
    folder.mkdir(parents=True, exist_ok=True)
    for datatype in _TYPES:
        for shape in shapes or _SHAPES:
            with quiet():
                data = _program(datatype, shape)
            name = f"{_TYPES[datatype][0]}-{'x'.join(map(str, shape))}.pte"
            write_whole(folder / name, data)


def run_walks(
    folder: Path, command: str, backend: Backend | None, adapter: str | None, repeats: int
) -> None:
    """Runs each program of a folder by a command, and the same walk by our shaders.

    Raises ``InputError`` for a folder without programs, ``OptionError`` for a wrong command, and
    ``GpuError`` without a GPU that has timestamps.
    """
    check_command(command)
    shaders: dict[str, tuple[float, ...]] = {}
    runs: dict[str, str] = {}
    with open_gpu(backend, adapter) as gpu:
        for path, graph in _walks(folder):
            steps = _conversions(graph)
            shape = _steps(graph)[0].dims
            bench = Bench(gpu, arena_bytes(c.placements(shape) for c in steps))
            try:
                shaders[path.stem] = tuple(bench.one_by_one(steps, shape, repeats))
            finally:
                bench.close()
            runs[path.stem] = _run(path, graph, command, repeats)
        session = Session(adapter_words(gpu.info), shaders, runs)
    write_whole(folder / _SESSION, json.dumps(asdict(session), indent=1).encode())


def is_made(folder: Path) -> bool:
    """Whether a folder has programs."""
    return any(folder.glob("*.pte"))


def was_run(folder: Path) -> bool:
    """Whether the programs of a folder were run."""
    return (folder / _SESSION).exists()


def clones_table(folder: Path) -> str:
    """The times of every repack by both, and their ratios, as Markdown.

    Raises ``InputError`` for a folder that has no runs, or damaged ones.
    """
    session = _session(folder)
    pairs: list[Pair] = []
    for path, graph in _walks(folder):
        if session.runs.get(path.stem) == "right":
            pairs += _pairs(path, graph, session.shaders[path.stem])
    return "\n".join(_lines(session, pairs)) + "\n"


# Programs.


def _program(datatype: VkDataType, shape: tuple[int, ...]) -> bytes:
    """A program of ExecuTorch's that hands its one input to a walk, and returns what comes back."""
    from executorch.exir import schema as et
    from executorch.exir._serialize._program import PTEFile, serialize_pte_binary
    from executorch.exir.scalar_type import ScalarType

    is_half = datatype == VkDataType.FLOAT16
    size = -(-prod(shape) * (2 if is_half else 4) // 16) * 16
    tensors = [
        et.EValue(
            et.Tensor(
                ScalarType.HALF if is_half else ScalarType.FLOAT,
                storage_offset=0,
                sizes=list(shape),
                dim_order=[*range(len(shape))],
                requires_grad=False,
                layout=0,
                data_buffer_idx=0,
                allocation_info=et.AllocationDetails(1, start % 2**32, start >> 32),
                shape_dynamism=et.TensorShapeDynamism.STATIC,
            )
        )
        for start in (0, size)
    ]
    blob = join_delegate(vkgraph.encode(_walk(datatype, shape)))
    where = et.BackendDelegateDataReference(et.DataLocation.INLINE, 0)
    plan = et.ExecutionPlan(
        name="forward",
        container_meta_type=et.ContainerMetadata("", ""),
        values=tensors,
        inputs=[0],
        outputs=[1],
        chains=[et.Chain([0], [1], [et.Instruction(et.DelegateCall(0, [0, 1]))], None)],
        operators=[],
        delegates=[et.BackendDelegate(VULKAN_BACKEND, where, [])],
        non_const_buffer_sizes=[0, 2 * size],
    )
    program = et.Program(
        version=0,
        execution_plan=[plan],
        constant_buffer=[et.Buffer(b"")],
        backend_delegate_data=[et.BackendDelegateInlineData(blob)],
        segments=[],
        constant_segment=et.SubsegmentOffsets(0, []),
    )
    return bytes(serialize_pte_binary(PTEFile(program)))


def _walk(datatype: VkDataType, shape: tuple[int, ...]) -> VkGraph:
    """The graph of a walk; its tensors take turns in two memory objects, as our shaders' do.

    ExecuTorch's runtime takes no int8 from outside in such layouts: it quantizes and dequantizes.
    """
    is_int8 = datatype == VkDataType.INT8
    values: list[Value] = [
        VkTensor(datatype, shape, -1, i % 2, step.storage_type, step.memory_layout)
        for i, step in enumerate(_tour(INT8S if is_int8 else FLOATS))
    ]
    last = len(values) - 1
    null = last + 1
    values.append(Null())
    chain: list[tuple[str, tuple[int, ...]]]
    chain = [(_CLONE, (i, null, i + 1)) for i in range(last)]
    first = 0
    if is_int8:
        first, scale, zero, least, most, out = range(null + 1, null + 7)
        outside = VkTensor(VkDataType.FLOAT32, shape, -1, -1, *astuple(DENSE))
        values += [outside, Double(1.0), Int(0), Int(-128), Int(127), outside]
        numbers = scale, zero, least, most, null
        chain = [
            (_QUANTIZE, (first, *numbers, 0)),
            *chain,
            (_DEQUANTIZE, (last, *numbers, null, out)),
        ]
        last = out
    calls = tuple(OperatorCall(i, name, args) for i, (name, args) in enumerate(chain))
    return VkGraph("0", calls, tuple(values), (first,), (last,))


def _tour(among: Sequence[TensorRepr]) -> list[TensorRepr]:
    """A closed walk that goes from each to each other once."""
    first, *others = among
    if not others:
        return [first]
    tour = [first, *_tour(others), first]
    for other in others[1:]:
        tour += [other, first]
    return tour


def _walks(folder: Path) -> Iterator[tuple[Path, VkGraph]]:
    paths = sorted(folder.glob("*.pte"))
    if not paths:
        raise InputError(f"{folder} has no programs of clones")
    for path in paths:
        (graph,) = graphs_of(path.read_bytes(), path.name)
        yield path, graph


def _steps(graph: VkGraph) -> list[VkTensor]:
    """The tensors of a walk, in order."""
    clones = [call.args for call in graph.chain if call.name == _CLONE]
    found = [graph.values[i] for i in (clones[0][0], *(args[-1] for args in clones))]
    return [value for value in found if isinstance(value, VkTensor)]


def _conversions(graph: VkGraph) -> list[Conversion]:
    """The repack that each transition of a walk does."""
    steps = [BY_PARTS[t.storage_type, t.memory_layout] for t in _steps(graph)]
    size = _TYPES[_steps(graph)[0].datatype][1]
    return [Conversion("repack", a, b, size, size) for a, b in pairwise(steps)]


# Runs.


def _run(path: Path, graph: VkGraph, command: str, repeats: int) -> str:
    """Runs a program; whether its output is its input, or why it does not run."""
    first = _steps(graph)[0]
    numbers = np.random.default_rng(0).integers(-128, 128, prod(first.dims), np.int8)
    is_half = first.datatype == VkDataType.FLOAT16
    given = numbers.astype(np.float16 if is_half else np.float32).tobytes()
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "in.bin"
        source.write_bytes(given)
        words = {
            "pte": str(path),
            "inputs": str(source),
            "outputs": f"{place}/out",
            "etdump": str(path.with_suffix(".etdump")),
            "runs": str(repeats),
        }
        try:
            run_command(command, words, _SECONDS)
        except RunFailedError as failed:
            return reason_of(failed.said) or str(failed)
        found = Path(place) / "out-0.bin"
        return "right" if found.exists() and found.read_bytes() == given else "wrong"


def _session(folder: Path) -> Session:
    try:
        found = json.loads((folder / _SESSION).read_text("utf-8"))
        shaders = {str(name): tuple(map(float, ns)) for name, ns in found["shaders"].items()}
        return Session(str(found["adapter"]), shaders, dict(found["runs"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} holds no runs of clones: {error}") from error


# The table.


def _pairs(path: Path, graph: VkGraph, ours: Sequence[float]) -> Iterator[Pair]:
    dump = path.with_suffix(".etdump")
    try:
        runs = read_etdump(dump.read_bytes(), dump.name)
    except OSError as error:
        raise InputError(f"cannot read {dump}: {error.strerror}") from error
    # Between executions the GPU waits for its host, and slows its clock: the least time counts.
    theirs = [min(d.ns) for r in runs for d in r.dispatches if d.operator == _CLONE]
    conversions = _conversions(graph)
    if not len(theirs) == len(conversions) == len(ours):
        raise InputError(
            f"{dump.name} has {len(theirs)} clones and {_SESSION} {len(ours)}, and {path.name} has "
            f"{len(conversions)}: run the programs again"
        )
    for conversion, their, our in zip(conversions, theirs, ours, strict=True):
        yield Pair(conversion, _steps(graph)[0].dims, their, our)


def _lines(session: Session, pairs: Sequence[Pair]) -> Iterator[str]:
    yield f"{session.adapter}. µs of a repack by ExecuTorch's clone kernel and by our shader, and"
    yield "in brackets how many times as long ExecuTorch's takes: the least of all runs, each alone"
    yield "between two timestamps. What a tiny tensor takes is the launch, by ExecuTorch's runtime"
    yield "and by wgpu."
    yield ""
    right = sum(word == "right" for word in session.runs.values())
    yield f"{right:,} of {len(session.runs):,} programs gave their inputs back, to the bit."
    for name, word in session.runs.items():
        if word != "right":
            yield f"`{name}`: {word}."
    pairs = sorted(pairs, key=_place)
    shapes = sorted({pair.shape for pair in pairs}, key=prod)
    titles = ["×".join(map(str, shape)) for shape in shapes]
    groups: dict[tuple[str, str], dict[str, dict[tuple[int, ...], Pair]]] = {}
    for pair in pairs:
        c = pair.conversion
        name = next(name for name, size in _TYPES.values() if size == c.source_bytes)
        rows = groups.setdefault((c.kind, name), {})
        rows.setdefault(f"{c.source} → {c.target}", {})[pair.shape] = pair
    yield ""
    yield "Times as long as ours: least, median, most."
    yield ""
    yield from head(["repack", "type", "pairs", *titles], 2)
    every = [of for rows in groups.values() for of in rows.values()]
    for (kind, name), members in [
        *((key, [*rows.values()]) for key, rows in groups.items()),
        (("all", ""), every),
    ]:
        cells = [_spread([of[shape].ratio for of in members if shape in of]) for shape in shapes]
        yield row([kind, name, str(len(members)), *cells])
    for (kind, name), rows in groups.items():
        yield ""
        yield from head([kind, "type", *titles], 2)
        for words, of in rows.items():
            yield row([words, name, *(_times(of.get(shape)) for shape in shapes)])


def _place(pair: Pair) -> tuple[int, str, int, int]:
    """Where a repack stands in the tables: by type, kind and representations."""
    c = pair.conversion
    return -c.source_bytes, c.kind, LABELS[c.source], LABELS[c.target]


def _spread(ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    return f"{min(ratios):.2f}, {np.median(ratios):.2f}, {max(ratios):.2f}"


def _times(pair: Pair | None) -> str:
    if pair is None:
        return ""
    return f"{pair.theirs / 1e3:.1f}, {pair.ours / 1e3:.1f} ({pair.ratio:.2f})"
