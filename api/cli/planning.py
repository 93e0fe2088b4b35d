"""Commands that plan, and that look at plans."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from api.cli.options import (
    AS_JSON,
    NOT_PROVEN,
    PATH,
    PROFILE,
    Asked,
    asked_options,
    progress_bar,
    verifying_options,
    wanting_options,
)
from planner.stopwatch import collector_off

if TYPE_CHECKING:
    from api.client.planned import PlannedThere
    from planner.kernels.limits import Budget
    from planner.kernels.restrictions import Restriction
    from planner.options import PlanOptions
    from planner.pipelines.lowered import Planned
    from planner.result.program import Progress

_THREADS: Final = "OPENBLAS_NUM_THREADS"


@click.command()
@click.argument("source", metavar="INPUT", type=PATH)
@click.option(
    "-o",
    "--output",
    type=PATH,
    help="Write here: for a .pt2 the planned program (flatbuffer), for a .pte or VkGraph the same "
    "with its new layouts.",
)
@click.option("--plan", "plan_path", type=PATH, help="Write the planned program (flatbuffer) here.")
@click.option("--pte", type=PATH, help="Write the planned program for ExecuTorch's runtime here.")
@click.option("--report", "report_path", type=PATH, help="Write the JSON report here.")
@click.option(
    "--alternatives",
    type=int,
    default=0,
    metavar="K",
    help="List, for each delegate, the K best plans that come next.",
)
@click.option(
    "--server",
    metavar="URL",
    help="Plan on this server, and not here: it needs no torch here. --device is the server's.",
)
@asked_options
def plan(
    source: Path,
    output: Path | None,
    plan_path: Path | None,
    pte: Path | None,
    report_path: Path | None,
    alternatives: int,
    server: str | None,
    asked: Asked,
) -> None:
    """Plan a program: a .pt2 saved by torch.export.save, a lowered .pte, or a VkGraph.

    Its layouts are compared with those of ExecuTorch's own pass, or with those that it came with.
    """
    from api.files import check_writable
    from planner.files.whole import write_whole

    for path in (output, plan_path, pte, report_path):
        check_writable(path)
    with progress_bar() as progress:
        planned = (
            _plan_here(source, asked, alternatives, progress)
            if server is None
            else _plan_there(server, source, asked, alternatives, progress)
        )
        if pte is not None:
            progress("writing the .pte", None)
            write_whole(pte, planned.pte())
    if output is not None:
        is_exported = planned.report.kind == "pt2"
        write_whole(output, planned.flatbuffer() if is_exported else planned.data)
    if plan_path is not None:
        write_whole(plan_path, planned.flatbuffer())
    if report_path is not None:
        write_whole(report_path, (json.dumps(planned.report.document(), indent=2) + "\n").encode())

    from api.terminal.console import stdout
    from api.terminal.plan import alternatives_tables, plan_table

    stdout().print(plan_table(planned.report))
    for table in alternatives_tables(planned.report):
        stdout().print(table)


def _plan_here(source: Path, asked: Asked, alternatives: int, progress: Progress) -> Planned:
    from dataclasses import replace

    from api.files import read_input

    with _quick_imports():
        from planner.options import check_alternatives
        from planner.pipelines.dispatch import plan_program

        options = replace(asked.options(), alternatives=check_alternatives(alternatives))
    return plan_program(read_input(source), source.name, options, progress)


@contextmanager
def _quick_imports() -> Iterator[None]:
    """For imports: nothing of them is garbage, and NumPy starts no thread on each core.

    Such threads wait for work, busily, that planning does not have for them.
    """
    given = os.environ.get(_THREADS)
    os.environ.setdefault(_THREADS, "1")
    try:
        with collector_off():
            yield
    finally:
        if given is None:
            del os.environ[_THREADS]


def _plan_there(
    server: str, source: Path, asked: Asked, alternatives: int, progress: Progress
) -> PlannedThere:
    from api.cli.remote import query_of
    from api.client.client import Client
    from api.client.planned import PlannedThere

    client = Client(server)
    query = query_of(asked, client)
    if alternatives:
        query["alternatives"] = alternatives
    made = client.plan(source, on_stage=lambda stage: progress(stage, None), **query)
    return PlannedThere(client, made, source)


@click.command()
@click.argument("source", metavar="FILE", type=PATH)
@click.option(
    "--runtime",
    metavar="R",
    help="The release of ExecuTorch that is to run it: 1.1 to 1.5, or as in 1.3+ that and later "
    "ones [default: the latest].",
)
@click.option(
    "--target",
    metavar="vulkan|webgpu",
    help="The backend of ExecuTorch's whose runtime is to run it [default: what it was planned "
    "for].",
)
@click.option(
    "--gpu",
    metavar="NAME",
    help="The GPU that is to run it, by the name that Vulkan gives it: Adreno (TM) 740, Mali-G78.",
)
@click.option(
    "--avoid", type=PATH, metavar="FILE", help="More faults to look for: a JSON file of rows."
)
@wanting_options
@AS_JSON
def check(
    source: Path,
    runtime: str | None,
    target: str | None,
    gpu: str | None,
    avoid: Path | None,
    as_json: bool,
    restrictions: tuple[Restriction, ...],
    budget: Budget,
) -> None:
    """Say whether a .pte, .bpte or VkGraph will load and be right on a runtime and a GPU.

    Looks at every operator and tensor: what the release's kernels take, faults that are known of
    them, the GPU's limits, shared memory; and at what breaks --pin, --forbid, --max-transitions and
    the like, by the names of this file. Exits with 1 if something is wrong.
    """
    from api.files import read_input
    from planner.kernels.faults import load_faults
    from planner.kernels.gpus import find_gpu
    from planner.kernels.releases import parse_runtime, parse_target
    from planner.pipelines.checking import check_program

    found = check_program(
        read_input(source),
        source.name,
        None if runtime is None else parse_runtime(runtime),
        None if gpu is None else find_gpu(gpu),
        None if avoid is None else load_faults(avoid),
        restrictions,
        budget,
        None if target is None else parse_target(target),
    )
    if as_json:
        click.echo(json.dumps(found.document(), indent=2))
    else:
        from api.terminal.console import stdout
        from api.terminal.files import check_table

        console = stdout()
        for part in check_table(found):
            console.print(part)
    if found.findings:
        raise SystemExit(1)


@click.command()
@click.argument("source", metavar="PLAN", type=PATH)
@click.argument("program", required=False, type=PATH)
@click.option(
    "--prove",
    is_flag=True,
    help="Prove that no plan costs less: by the whole problem as an integer program, without the "
    "reductions that planning uses.",
)
@click.option(
    "--prove-seconds",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="S",
    help="The longest that the proof of a delegate may take.",
)
@verifying_options
@AS_JSON
def verify(
    source: Path,
    program: Path | None,
    prove: bool,
    prove_seconds: float,
    options: PlanOptions,
    as_json: bool,
) -> None:
    """Check a planned program again, as 'plan --plan PLAN' wrote it.

    Everything that it claims is counted again. With PROGRAM, the lowered program that was planned,
    it is shown to compute the same. Costs are to be named as for planning; the objective, texture
    limits, excluded layouts and releases are in the plan. Exits with 1 if the plan is wrong or
    another one costs less than it says, with 3 if it is right and the proof did not come off.
    """
    from api.files import read_input
    from planner.errors import VerificationError
    from planner.pipelines.verifying import verify_plan

    try:
        found = verify_plan(
            read_input(source),
            source.name,
            options,
            prove=prove,
            source=None if program is None else read_input(program),
            source_name="" if program is None else program.name,
            search_seconds=prove_seconds,
        )
    except VerificationError as error:
        click.echo(f"Wrong: {error}", err=True)
        raise SystemExit(1) from None
    if as_json:
        click.echo(json.dumps(found.document(), indent=2))
    else:
        from api.terminal.console import stdout
        from api.terminal.files import verification_table

        console = stdout()
        for part in verification_table(found):
            console.print(part)
    if found.verdict == "refuted":
        raise SystemExit(1)
    if found.verdict == "open":
        raise SystemExit(NOT_PROVEN)


@click.command()
@click.argument("source", metavar="INPUT", type=PATH)
@click.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    metavar="FILE",
    help="Write it here: .cfn, .wcsp, .uai or .LG.",
)
@click.option("--delegate", type=click.IntRange(min=0), default=0, show_default=True, metavar="N")
@click.option(
    "--levels",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="The levels of costs that count: the objective, transitions, departures, a fixed order.",
)
@asked_options
def problem(source: Path, output: Path, delegate: int, levels: int, asked: Asked) -> None:
    """Write the layout problem of a program, for other solvers and for 'python -m solver'.

    Costs are whole bytes, or thousandths of a ns. Prints the optimum that they should find.
    """
    from api.files import check_writable, read_input
    from planner.errors import OptionError
    from planner.pipelines.dispatch import plan_program
    from solver import ProblemError
    from solver.formats import write_problem

    check_writable(output)
    with progress_bar() as progress:
        planned = plan_program(read_input(source), source.name, asked.options(), progress)
    delegates = planned.delegates
    if delegate >= len(delegates):
        raise OptionError(
            f"{source.name} has {len(delegates)} delegates, counted from 0: none is {delegate}"
        )
    plan = delegates[delegate].layout_plan
    try:
        weights = write_problem(plan.layout.problem, output, levels=levels)
    except ProblemError as error:
        raise OptionError(str(error)) from None
    cost = sum(w * c for w, c in zip(weights, plan.solution.cost, strict=False))
    click.echo(f"{len(plan.layout.problem.variables)} variables, {plan.status.value}: cost {cost}")


@click.command()
@click.argument("source", metavar="FILE", type=PATH)
@AS_JSON
def show(source: Path, as_json: bool) -> None:
    """Print the operators, representations and repacks of a .pte, a VkGraph or a plan."""
    from api.files import read_input
    from planner.files.listing import describe

    description = describe(read_input(source), source.name)
    if as_json:
        click.echo(json.dumps(description, indent=2))
        return
    from api.terminal.console import stdout
    from api.terminal.files import show_table

    console = stdout()
    for part in show_table(description):
        console.print(part)


@click.command()
@click.argument("before", metavar="A", type=PATH)
@click.argument("after", metavar="B", type=PATH)
@PROFILE
@click.option("--exit-code", is_flag=True, help="Exit with 1 if the two differ.")
@AS_JSON
def diff(before: Path, after: Path, profile: str, exit_code: bool, as_json: bool) -> None:
    """Print what changed between two plans, .pte files or VkGraphs of one program."""
    from api.files import read_input
    from planner.compare.layouts import compare
    from planner.costs.profile_file import load_profile

    prices = load_profile(profile)
    difference = compare(read_input(before), before.name, read_input(after), after.name, prices)
    if as_json:
        click.echo(json.dumps(difference, indent=2))
    else:
        from api.terminal.console import stdout
        from api.terminal.files import diff_table

        console = stdout()
        for part in diff_table(difference):
            console.print(part)
    if exit_code and not difference["is_equal"]:
        raise SystemExit(1)
