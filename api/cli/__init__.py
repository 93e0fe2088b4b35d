"""The command line, ``layout-planner``: a module for each kind of command."""

from __future__ import annotations

import atexit
import gc
from importlib import import_module
from typing import Final

import click

import planner
from api.cli.options import Group

_HOMES: Final = {
    "plan": "planning.plan",
    "verify": "planning.verify",
    "problem": "planning.problem",
    "check": "planning.check",
    "explain": "answers.explain",
    "pareto": "answers.pareto",
    "sensitivity": "answers.sensitivity",
    "opportunities": "answers.opportunities",
    "show": "planning.show",
    "diff": "planning.diff",
    "compare": "compare.compare",
    "trace": "views.trace_command",
    "overlay": "views.overlay_command",
    "serve": "service.serve",
    "token": "tokens.token_group",
    "store": "store.store_group",
    "jobs": "jobs.jobs_group",
    "worker": "jobs.worker",
    "zoo": "models.zoo",
    "demo": "models.demo",
    "gpu": "gpu.gpu_group",
    "replay": "gpu.replay_command",
    "calibrate": "gpu.calibrate",
    "profile": "profiles.profile_group",
    "explore": "profiles.explore",
    "tune": "tune.tune",
    "bench": "bench.bench_group",
}
"""The module and name of each command: one that runs does not wait for the others' imports."""

# What is there at the end is not looked through for garbage once more.
atexit.register(gc.freeze)


class _Commands(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _HOMES:
            return None
        module, _, name = _HOMES[cmd_name].partition(".")
        command: click.Command = getattr(import_module(f"api.cli.{module}"), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(planner.__version__, prog_name="layout-planner")
def main() -> None:
    """Plan tensor layouts for ExecuTorch's Vulkan delegate: optimal, proven, checked."""
