"""``layout-planner replay``: what was run and measured, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from api.terminal.console import visible
from api.terminal.figures import cost, ratio
from api.terminal.markdown import head, row
from gpu.device import Backend, open_gpu
from gpu.replay import Replayed, replay
from gpu.steps import ReplayStep, read_steps
from planner.costs.model import ratio as cost_ratio
from planner.costs.profile import DeviceProfile
from planner.files.whole import write_whole


def run(
    data: bytes,
    name: str,
    profile: DeviceProfile | None,
    backend: Backend | None,
    adapter: str | None,
    repeats: int,
    seed: int,
    as_json: bool,
    output: Path | None,
) -> None:
    """Replays a program and prints the times; the tables go to ``output`` as well."""
    program = read_steps(data, name, profile)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        open_gpu(backend, adapter) as gpu,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("opening", total=None)
        replayed = replay(
            gpu,
            program,
            repeats,
            seed,
            lambda what, done, total: bar.update(
                task, description=what, completed=done, total=total
            ),
        )
    document = describe(replayed)
    text = "\n".join(_lines(document)) + "\n"
    if output is not None:
        write_whole(output, text.encode())
    if as_json:
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    Console(width=200, highlight=False).print(text, markup=False, end="", soft_wrap=True)


def describe(replayed: Replayed) -> dict[str, Any]:
    """A replay as a JSON document. Times are in ns; predictions and baselines may be null."""
    program, info = replayed.program, replayed.adapter
    delegates = program.delegates
    has_baseline = all(d.baseline is not None for d in delegates)
    return {
        "name": program.name,
        "kind": program.kind,
        "adapter": {
            "name": info.name,
            "backend": info.backend,
            "driver": info.driver,
            "is_software": info.is_software,
        },
        "profile": program.profile,
        "repeats": replayed.repeats,
        "seed": replayed.seed,
        "total": _figures(
            replayed,
            [s for d in delegates for s in d.steps],
            [s for d in delegates for s in d.baseline or ()] if has_baseline else None,
        ),
        "delegates": [
            {
                "name": d.name,
                **_figures(replayed, d.steps, d.baseline),
                "steps": [_step(replayed, step) for step in d.steps],
                "baseline_steps": (
                    None if d.baseline is None else [_step(replayed, step) for step in d.baseline]
                ),
                "skipped": [
                    {"position": s.position, "operator": s.name, "reason": s.reason}
                    for s in d.skipped
                ],
            }
            for d in delegates
        ],
    }


def _figures(
    replayed: Replayed, steps: Sequence[ReplayStep], baseline: Sequence[ReplayStep] | None
) -> dict[str, Any]:
    repacks = [step for step in steps if step.step == "repack"]
    ours = _sums(replayed, repacks)
    theirs = None if baseline is None else _sums(replayed, baseline)
    return {
        "ours": ours,
        "baseline": theirs,
        "ratio": _ratio(theirs, ours, "measured_ns"),
        "predicted_ratio": _ratio(theirs, ours, "predicted_ns"),
        "quantization": _sums(replayed, [step for step in steps if step.step != "repack"]),
    }


def _sums(replayed: Replayed, steps: Sequence[ReplayStep]) -> dict[str, Any]:
    predicted = [step.predicted_ns for step in steps if step.predicted_ns is not None]
    return {
        "steps": len(steps),
        "measured_ns": round(sum(map(replayed.measured, steps)), 1),
        "predicted_ns": round(sum(predicted), 3) if len(predicted) == len(steps) else None,
    }


def _ratio(theirs: Mapping[str, Any] | None, ours: Mapping[str, Any], key: str) -> float | None:
    """Null too where one of the times is not known."""
    before, after = None if theirs is None else theirs[key], ours[key]
    return None if before is None or after is None else cost_ratio(before, after)


def _step(replayed: Replayed, step: ReplayStep) -> dict[str, Any]:
    return {
        "position": step.position,
        "step": step.step,
        "tensor": step.tensor,
        "source": step.source,
        "output": step.output,
        "shape": list(step.shape),
        "dtype": step.dtype.name.lower(),
        "from": str(step.conversion.source),
        "to": str(step.conversion.target),
        "measured_ns": round(replayed.measured(step), 1),
        "predicted_ns": step.predicted_ns,
    }


def _lines(document: dict[str, Any]) -> Iterator[str]:
    adapter, total = document["adapter"], document["total"]
    kind = ", software" if adapter["is_software"] else ""
    yield f"{visible(document['name'])} on {visible(adapter['name'])} ({adapter['backend']}, " + (
        f"{visible(adapter['driver'])}{kind})."
    )
    yield (
        "Every step's result is right to the bit. Times are of each step alone, the median of "
        + (f"{document['repeats']}.")
    )
    if document["profile"] is not None:
        yield f"Predictions are those of profile {visible(document['profile'])}."
    yield ""
    yield from _summary(total)
    for delegate in document["delegates"]:
        yield from _delegate(delegate)


def _summary(total: dict[str, Any]) -> Iterator[str]:
    yield from head(["", "steps", "measured", "predicted"])
    theirs, ours = total["baseline"], total["ours"]
    if theirs is not None:
        yield _sum_row("repacks before planning", theirs)
    yield _sum_row("repacks, planned" if theirs is not None else "repacks", ours)
    if theirs is not None:
        ratios = {"measured_ns": total["ratio"], "predicted_ns": total["predicted_ratio"]}
        is_known = {key: None not in (theirs[key], ours[key]) for key in _TIMES}
        texts = [ratio(ratios[key]) if is_known[key] else "–" for key in _TIMES]
        yield row(["before planning / planned", "", *texts])
    if total["quantization"]["steps"]:
        yield _sum_row("quantize, dequantize", total["quantization"])


def _sum_row(heading: str, sums: dict[str, Any]) -> str:
    return row([heading, str(sums["steps"]), *_times(sums)])


def _delegate(delegate: dict[str, Any]) -> Iterator[str]:
    for heading, steps in (
        (visible(delegate["name"]), delegate["steps"]),
        (f"{visible(delegate['name'])}, before planning", delegate["baseline_steps"]),
    ):
        if steps:
            yield ""
            yield from head([heading, "tensor", "shape", "from → to", "measured", "predicted"], 4)
            yield from (_step_row(index, step) for index, step in enumerate(steps))
    for skipped in delegate["skipped"]:
        yield ""
        yield (
            f"Not replayed: operator {skipped['position']} ({visible(skipped['operator'])}): "
            f"{visible(skipped['reason'])}."
        )


def _step_row(index: int, step: dict[str, Any]) -> str:
    shape = "×".join(map(str, step["shape"])) or "scalar"
    return row(
        [
            f"{index if step['position'] is None else step['position']} {step['step']}",
            visible(step["tensor"]) or "–",
            f"{shape} {step['dtype']}",
            f"{step['from']} → {step['to']}",
            *_times(step),
        ]
    )


def _times(part: dict[str, Any]) -> list[str]:
    return ["–" if part[key] is None else cost(part[key], "ns") for key in _TIMES]


_TIMES: Final = ("measured_ns", "predicted_ns")
