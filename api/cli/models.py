"""Commands with models of the zoo."""

from __future__ import annotations

from pathlib import Path

import click

from api.cli.options import PATH


@click.command()
@click.argument("name")
@click.option("-o", "--output", type=PATH, required=True, help="Write the .pt2 here.")
@click.option("--small", is_flag=True, help="Fewer and narrower blocks.")
def zoo(name: str, output: Path, small: bool) -> None:
    """Export a model with random weights to plan: convnext_t, llama_decode, unet, ..."""
    from api.bench import zoo as models
    from api.files import check_writable
    from planner.files.whole import write_whole

    models.chosen([name])
    check_writable(output)
    write_whole(output, models.save(name, "small" if small else "full"))


@click.command()
@click.argument("name", default="segformer_b0_eager")
@click.option("--small", is_flag=True, help="Fewer and narrower blocks.")
def demo(name: str, small: bool) -> None:
    """Export a model, start the service, POST the model to /plan, and print what changed.

    The last line is the address of the model's page. On a terminal the service goes on until
    Ctrl-C.
    """
    from api.bench.demo import run

    run(name, "small" if small else "full")
