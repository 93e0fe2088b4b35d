"""The command line, ``layout-planner``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

import planner
from planner.errors import PlannerError

if TYPE_CHECKING:
    from planner.exported import Progress
    from planner.options import PlanOptions

F = TypeVar("F", bound=Callable[..., Any])
USER_ERROR = 2
_PATH = click.Path(dir_okay=False, path_type=Path)


class _Group(click.Group):
    """Prints the planner's errors, and wrong options, in one line and exits with 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PlannerError as error:
            _fail(str(error))
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            command = (error.ctx or ctx).command_path
            _fail(f"{error.format_message()} See {command} --help.")


def _fail(text: str) -> NoReturn:
    click.echo("Error: " + " ".join(text.split()), err=True)
    raise SystemExit(USER_ERROR)


def _planning_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of planning; the command gets them together, as ``options``."""

    @wraps(command)
    def with_options(
        profile: str,
        objective: str,
        texture_limits: str | None,
        buffer_limit: int | None,
        without_layouts: tuple[str, ...],
        costs: Path | None,
        device: str | None,
        **others: Any,
    ) -> None:
        from planner.options import make_options

        options = make_options(
            profile, objective, texture_limits, without_layouts, buffer_limit, costs, device
        )
        command(options=options, **others)

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
            help="Least cost of transitions, or of transitions and operators.",
        ),
        click.option(
            "--texture-limits",
            metavar="X,Y,Z",
            help="Largest image extents in texels [default: ExecuTorch's, 16384,16384,2048].",
        ),
        click.option(
            "--buffer-limit",
            type=int,
            metavar="N",
            help="Fewest elements that are too many for a buffer [default: no limit].",
        ),
        click.option(
            "--without-layout",
            "without_layouts",
            multiple=True,
            metavar="NAME",
            help="Plan without this layout, to see what it buys. May be repeated.",
        ),
        click.option(
            "--costs",
            type=_PATH,
            metavar="FILE",
            help="Take costs from what a device measured: a database that 'profile import' made. "
            "The profile answers for what is not in it.",
        ),
        click.option(
            "--device", metavar="NAME", help="The device in --costs [default: the only one]."
        ),
    )
    found = with_options
    for option in reversed(options):
        found = option(found)
    return found


def _gpu_options(command: F) -> F:
    options = (
        click.option(
            "--backend",
            metavar="vulkan|metal|d3d12|opengl",
            help="Use a GPU of this backend [default: the first of these that there is].",
        ),
        click.option(
            "--adapter",
            metavar="NAME",
            help="Use a GPU with this in its name [default: hardware before software].",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(planner.__version__, prog_name="layout-planner")
def main() -> None:
    """Plan tensor layouts for ExecuTorch's Vulkan delegate: optimal, proven, checked."""


@main.command()
@click.argument("source", metavar="INPUT", type=_PATH)
@click.option(
    "-o",
    "--output",
    type=_PATH,
    help="Write here: for a .pt2 the planned program (flatbuffer), for a .pte or VkGraph the same "
    "with its new layouts.",
)
@click.option(
    "--plan", "plan_path", type=_PATH, help="Write the planned program (flatbuffer) here."
)
@click.option("--pte", type=_PATH, help="Write the planned program for ExecuTorch's runtime here.")
@click.option("--report", "report_path", type=_PATH, help="Write the JSON report here.")
@_planning_options
def plan(
    source: Path,
    output: Path | None,
    plan_path: Path | None,
    pte: Path | None,
    report_path: Path | None,
    options: PlanOptions,
) -> None:
    """Plan a program: a .pt2 saved by torch.export.save, a lowered .pte, or a VkGraph.

    Its layouts are compared with those of ExecuTorch's own pass, or with those that it came with.
    """
    from api.files import check_writable, read_input, write_whole
    from planner.inputs import plan_program
    from planner.replan import Replanned

    for path in (output, plan_path, pte, report_path):
        check_writable(path)
    data = read_input(source)
    with _progress() as progress:
        planned = plan_program(data, source.name, options, progress)
        if pte is not None:
            progress("writing the .pte", None)
            write_whole(pte, planned.pte())
    if output is not None:
        lowered = planned.data if isinstance(planned, Replanned) else None
        write_whole(output, planned.flatbuffer() if lowered is None else lowered)
    if plan_path is not None:
        write_whole(plan_path, planned.flatbuffer())
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


