"""The command line, ``layout-planner``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

import planner
from planner.errors import PlannerError

if TYPE_CHECKING:
    from planner.exported import Progress

F = TypeVar("F", bound=Callable[..., Any])
USER_ERROR = 2


class _Group(click.Group):
    """Prints the planner's errors in one line and exits with 2, as for a wrong option."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PlannerError as error:
            _fail(str(error))


def _fail(text: str) -> NoReturn:
    click.echo("Error: " + " ".join(text.split()), err=True)
    raise SystemExit(USER_ERROR)


def _planning_options(command: F) -> F:
    options = (
        click.option(
            "--profile",
            default="default",
            show_default=True,
            metavar="NAME|FILE",
            help="What transitions cost: 'bytes', 'default', or a profile's JSON file.",
        ),
        click.option(
            "--objective",
            default="repack",
            show_default=True,
            metavar="repack|latency",
            help="Least cost of transitions, or of transitions and operators' accesses.",
        ),
        click.option(
            "--texture-limits",
            metavar="X,Y,Z",
            help="Largest image extents in texels [default: ExecuTorch's, 16384,16384,2048].",
        ),
        click.option(
            "--without-layout",
            "without_layouts",
            multiple=True,
            metavar="NAME",
            help="Plan without this layout, to see what it buys. May be repeated.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


_PATH = click.Path(dir_okay=False, path_type=Path)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(planner.__version__, prog_name="layout-planner")
def main() -> None:
    """Plan tensor layouts for ExecuTorch's Vulkan delegate: optimal, proven, checked."""


@main.command()
@click.argument("source", metavar="INPUT.pt2", type=_PATH)
@click.option("-o", "--output", type=_PATH, help="Write the planned program (flatbuffer) here.")
@click.option("--pte", type=_PATH, help="Write the planned program for ExecuTorch's runtime here.")
@click.option("--report", "report_path", type=_PATH, help="Write the JSON report here.")
@_planning_options
def plan(
    source: Path,
    output: Path | None,
    pte: Path | None,
    report_path: Path | None,
    profile: str,
    objective: str,
    texture_limits: str | None,
    without_layouts: tuple[str, ...],
) -> None:
    """Plan a program saved by torch.export.save, and compare with ExecuTorch's own pass."""
    from api.files import check_writable, read_input, write_whole
    from planner.exported import plan_exported
    from planner.options import make_options

    options = make_options(profile, objective, texture_limits, without_layouts)
    for path in (output, pte, report_path):
        check_writable(path)
    data = read_input(source)
    with _progress() as progress:
        planned = plan_exported(data, source.name, options, progress)
        if pte is not None:
            progress("writing the .pte", None)
            write_whole(pte, planned.pte())
    if output is not None:
        write_whole(output, planned.flatbuffer())
    if report_path is not None:
        write_whole(report_path, (json.dumps(planned.report, indent=2) + "\n").encode())

    from api.tables import plan_table, stdout

    stdout().print(plan_table(planned.report))


@contextmanager
def _progress() -> Iterator[Progress]:
    """A progress bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as p:
        task = p.add_task("starting", total=None)
        done = 0

        def progress(stage: str, delegate: object) -> None:
            nonlocal done
            done += delegate is not None
            p.update(task, description=stage + (f": delegate {done}" if delegate else ""))

        yield progress


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, help="0 takes any free port.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep plans here [default: until the service stops].",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Programs planned at a time.",
)
def serve(host: str, port: int, data_dir: Path | None, workers: int) -> None:
    """Start the HTTP service: POST /plan takes a .pt2 and returns the planned program."""
    from api.service import Settings
    from api.service import serve as run

    run(host, port, Settings(data_dir=data_dir, workers=workers))


@main.command()
@click.argument("name")
@click.option("-o", "--output", type=_PATH, required=True, help="Write the .pt2 here.")
@click.option("--small", is_flag=True, help="Fewer and narrower blocks.")
def zoo(name: str, output: Path, small: bool) -> None:
    """Export a model with random weights to plan: convnext_t, segformer_b0, swin_t, ..."""
    from api import zoo as models
    from api.files import check_writable, write_whole
    from planner.errors import OptionError

    if name not in models.names():
        raise OptionError(f"unknown model {name!r}: use one of {', '.join(models.names())}")
    check_writable(output)
    write_whole(output, models.save(name, "small" if small else "full"))


@main.command()
@click.argument("name", default="segformer_b0")
@click.option("--small", is_flag=True, help="Fewer and narrower blocks.")
def demo(name: str, small: bool) -> None:
    """Export a model, start the service, POST the model to /plan, and print what changed."""
    from api.demo import run

    run(name, "small" if small else "full")


@main.group()
def bench() -> None:
    """Measure: always against the alternative, in the same run."""


@bench.command("models")
@click.argument("names", nargs=-1)
@click.option("--small", is_flag=True, help="Fewer and narrower blocks.")
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Keep the least time of so many.",
)
@click.option(
    "--cpsat",
    type=float,
    metavar="SECONDS",
    help="Also solve the whole model by CP-SAT alone, for at most so long a delegate.",
)
@click.option("-o", "--output", type=_PATH, help="Write the table here, as Markdown.")
@_planning_options
def bench_models(
    names: tuple[str, ...],
    small: bool,
    repeats: int,
    cpsat: float | None,
    output: Path | None,
    profile: str,
    objective: str,
    texture_limits: str | None,
    without_layouts: tuple[str, ...],
) -> None:
    """Plan the models of the zoo: cost and planning time against ExecuTorch's own pass."""
    from api.bench import models
    from api.files import check_writable
    from planner.options import make_options

    check_writable(output)
    options = make_options(profile, objective, texture_limits, without_layouts)
    models(names, "small" if small else "full", options, repeats, cpsat, output)


if __name__ == "__main__":
    main()
