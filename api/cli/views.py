"""Commands that write a program for viewers that people have."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from api.cli.options import FOLDER, PATH, read_costs

if TYPE_CHECKING:
    from planner.export.timeline import TimedProgram


def timing_options(command: Callable[..., None]) -> Callable[..., None]:
    """A file, and where its steps' times are from; the command gets them read, as ``program``."""

    @wraps(command)
    def with_program(
        source: Path,
        etdump: Path | None,
        costs: Path | None,
        device: str | None,
        profile: str | None,
        **others: Any,
    ) -> None:
        command(
            read=lambda: _read(source, etdump, costs, device, profile),
            **others,
        )

    options = (
        click.argument("source", metavar="FILE", type=PATH),
        click.option(
            "--etdump",
            type=PATH,
            metavar="RUN.etdump",
            help="What ExecuTorch's Vulkan runtime measured of the program.",
        ),
        click.option(
            "--costs",
            type=PATH,
            metavar="FILE",
            help="Predict by what a device measured: a database that 'profile import' made. "
            "The profile answers for what is not in it.",
        ),
        click.option(
            "--device",
            metavar="NAME|FILE",
            help="Predict by this device: one that ships with the planner, or a device's file. "
            "With --costs, the device in that database [default: the only one].",
        ),
        click.option(
            "--profile",
            metavar="NAME|FILE",
            help="Predict by a profile in ns [default: what a plan says itself; else 'default'].",
        ),
    )
    found = with_program
    for option in reversed(options):
        found = option(found)
    return found


def _read(
    source: Path, etdump: Path | None, costs: Path | None, device: str | None, profile: str | None
) -> TimedProgram:
    from api.files import read_input
    from planner.export.timeline import time_program
    from planner.files.kinds import FileKind, kind_of
    from planner.options import make_options

    data = read_input(source)
    run = None if etdump is None else read_input(etdump)
    is_plan = kind_of(data) is FileKind.PLANNED
    asked = (costs, device, profile) != (None, None, None)
    options = None
    if asked or not is_plan:
        name = profile or "default"
        options = make_options(name, "latency", costs=read_costs(costs, device, name))
    return time_program(data, source.name, options, run, "" if etdump is None else etdump.name)


@click.command("trace")
@timing_options
@click.option(
    "-o", "--output", type=PATH, required=True, metavar="FILE", help="Write the trace here."
)
@click.option(
    "--end-to-end",
    is_flag=True,
    help="Leave no gaps. By default a step begins at the same time where it was measured and where "
    "it is predicted.",
)
def trace_command(read: Callable[[], TimedProgram], output: Path, end_to_end: bool) -> None:
    """Write a program's steps on a time line, for ui.perfetto.dev or chrome://tracing.

    FILE is a .pte, a VkGraph or a planned program: its operators and transitions, as long as they
    are predicted to take and, with --etdump, as long as they took.
    """
    from api.files import check_writable
    from planner.export.perfetto import trace
    from planner.files.whole import write_whole

    check_writable(output)
    program = read()
    write_whole(output, _json(trace(program, end_to_end=end_to_end)))
    _print_summary(program)
    click.echo(f"wrote {output}: open it in ui.perfetto.dev or chrome://tracing")


@click.command("overlay")
@timing_options
@click.option(
    "-o",
    "--output",
    type=FOLDER,
    required=True,
    metavar="DIR",
    help="Write the files here; made if it is not there.",
)
def overlay_command(read: Callable[[], TimedProgram], output: Path) -> None:
    """Write a program's graph and costs for Google's Model Explorer.

    FILE is a .pte, a VkGraph or a planned program. The graph goes to DIR/graph.json; a file for
    each set of node data goes beside it: representation, transition, cost, origin, measured.
    """
    from api.files import check_writable
    from planner.export.model_explorer import GRAPH, documents
    from planner.files.whole import write_whole

    check_writable(output / "graph.json" if output.is_dir() else output)
    program = read()
    found = {output / f"{name}.json": _json(data) for name, data in documents(program).items()}
    output.mkdir(exist_ok=True)
    for path, data in found.items():
        write_whole(path, data)
    _print_summary(program)
    graph = output / f"{GRAPH}.json"
    sets = ",".join(str(path) for path in found if path != graph)
    click.echo(f"wrote {len(found)} files; pip install ai-edge-model-explorer, and open them:")
    click.echo(f"model-explorer {shlex.quote(str(graph))} --node_data_paths={shlex.quote(sets)}")


def _json(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def _print_summary(program: TimedProgram) -> None:
    """What steps come to, and what is not known of them."""
    from api.terminal.console import visible

    run = program.run
    if run is not None:
        click.echo(f"measured: {run.joined / 1e6:.3f} ms in {len(run.steps)} steps")
        if run.unknown:
            click.echo(f"and {run.unknown / 1e6:.3f} ms of no operator, which are left out")
    by = visible(program.predicted_by)
    missing = len(program.unpredicted)
    click.echo(
        f"predicted by {by}: {program.predicted / 1e6:.3f} ms"
        + (f"; nothing of {missing} of {len(program.steps)} steps" if missing else "")
    )