_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@main.command()
@click.argument("source", metavar="FILE", type=_PATH)
@_JSON
def show(source: Path, as_json: bool) -> None:
    """Print the operators, representations and repacks of a .pte, a VkGraph or a plan."""
    from api.files import read_input
    from planner.listing import describe

    description = describe(read_input(source), source.name)
    if as_json:
        click.echo(json.dumps(description, indent=2))
        return
    from api.show import show_table
    from api.tables import stdout

    console = stdout()
    for part in show_table(description):
        console.print(part)


@main.command()
@click.argument("before", metavar="A", type=_PATH)
@click.argument("after", metavar="B", type=_PATH)
@click.option(
    "--profile",
    default="default",
    show_default=True,
    metavar="NAME|FILE",
    help="What transitions cost: 'bytes', 'default', or a profile's JSON file.",
)
@click.option("--exit-code", is_flag=True, help="Exit with 1 if the two differ.")
@_JSON
def diff(before: Path, after: Path, profile: str, exit_code: bool, as_json: bool) -> None:
    """Print what changed between two plans, .pte files or VkGraphs of one program."""
    from api.files import read_input
    from planner.difference import compare
    from planner.profile import load_profile

    prices = load_profile(profile)
    difference = compare(read_input(before), before.name, read_input(after), after.name, prices)
    if as_json:
        click.echo(json.dumps(difference, indent=2))
    else:
        from api.show import diff_table
        from api.tables import stdout

        console = stdout()
        for part in diff_table(difference):
            console.print(part)
    if exit_code and not difference["is_equal"]:
        raise SystemExit(1)


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
    options: PlanOptions,
) -> None:
    """Plan the models of the zoo: cost and planning time against ExecuTorch's own pass."""
    from api.bench import models
    from api.files import check_writable

    check_writable(output)
    models(names, "small" if small else "full", options, repeats, cpsat, output)


@bench.command("replan")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--operators",
    multiple=True,
    type=click.IntRange(min=1),
    help="A size to measure [default: 100 to 100,000]. May be repeated.",
)
@click.option("-o", "--output", type=_PATH, help="Write the table here, as Markdown.")
def bench_replan(files: tuple[Path, ...], operators: tuple[int, ...], output: Path | None) -> None:
    """Re-plan graphs of growing size: times to parse, solve and write, and memory.

    For FILES, the CPU time of planning each in a process of its own instead.
    """
    from api.files import check_writable
    from api.scaling import SIZES, scaling, whole_process

    if files:
        whole_process(files)
        return
    check_writable(output)
    scaling(operators or SIZES, output)


@main.group("gpu")
def gpu_group() -> None:
    """The GPU of this machine, through Vulkan or what else there is."""


@gpu_group.command("info")
@_gpu_options
@_JSON
def gpu_info(backend: str | None, adapter: str | None, as_json: bool) -> None:
    """Print every GPU of this machine, and which one is used: drivers, features, limits."""
    from api.gpu_tables import adapters_table, describe_adapters
    from gpu.device import choose, list_adapters, parse_backend

    wanted = parse_backend(backend)
    adapters = list_adapters()
    description = describe_adapters(adapters, choose(adapters, wanted, adapter))
    if as_json:
        click.echo(json.dumps(description, indent=2))
        return
    from api.tables import stdout

    stdout().print(adapters_table(description))


