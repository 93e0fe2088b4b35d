"""The command line, ``layout-planner``: a module for each kind of command."""

from __future__ import annotations

import click

import planner
from api.cli import (
    answers,
    bench,
    compare,
    gpu,
    jobs,
    models,
    planning,
    profiles,
    service,
    store,
    tokens,
    tune,
    views,
)
from api.cli.options import Group


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(planner.__version__, prog_name="layout-planner")
def main() -> None:
    """Plan tensor layouts for ExecuTorch's Vulkan delegate: optimal, proven, checked."""


for command in (
    planning.plan,
    planning.verify,
    planning.problem,
    planning.check,
    answers.explain,
    answers.pareto,
    answers.sensitivity,
    answers.opportunities,
    planning.show,
    planning.diff,
    compare.compare,
    views.trace_command,
    views.overlay_command,
    service.serve,
    tokens.token_group,
    store.store_group,
    jobs.jobs_group,
    jobs.worker,
    models.zoo,
    models.demo,
    gpu.gpu_group,
    gpu.replay_command,
    gpu.calibrate,
    profiles.profile_group,
    profiles.explore,
    tune.tune,
    bench.bench_group,
):
    main.add_command(command)
