"""Commands of what a device measured."""

from __future__ import annotations

import json
from pathlib import Path

import click

from api.cli.options import AS_JSON, PATH


@click.group("profile")
def profile_group() -> None:
    """What a device's own runs of a model teach about its costs."""


@profile_group.command("import")
@click.argument("etdump", metavar="RUN.etdump", type=PATH)
@click.option("--graph", type=PATH, required=True, help="The .pte that was profiled.")
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


@profile_group.command("show")
@click.argument("database", metavar="DB", type=PATH, default=Path("costs.sqlite"))
@click.option("--device", metavar="NAME", help="One device [default: all].")
@AS_JSON
def profile_show(database: Path, device: str | None, as_json: bool) -> None:
    """Print a cost database: its devices and runs, and how well its models foretell.

    The errors are cross-validated, for each operator.
    """
    from api.costs import costs_tables, describe_costs

    description = describe_costs(database, device)
    if as_json:
        click.echo(json.dumps(description, indent=2))
        return
    from api.tables import stdout

    console = stdout()
    for part in costs_tables(description):
        console.print(part)
