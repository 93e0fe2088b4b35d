"""Commands that measure the planner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.cli.options import FOLDER, PATH, PROFILE, gpu_options, planning_options

if TYPE_CHECKING:
    from api.bench.kernels import Judged, Program
    from planner.costs.profile import DeviceProfile
    from planner.options import PlanOptions


@click.group("bench")
def bench_group() -> None:
    """Measure the planner, always against the alternative in the same run."""


@bench_group.command("models")
@click.argument("names", nargs=-1)
@click.option("--small", is_flag=True, help="Fewer and narrower blocks.")
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Runs of each; the fastest counts.",
)
@click.option(
    "--cpsat",
    type=float,
    metavar="SECONDS",
    help="Also solve the whole model by CP-SAT alone, for at most this long per delegate.",
)
@click.option("-o", "--output", type=PATH, help="Write the table here, as Markdown.")
@planning_options
def bench_models(
    names: tuple[str, ...],
    small: bool,
    repeats: int,
    cpsat: float | None,
    output: Path | None,
    options: PlanOptions,
) -> None:
    """Plan the models of the zoo: cost and planning time against ExecuTorch's own pass."""
    from api.bench.models import models
    from api.files import check_writable

    check_writable(output)
    models(names, "small" if small else "full", options, repeats, cpsat, output)


@bench_group.command("lowering")
@click.argument("names", nargs=-1, metavar="[MODEL]...")
@click.option("--small", is_flag=True, help="Their small variants.")
@click.option("-o", "--output", type=PATH, help="Write the table here, as Markdown.")
def bench_lowering(names: tuple[str, ...], small: bool, output: Path | None) -> None:
    """Lower models of the zoo: seconds by ExecuTorch alone, and by us with the planning."""
    from api.bench.lowering import lowering
    from api.files import check_writable

    check_writable(output)
    lowering(names, "small" if small else "full", output)


@bench_group.command("webgpu")
@click.argument("names", nargs=-1, metavar="[MODEL]...")
@click.option("--small", is_flag=True, help="Their small variants.")
@click.option("-o", "--output", type=PATH, help="Write the table here, as Markdown.")
def bench_webgpu(names: tuple[str, ...], small: bool, output: Path | None) -> None:
    """Plan models of the zoo for ExecuTorch's WebGPU runtime, and back for Vulkan's."""
    from api.bench.webgpu import webgpu
    from api.files import check_writable

    check_writable(output)
    webgpu(names, "small" if small else "full", output)


@bench_group.command("kernels")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--run", "command", metavar="CMD", help="Run each program by this command.")
@click.option("--only", multiple=True, metavar="TEXT", help="Operators of such names alone.")
@click.option("-o", "--output", type=PATH, help="Write the map here, as Markdown.")
def bench_kernels(
    folder: Path, command: str | None, only: tuple[str, ...], output: Path | None
) -> None:
    """Run every operator in every representation on a device, and compare with eager PyTorch.

    Programs of one operator are written to DIR, unless it has them. CMD runs one: {pte} stands for
    the program, {inputs} for files of its inputs, {outputs} for the name that files of outputs
    begin with, {etdump} for a file. With ExecuTorch's own runner it is 'executor_runner
    --model_path={pte} --inputs={inputs} --output_file={outputs} --etdump_path={etdump}'. What has
    run is judged: the map of operators and representations is printed.
    """
    from api.bench.kernels import make_sweep, read_untried, sweep_tables

    def tables(judged: Sequence[Judged]) -> str:
        return sweep_tables(judged, read_untried(folder))

    _sweep(folder, lambda: make_sweep(folder, only), command, tables, output)


@bench_group.command("runtime")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--run", "command", metavar="CMD", help="Run each program by this command.")
@click.option("--nets", type=click.IntRange(min=0), default=300, show_default=True)
@click.option("--model", "models", multiple=True, help="A model of the zoo [default: all].")
@click.option("-o", "--output", type=PATH, help="Write the table here, as Markdown.")
def bench_runtime(
    folder: Path,
    command: str | None,
    nets: int,
    models: tuple[str, ...],
    output: Path | None,
) -> None:
    """Run small models of the zoo and random nets on ExecuTorch's runtime, planned and not.

    Programs are written to DIR, unless it has them; CMD runs one, as for 'bench kernels'. Outputs
    are compared with eager PyTorch's, of int8 programs with those of ExecuTorch's own layouts.
    """
    from api.bench import zoo
    from api.bench.runtime import make_programs, runtime_table

    chosen = zoo.chosen(models)
    _sweep(folder, lambda: make_programs(folder, chosen, nets), command, runtime_table, output)


