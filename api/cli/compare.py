"""The command that compares what two runs took."""

from __future__ import annotations

import json
from pathlib import Path

import click

from api.cli.options import AS_JSON, PATH, progress_bar, read_costs


@click.command()
@click.argument("before", metavar="A.etdump", type=PATH)
@click.argument("after", metavar="B.etdump", type=PATH)
@click.option(
    "--graphs",
    type=PATH,
    nargs=2,
    required=True,
    metavar="A.pte B.pte",
    help="The programs that ran, in the same order: .pte, VkGraph or planned program.",
)
@click.option(
    "--costs",
    type=PATH,
    metavar="FILE",
    help="Predict by what a device measured: a database that 'profile import' made "
    "[default: learn from run A].",
)
@click.option(
    "--device",
    metavar="NAME|FILE",
    help="Predict by this device: one that ships with the planner, or a device's file. With "
    "--costs, the device in that database [default: the only one].",
)
@click.option(
    "--profile",
    default="default",
    show_default=True,
    metavar="NAME|FILE",
    help="Predicts what was not measured; its unit must be ns.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=30,
    show_default=True,
    help="How many of the largest changes to show; 0 for every step.",
)
@AS_JSON
@click.option("-o", "--output", type=PATH, help="Write the tables here, as Markdown.")
@click.option("--picture", type=PATH, help="Draw the largest changes here: .svg or .png.")
def compare(
    before: Path,
    after: Path,
    graphs: tuple[Path, Path],
    costs: Path | None,
    device: str | None,
    profile: str,
    limit: int,
    as_json: bool,
    output: Path | None,
    picture: Path | None,
) -> None:
    """Compare two profiled runs of one program with other layouts: time per operator and repack.

    A.etdump and B.etdump are of ExecuTorch's Vulkan runtime; --graphs names the programs that ran.
    """
    from api.files import check_writable, read_input
    from api.terminal.picture import check_picture
    from planner.compare.comparison import document
    from planner.compare.runs import compare_runs, read_run
    from planner.files.whole import write_whole
    from planner.options import make_options

    for path in (output, picture):
        check_writable(path)
    check_picture(picture)
    options = make_options(profile, "latency", costs=read_costs(costs, device, profile))
    names, graph_names = _told_apart(before, after), _told_apart(*graphs)
    etdumps, programs = (
        [read_input(path) for path in paths] for paths in ((before, after), graphs)
    )
    with progress_bar() as progress:
        progress("reading the runs", None)
        a, b = map(read_run, etdumps, names, programs, graph_names)
        progress("comparing", None)
        comparison = compare_runs(a, b, options.costs)
        if output is not None:
            from api.terminal.runs import comparison_markdown

            write_whole(output, comparison_markdown(comparison, limit).encode())
        if picture is not None:
            from api.terminal.picture import draw

            progress("drawing", None)
            write_whole(picture, draw(comparison, picture))
    if as_json:
        click.echo(json.dumps(document(comparison), indent=2))
        return
    from api.terminal.console import stdout
    from api.terminal.runs import comparison_tables

    console = stdout()
    for part in comparison_tables(comparison, limit):
        console.print(part)


def _told_apart(a: Path, b: Path) -> tuple[str, str]:
    """Names of two files; with their directories where these alone tell them apart."""
    is_clear = a.name != b.name or a == b
    return (a.name, b.name) if is_clear else (str(a), str(b))