@gpu_group.command("bench")
@_gpu_options
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="N,C,H,W",
    help="A tensor to measure with [default: a small, a middling, and for hardware a large one]. "
    "May be repeated.",
)
@click.option("--repeats", type=click.IntRange(min=1), default=15, show_default=True)
@click.option("--float16", is_flag=True, help="Float tensors of 2 bytes an element.")
@click.option("-o", "--output", type=_PATH, help="Write the tables here, as Markdown.")
def gpu_bench(
    backend: str | None,
    adapter: str | None,
    shapes: tuple[str, ...],
    repeats: int,
    float16: bool,
    output: Path | None,
) -> None:
    """Time every quantize, dequantize and repack against a plain copy of as many bytes."""
    from api.files import check_writable
    from api.gpu_bench import bench as run
    from gpu.bench import parse_shape
    from gpu.device import parse_backend

    check_writable(output)
    parsed = [parse_shape(text) for text in shapes]
    run(parse_backend(backend), adapter, parsed, repeats, 2 if float16 else 4, output)


@main.command("replay")
@click.argument("source", metavar="PLAN", type=_PATH)
@_gpu_options
@click.option(
    "--profile",
    metavar="NAME|FILE",
    help="What predicts times [default: the plan's own costs, where they are in ns].",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=15,
    show_default=True,
    help="Keep the median of so many.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the tensors' data."
)
@_JSON
@click.option("-o", "--output", type=_PATH, help="Write the tables here, as Markdown.")
def replay_command(
    source: Path,
    backend: str | None,
    adapter: str | None,
    profile: str | None,
    repeats: int,
    seed: int,
    as_json: bool,
    output: Path | None,
) -> None:
    """Run a plan's repacks and the baseline's on this machine's GPU: check every bit, and measure.

    PLAN is a planned program (plan --plan FILE), or a .pte or VkGraph, which has no baseline.
    """
    from api.files import check_writable, read_input
    from api.replay import run
    from gpu.device import parse_backend
    from planner.profile import load_profile

    check_writable(output)
    run(
        read_input(source),
        source.name,
        None if profile is None else load_profile(profile),
        parse_backend(backend),
        adapter,
        repeats,
        seed,
        as_json,
        output,
    )


@main.command()
@_gpu_options
@click.option("-o", "--output", type=_PATH, required=True, help="Write the profile here, as JSON.")
@click.option("--name", help="The profile's name [default: the adapter's].")
@click.option("--repeats", type=click.IntRange(min=1), default=21, show_default=True)
@click.option(
    "--report", "report_path", type=_PATH, help="Write how well it fits here, as Markdown."
)
def calibrate(
    backend: str | None,
    adapter: str | None,
    output: Path,
    name: str | None,
    repeats: int,
    report_path: Path | None,
) -> None:
    """Measure this machine's GPU and write a profile for plan --profile."""
    from api.files import check_writable
    from api.gpu_bench import calibration
    from gpu.device import parse_backend

    for path in (output, report_path):
        check_writable(path)
    calibration(parse_backend(backend), adapter, name, repeats, output, report_path)


@main.group("profile")
def profile_group() -> None:
    """What a device's own runs of a model teach about its costs."""


@profile_group.command("import")
@click.argument("etdump", metavar="RUN.etdump", type=_PATH)
@click.option("--graph", type=_PATH, required=True, help="The .pte that was profiled.")
@click.option("--device", required=True, metavar="NAME", help="The device that it ran on.")
@click.option("--driver", default="unknown", show_default=True, help="The device's driver.")
@click.option(
    "-o",
    "--output",
    type=_PATH,
    default=Path("costs.sqlite"),
    show_default=True,
    help="The cost database to add to.",
)
def profile_import(etdump: Path, graph: Path, device: str, driver: str, output: Path) -> None:
    """Add what ExecuTorch's Vulkan runtime measured to a cost database."""
    from api.files import read_input
    from planner.learn import import_run

    data, program = read_input(etdump), read_input(graph)
    imported = import_run(data, etdump.name, program, graph.name, device, driver, output)
    state = "added" if imported.is_new else "was there already"
    click.echo(
        f"{etdump.name}: {len(imported.join.samples)} samples, "
        f"{imported.join.total / 1e6:.1f} ms an inference, {imported.join.share:.1%} joined; "
        f"{state} in {output} as {device}"
    )


if __name__ == "__main__":
    main()