def _sweep(
    folder: Path,
    make: Callable[[], Sequence[Program]],
    command: str | None,
    tables: Callable[[Sequence[Judged]], str],
    output: Path | None,
) -> None:
    """Makes the programs of a folder, unless it has them, runs them, and prints what came of it."""
    from api.bench.kernels import is_sweep, judge_sweep, read_sweep, run_sweep
    from api.files import check_writable
    from planner.files.whole import write_whole
    from planner.tuning.runners import check_command

    check_writable(output)
    if command is not None:
        check_command(command)
    programs = read_sweep(folder) if is_sweep(folder) else make()
    if command is not None:
        run_sweep(folder, programs, command)
    text = tables(judge_sweep(folder, programs))
    click.echo(text, nl=False)
    if output is not None:
        write_whole(output, text.encode())


@bench_group.command("clones")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--run", "command", metavar="CMD", help="Run each program by this command.")
@gpu_options
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="N,C,H,W",
    help="A tensor to repack [default: tiny, small, medium and large]. May be repeated.",
)
@click.option("--repeats", type=click.IntRange(min=1), default=21, show_default=True)
@click.option("-o", "--output", type=PATH, help="Write the table here, as Markdown.")
def bench_clones(
    folder: Path,
    command: str | None,
    backend: str | None,
    adapter: str | None,
    shapes: tuple[str, ...],
    repeats: int,
    output: Path | None,
) -> None:
    """Time ExecuTorch's kernels for repacks against our shaders, on this machine's GPU.

    Programs of repacks alone are written to DIR, unless it has them. CMD runs one on the GPU, as
    for 'bench kernels', {runs} times; our shaders run in the same call. The table of both is
    printed where ExecuTorch is installed, which reads the ETDumps, once they were run.
    """
    from api.bench.clones import clones_table, is_made, make_walks, run_walks, was_run
    from api.files import check_writable
    from api.terminal.markdown import print_and_write
    from gpu.bench import parse_shape
    from gpu.device import parse_backend

    check_writable(output)
    if not is_made(folder):
        make_walks(folder, [parse_shape(text) for text in shapes])
    if command is not None:
        run_walks(folder, command, parse_backend(backend), adapter, repeats)
    if was_run(folder):
        print_and_write(clones_table(folder), output)


@bench_group.command("replan")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--operators",
    multiple=True,
    type=click.IntRange(min=1),
    help="A size to measure [default: 100 to 100,000]. May be repeated.",
)
@click.option("-o", "--output", type=PATH, help="Write the table here, as Markdown.")
def bench_replan(files: tuple[Path, ...], operators: tuple[int, ...], output: Path | None) -> None:
    """Re-plan graphs of growing size: CPU seconds by stage, and memory.

    For FILES, the CPU time of planning each in a process of its own instead, from start to file.
    """
    from api.bench.replan import SIZES, scaling, whole_process
    from api.files import check_writable

    if files:
        whole_process(files)
        return
    check_writable(output)
    scaling(operators or SIZES, output)


@bench_group.command("solver")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", "models", multiple=True, help="A model of the zoo. May be repeated.")
@click.option(
    "--seconds",
    multiple=True,
    type=click.FloatRange(min=0, min_open=True),
    help="A limit to race to [default: 1, 5 and 20]. May be repeated.",
)
@click.option("--quick", is_flag=True, help="Few and small problems, for one second each.")
@click.option("--parts", is_flag=True, help="Our solver alone, and without one of its parts.")
@click.option(
    "--beside",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Run only ours, beside what others found in this table of before.",
)
@click.option("-o", "--output", type=PATH, help="Write the table here, as Markdown.")
def bench_solver(
    files: tuple[Path, ...],
    models: tuple[str, ...],
    seconds: tuple[float, ...],
    quick: bool,
    parts: bool,
    beside: Path | None,
    output: Path | None,
) -> None:
    """Solve hard problems by us, toulbar2, HiGHS and CP-SAT: values, bounds, CPU time, memory.

    FILES are lowered programs, whose layout problems are solved instead of drawn ones.
    """
    from api.bench.solver import racing
    from api.files import check_writable

    check_writable(output)
    racing(files, models, seconds, quick, parts, beside, output)


