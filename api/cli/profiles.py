"""Commands of what a device measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from api.cli.options import AS_JSON, FOLDER, PATH, planning_options, progress_bar

if TYPE_CHECKING:
    from planner.measured.importing import ProfiledFiles
    from planner.options import PlanOptions


@click.group("profile")
def profile_group() -> None:
    """Learn costs from a device's own runs of a model."""


@profile_group.command("import")
@click.argument("runs", metavar="RUN.etdump|DIR", type=click.Path(path_type=Path))
@click.option("--graph", type=PATH, help="The .pte that was profiled; a DIR has its own.")
@click.option("--device", required=True, metavar="NAME", help="The device that it ran on.")
@click.option("--driver", default="unknown", show_default=True, help="The device's driver.")
@click.option(
    "-o",
    "--output",
    type=PATH,
    default=Path("costs.sqlite"),
    show_default=True,
    help="The cost database to add to.",
)
def profile_import(runs: Path, graph: Path | None, device: str, driver: str, output: Path) -> None:
    """Add what ExecuTorch's Vulkan runtime measured to a cost database.

    DIR is a folder that 'explore' made, with the .etdump of each variant that was run next to it.
    """
    from planner.measured.importing import import_runs

    files = _measured_variants(runs, graph) if runs.is_dir() else [_profiled(runs, graph)]
    for each, imported in zip(files, import_runs(files, device, driver, output), strict=True):
        state = "added" if imported.is_new else "was there already"
        click.echo(
            f"{each.etdump_name}: {len(imported.join.samples)} samples, "
            f"{imported.join.total / 1e6:.1f} ms an inference, {imported.join.share:.1%} joined; "
            f"{state} in {output} as {device}"
        )


def _profiled(etdump: Path, graph: Path | None) -> ProfiledFiles:
    from api.files import read_input
    from planner.measured.importing import ProfiledFiles

    if graph is None:
        raise click.UsageError("Missing option '--graph': the .pte that was profiled.")
    return ProfiledFiles(etdump.name, read_input(etdump), graph.name, read_input(graph))


def _measured_variants(folder: Path, graph: Path | None) -> list[ProfiledFiles]:
    from planner.errors import InputError, OptionError
    from planner.measured.importing import ProfiledFiles
    from planner.tuning.folder import read_exploration

    if graph is not None:
        raise OptionError("--graph is for one run: a folder's variants have programs of their own")
    variants = read_exploration(folder)
    for variant in variants:
        if variant.etdump is None:
            click.echo(f"{variant.name}: not measured, there is no {variant.etdump_name}", err=True)
    found = [
        ProfiledFiles(v.etdump_name, v.etdump, v.name, v.program)
        for v in variants
        if v.etdump is not None
    ]
    if not found:
        raise InputError(
            f"nothing in {folder} was measured: run its variants with ExecuTorch's event tracer, "
            "and put each ETDump next to its program under the name in manifest.json"
        )
    return found


@profile_group.command("show")
@click.argument("source", metavar="DB|DEVICE", default="costs.sqlite")
@click.option("--device", metavar="NAME", help="One device of a database [default: all].")
@AS_JSON
def profile_show(source: str, device: str | None, as_json: bool) -> None:
    """Print what was measured: devices and runs, and how well what they teach predicts.

    DB is a cost database, DEVICE the name of a device that ships with the planner or a device's
    file. The errors are cross-validated, for each operator.
    """
    from api.terminal.costs import costs_tables, describe_costs, describe_device
    from planner.errors import OptionError
    from planner.measured.device import is_device, load_device

    if is_device(source):
        if device is not None:
            raise OptionError(f"--device is for a cost database: {source} is one device")
        description = describe_device(load_device(source))
    else:
        description = describe_costs(Path(source), device)
    if as_json:
        click.echo(json.dumps(description, indent=2))
        return
    from api.terminal.console import stdout

    console = stdout()
    for part in costs_tables(description):
        console.print(part)


@profile_group.command("export")
@click.argument("databases", metavar="DB...", type=PATH, nargs=-1, required=True)
@click.option("--device", required=True, metavar="NAME", help="The device in each DB.")
@click.option("--gpu", metavar="NAME", help="Its GPU, as Vulkan names it.")
@click.option(
    "--avoid",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="What is wrong on it: a JSON file of rows (docs/kernels.md), as 'tune' writes it. May be "
    "repeated.",
)
@click.option("--texture-limits", metavar="X,Y,Z", help="Its largest image extents in texels.")
@click.option(
    "--buffer-limit",
    type=int,
    metavar="N",
    help="Fewest elements that are too many for one of its buffers.",
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    metavar="FILE.json",
    help="The device's file to write; compressed if it ends in .json.xz.",
)
def profile_export(
    databases: tuple[Path, ...],
    device: str,
    gpu: str | None,
    avoid: tuple[Path, ...],
    texture_limits: str | None,
    buffer_limit: int | None,
    output: Path,
) -> None:
    """Write a device's file: all that is known of it, to hand on and to plan with (--device FILE).

    It has the runs of one device in cost databases (of the folders of several tunings, for
    instance), and what else is said of it here.
    """
    from dataclasses import replace

    from api.files import check_writable
    from planner.errors import OptionError
    from planner.kernels.faults import load_faults
    from planner.measured.device import FILE_NAMES, database_device, save_device
    from planner.options import check_buffer_limit, parse_texture_limits

    check_writable(output)
    if not output.name.endswith(FILE_NAMES):
        raise OptionError(f"a device's file ends in {' or '.join(FILE_NAMES)}: {output} does not")
    rows: list[dict[str, Any]] = []
    for path in avoid:
        load_faults(path)  # refuses what are no rows
        rows += [row for row in json.loads(path.read_text("utf-8")) if row not in rows]
    known = replace(
        database_device(databases, device),
        gpu=gpu,
        texture_limits=None if texture_limits is None else parse_texture_limits(texture_limits),
        buffer_limit=None if buffer_limit is None else check_buffer_limit(buffer_limit),
        avoid=tuple(rows),
    )
    save_device(known, output)
    click.echo(
        f"{output}: {device}, {len(known.runs)} runs, {len(rows)} rows to avoid; plan with "
        f"--device {output}"
    )


@click.command()
@click.argument("source", metavar="MODEL", type=PATH)
@click.option("-o", "--output", type=FOLDER, required=True, help="The folder to make.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How many variants to make.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Seed of random choices, made where nothing was measured yet.",
)
@planning_options
def explore(source: Path, output: Path, count: int, seed: int, options: PlanOptions) -> None:
    """Write variants of a .pt2 or .pte that are worth measuring, and a manifest.

    They try operators in representations that were not measured yet (--costs has what was), where
    that might save the most. Run each on the device, put its ETDump into the folder, and hand that
    to 'profile import'.
    """
    from api.files import check_new_folder, read_input, write_folder
    from api.terminal.console import stdout
    from api.terminal.variants import explored_table
    from planner.pipelines.dispatch import plan_program
    from planner.tuning.folder import exploration_files
    from planner.tuning.variants import explore as variants_of
    from planner.tuning.variants import is_settled
    from schema.executorch_program import is_executorch_program

    check_new_folder(output)
    data = read_input(source)
    with progress_bar() as progress:
        program = data
        if not is_executorch_program(data):
            program = plan_program(data, source.name, options, progress).pte()
        progress("choosing variants", None)
        variants = tuple(variants_of(program, source.name, options, count, seed))
        settled = is_settled(program, source.name, options, seed)
    write_folder(output, exploration_files(variants, source.name, data, options, seed))
    stdout().print(explored_table(output, variants, is_settled=settled))
