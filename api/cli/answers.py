"""Commands that answer questions about plans: why they cost what they do, and what would help."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from api.cli.options import AS_JSON, PATH, Asked, asked_options, progress_bar

if TYPE_CHECKING:
    from planner.optimise.tradeoff import Criterion
    from planner.pipelines.lowered import Planned

T = TypeVar("T")


@click.command()
@click.argument("source", metavar="INPUT", type=PATH)
@click.option(
    "--against",
    "criteria",
    type=click.Choice(["transitions", "bytes", "memory"]),
    multiple=True,
    help="What to trade the cost for: fewer transitions, fewer bytes of copies, or fewer bytes "
    "alive at once. May be repeated [default: each].",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.0),
    default=20.0,
    show_default=True,
    help="Search so long, for each of these, for what elimination does not find.",
)
@click.option("--picture", type=PATH, help="Draw the trade-offs here: .svg or .png.")
@AS_JSON
@asked_options
def pareto(
    source: Path,
    criteria: tuple[Criterion, ...],
    seconds: float,
    picture: Path | None,
    as_json: bool,
    asked: Asked,
) -> None:
    """Print what fewer transitions, transitions of fewer bytes, or less memory would cost.

    INPUT is planned with the same options as by 'plan': a .pt2, a .pte or a VkGraph. No plan beats
    one of the points in both: that is proven for each, or the table says of which it is not.
    """
    from api.files import check_writable
    from api.terminal.picture import check_picture
    from planner.files.whole import write_whole

    check_writable(picture)
    check_picture(picture)
    found = _answered(
        source, asked, "trading off", lambda planned: planned.tradeoffs(criteria, seconds)
    )
    if picture is not None:
        from api.terminal.tradeoffs import draw_tradeoffs

        write_whole(picture, draw_tradeoffs(found, picture))
    if as_json:
        click.echo(json.dumps(found.document(), indent=2))
        return
    from api.terminal.console import stdout
    from api.terminal.tradeoffs import tradeoff_tables

    console = stdout()
    for table in tradeoff_tables(found):
        console.print(table)


@click.command()
@click.argument("source", metavar="INPUT", type=PATH)
@AS_JSON
@asked_options
def sensitivity(source: Path, as_json: bool, asked: Asked) -> None:
    """Print how far each price may change before another plan is better.

    INPUT is planned with the same options as by 'plan': a .pt2, a .pte or a VkGraph. Where costs
    are a device's, prices that are not certain enough for the plan are named first.
    """
    found = _answered(source, asked, "changing prices", lambda planned: planned.sensitivity())
    if as_json:
        click.echo(json.dumps(found.document(), indent=2))
        return
    from api.terminal.answers import sensitivity_table
    from api.terminal.console import stdout

    stdout().print(sensitivity_table(found))


@click.command()
@click.argument("source", metavar="INPUT", type=PATH)
@AS_JSON
@asked_options
def explain(source: Path, asked: Asked, as_json: bool) -> None:
    """Say why each repack of a plan remains, and what the plan without it would cost.

    INPUT is planned with the same options as by 'plan': a .pt2, a .pte or a VkGraph.
    """
    explanation = _answered(source, asked, "explaining", lambda planned: planned.explanation())
    if as_json:
        click.echo(json.dumps(explanation.document(), indent=2))
        return
    from api.terminal.answers import explanation_table
    from api.terminal.console import stdout

    stdout().print(explanation_table(explanation))


@click.command()
@click.argument("sources", metavar="INPUT...", type=PATH, nargs=-1, required=True)
@AS_JSON
@asked_options
def opportunities(sources: tuple[Path, ...], asked: Asked, as_json: bool) -> None:
    """Say which representations kernels could accept to make plans cheaper.

    For each operator, operand and representation that its kernel does not take: the optimum if it
    did. Several programs are planned with the same options, and ranked together.
    """
    from api.files import read_input
    from planner.pipelines.dispatch import plan_program
    from planner.result.opportunities import rank

    options = asked.options()
    with progress_bar() as progress:
        studies = []
        for source in sources:
            planned = plan_program(read_input(source), source.name, options, progress)
            progress(f"studying {source.name}", None)
            studies.append(planned.study())
        ranking = rank(studies)
        found = [study.report() for study in studies]
    if as_json:
        programs = [each.document() for each in found]
        click.echo(json.dumps({"programs": programs, "ranking": ranking.document()}, indent=2))
        return
    from api.terminal.answers import opportunities_table, ranking_table
    from api.terminal.console import stdout

    stdout().print(opportunities_table(found[0]) if len(found) == 1 else ranking_table(ranking))


def _answered(source: Path, asked: Asked, stage: str, answer: Callable[[Planned], T]) -> T:
    """What is asked about a program, once it is planned."""
    from api.files import read_input
    from planner.pipelines.dispatch import plan_program

    with progress_bar() as progress:
        planned = plan_program(read_input(source), source.name, asked.options(), progress)
        progress(stage, None)
        return answer(planned)