@bench_group.command("answers")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", "models", multiple=True, help="A model of the zoo. May be repeated.")
@click.option("--small", is_flag=True, help="Fewer and narrower blocks.")
@click.option("--device", metavar="NAME|FILE", help="By the costs of this device.")
@click.option(
    "--checks",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Parts of each answer that are asked again.",
)
@click.option("-o", "--output", type=PATH, help="Write the table here, as Markdown.")
def bench_answers(
    files: tuple[Path, ...],
    models: tuple[str, ...],
    small: bool,
    device: str | None,
    checks: int,
    output: Path | None,
) -> None:
    """Ask all that can be asked of a plan: CPU time, against planning again, which has to agree.

    Of models of the zoo, by default all, or of FILES, which are lowered programs.
    """
    from api.bench.answers import answers
    from api.files import check_writable

    check_writable(output)
    answers(files, models, "small" if small else "full", device, checks, output)


@bench_group.command("commands")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", "models", multiple=True, help="A model of the zoo. May be repeated.")
@click.option("--small", is_flag=True, help="Fewer and narrower blocks.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=240.0,
    show_default=True,
    help="The longest that one command may take.",
)
@click.option("-o", "--output", type=PATH, help="Write the table here, as Markdown.")
def bench_commands(
    files: tuple[Path, ...],
    models: tuple[str, ...],
    small: bool,
    seconds: float,
    output: Path | None,
) -> None:
    """Run every command that plans or asks about a plan: whether it ends, and proves what it says.

    On models of the zoo, by default all, or on FILES, which are lowered programs.
    """
    from api.bench.commands import commands
    from api.files import check_writable

    check_writable(output)
    commands(files, models, "small" if small else "full", seconds, output)


@bench_group.command("profiles")
@click.argument("folder", metavar="[DIR]", required=False, type=FOLDER)
@PROFILE
@click.option("-o", "--output", type=PATH, help="Write the tables here, as Markdown.")
@click.option(
    "--write-devices",
    "devices",
    type=FOLDER,
    metavar="FOLDER",
    help="Write the files of the devices that ship with the planner here, and no tables.",
)
def bench_profiles(
    folder: Path | None, profile: str, output: Path | None, devices: Path | None
) -> None:
    """Learn from recorded runs, predict the others, and print errors and the order of plans.

    DIR has MODEL_PLAN.etdump with MODEL_PLAN.pte, loose or in .tar.xz, or a folder of them for each
    device [default: the repository's].
    """
    from api.bench.devices import write_devices
    from api.bench.profiles import profiles
    from api.files import check_writable
    from planner.costs.profile_file import load_profile

    if devices is not None:
        write_devices(folder, devices)
        return
    check_writable(output)
    profiles(folder, load_profile(profile), output)


