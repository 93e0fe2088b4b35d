"""Commands that answer questions about plans: why they cost what they do, and what would help."""

from __future__ import annotations

import json
from pathlib import Path

import click

from api.cli.options import AS_JSON, PATH, Asked, asked_options, progress_bar


@click.command()
@click.argument("source", metavar="INPUT", type=PATH)
@AS_JSON
@asked_options
def explain(source: Path, asked: Asked, as_json: bool) -> None:
    """Say why each repack of a plan remains, and what the plan without it would cost.

    INPUT is planned with the same options as by 'plan': a .pt2, a .pte or a VkGraph.
    """
    from api.files import read_input
    from planner.pipelines.dispatch import plan_program

    with progress_bar() as progress:
        planned = plan_program(read_input(source), source.name, asked.options(), progress)
        progress("explaining", None)
        explanation = planned.explanation()
    if as_json:
        click.echo(json.dumps(explanation.document(), indent=2))
        return
    from api.terminal.answers import explanation_table
    from api.terminal.console import stdout

    stdout().print(explanation_table(explanation))