@bench_group.command("explore")
@click.argument("folder", metavar="[DIR]", required=False, type=FOLDER)
@PROFILE
@click.option("--count", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--devices", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("-o", "--output", type=PATH, help="Write the tables here, as Markdown.")
def bench_explore(
    folder: Path | None, profile: str, count: int, rounds: int, devices: int, output: Path | None
) -> None:
    """Explore simulated devices: rounds to the best plan, against random variants.

    The devices are made from recorded runs, as for 'bench profiles'; their true times are hidden.
    """
    from api.bench.explore import exploring
    from api.files import check_writable
    from planner.costs.profile_file import load_profile

    check_writable(output)
    exploring(folder, load_profile(profile), count, rounds, devices, output)


@bench_group.command("tune")
@click.argument("folder", metavar="[DIR]", required=False, type=FOLDER)
@click.option("--small", is_flag=True, help="Small random nets, a device for each.")
@click.option("--devices", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the first device.")
@click.option("-o", "--output", type=PATH, help="Write the table here, as Markdown.")
def bench_tune(
    folder: Path | None, small: bool, devices: int, seed: int, output: Path | None
) -> None:
    """Tune simulated devices: how near to the best plan, and never slower than ExecuTorch's.

    The devices are made from recorded runs, as for 'bench profiles', or for small nets drawn; they
    are noisy, throttle, lose their connection, and have kernels that are wrong or crash.
    """
    from api.bench.tune import tuning
    from api.bench.tune_small import tuning_small
    from api.files import check_writable

    check_writable(output)
    if not small:
        tuning(folder, devices, seed, output)
    elif folder is None:
        tuning_small(devices, seed, output)
    else:
        raise click.UsageError("--small draws its devices: leave out DIR")


@bench_group.command("defaults")
@click.argument("folder", required=False, type=FOLDER, metavar="[DIR]")
@click.option("-o", "--output", type=PATH, help="Write the table here, as Markdown.")
def bench_defaults(folder: Path | None, output: Path | None) -> None:
    """Compare objectives and profiles: what plans gain that are made without measurements.

    DIR has recorded runs, a folder for each device [default: the repository's].
    """
    from api.bench.defaults import defaults
    from api.files import check_writable

    check_writable(output)
    defaults(folder, output)


@bench_group.command("calibrations")
@click.argument("folder", required=False, type=FOLDER, metavar="[DIR]")
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    metavar="DEVICE=NAME|FILE",
    help="A profile of a device of DIR [default: the repository's]. May be repeated.",
)
@click.option("-o", "--output", type=PATH, help="Write the tables here, as Markdown.")
def bench_calibrations(folder: Path | None, profiles: tuple[str, ...], output: Path | None) -> None:
    """Compare profiles measured through WebGPU with ExecuTorch's runs: are plans in order?

    DIR has recorded runs, a folder for each device [default: the repository's].
    """
    from api.bench.calibrations import calibrations
    from api.files import check_writable
    from planner.costs.profile_file import load_profile

    check_writable(output)
    named: dict[str, list[DeviceProfile]] = {}
    for each in profiles:
        device, _, path = each.partition("=")
        named.setdefault(device, []).append(load_profile(path))
    calibrations(folder, named, output)


@bench_group.command("tunings")
@click.argument("folders", nargs=-1, required=True, type=FOLDER, metavar="FOLDER...")
@click.option("-o", "--output", type=PATH, help="Write the table here, as Markdown.")
def bench_tunings(folders: tuple[Path, ...], output: Path | None) -> None:
    """Print what tunings came to: the gains that were measured on their devices.

    FOLDER is one that 'layout-planner tune' keeps its runs in.
    """
    from api.bench.tunings import tunings
    from api.files import check_writable

    check_writable(output)
    tunings(folders, output)


@bench_group.command("service")
@click.option(
    "--requests",
    type=click.IntRange(min=10),
    default=10_000,
    show_default=True,
    help="Sent to see whether memory grows.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="For so long, ten times as many plans are asked for as can be made.",
)
@click.option(
    "--starts",
    type=click.IntRange(min=1),
    default=7,
    show_default=True,
    help="So many services are started, for the first plan of each.",
)
@click.option("-o", "--output", type=PATH, help="Write the tables here, as Markdown.")
def bench_service(requests: int, seconds: float, starts: int, output: Path | None) -> None:
    """Ask a service of this machine for plans: times against a static file, memory, overload."""
    from api.bench.service import bench_service as run
    from api.files import check_writable

    check_writable(output)
    run(requests, seconds, starts, output)


@bench_group.command("jobs")
@click.argument("source", metavar="[FILE]", required=False, type=PATH)
@click.option("--tasks", type=click.IntRange(min=2), default=100, show_default=True)
@click.option(
    "--database",
    "database_url",
    metavar="URL",
    help="An empty PostgreSQL database [default: SQLite, in a folder of its own].",
)
@click.option("-o", "--output", type=PATH, help="Write the table here, as Markdown.")
def bench_jobs(
    source: Path | None, tasks: int, database_url: str | None, output: Path | None
) -> None:
    """Run a job of equal tasks with 1 and 2 workers: tasks per second, and the cost of the engine.

    FILE is a VkGraph [default: one of the repository's recorded runs].
    """
    from api.bench.jobs import bench_jobs as run
    from api.files import check_writable

    check_writable(output)
    run(source, tasks, database_url, output)


@bench_group.command("install")
@click.option("--extra", "extras", multiple=True, metavar="NAME", help="Also with this extra.")
@click.option("-o", "--output", type=PATH, help="Write the table here, as Markdown.")
def bench_install(extras: tuple[str, ...], output: Path | None) -> None:
    """Install this checkout in empty environments: packages, bytes and seconds."""
    from api.bench.install import bench_install as run
    from api.files import check_writable

    check_writable(output)
    run(extras, output)


@bench_group.command("dashboard")
@click.option("--plans", type=click.IntRange(min=26), default=10_000, show_default=True)
@click.option("--operators", type=click.IntRange(min=100), default=1_000, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=9, show_default=True)
@click.option("-o", "--output", type=PATH, help="Write the tables here, as Markdown.")
def bench_dashboard(plans: int, operators: int, repeats: int, output: Path | None) -> None:
    """Visit the dashboard in Chromium: time to first paint with many plans, and of large graphs."""
    from api.bench.dashboard import bench_dashboard as run
    from api.files import check_writable

    check_writable(output)
    run(plans, operators, repeats, output)


@bench_group.command("screenshots")
@click.argument("folder", type=FOLDER)
@click.argument("models", nargs=-1)
@click.option("--small", is_flag=True, help="Fewer and narrower blocks.")
def bench_screenshots(folder: Path, models: tuple[str, ...], small: bool) -> None:
    """Plan MODELS of the zoo as a job, and take pictures of the dashboard in Chromium."""
    from api.bench.screenshots import screenshots

    screenshots(folder, models, "small" if small else "full")
