"""Commands of the documentation that are not run as they stand, and why."""

from __future__ import annotations

from typing import Final

import click

NOT_RUN: Final = {
    "python3 -m venv": "makes an environment; tests/docker builds and unpacks the package",
    ".venv/bin/pip install": "needs the network",
    "source .venv": "belongs to the environment that is not made",
    "make": "the first one sets up everything; that the target exists is checked",
    "python -m solver": "tests/solver/test_formats.py runs it",
    "docker": "needs a daemon; tests/docker checks the image and the compose file",
    "apt-get install": "needs root",
    "adb": "needs a phone; tests/planner/tuning/test_runners.py has a stand-in for it",
    ".venv/bin/python -m pytest": "these tests run anyway; that the path exists is checked",
}
"""By how the line begins."""

PARSED: Final = {
    "serve": "does not end; a server runs for the other commands",
    "worker": "does not end; tests/api/cli/test_jobs.py runs one",
    "token create team": "needs the PostgreSQL of the page; docs/http.md makes one",
    "token revoke": "needs the id of a token; tests/api/http/test_access.py revokes one",
    "store": "needs the store of a server; tests/api/cli/test_store.py runs them",
    "calibrate": "takes minutes and a GPU; tests/api/cli/test_gpu.py runs it",
    "gpu info": "needs a Vulkan driver; tests/api/cli/test_gpu.py runs it",
    "gpu bench": "takes minutes and a GPU; tests/api/cli/test_gpu.py runs it",
    "replay": "needs a Vulkan driver; tests/api/cli/test_gpu.py runs it",
    "bench models": "takes minutes; tests/api/cli/test_cli.py runs it on small models",
    "bench lowering": "takes minutes; tests/api/bench/test_lowering.py runs it on a small model",
    "bench replan": "takes minutes; tests/api/cli/test_cli.py runs it on small graphs",
    "bench solver": "takes minutes; tests/api/bench/test_solver.py runs it on a tiny problem",
    "bench dashboard": "takes minutes; tests/api/bench/test_dashboard.py runs it on little",
    "bench screenshots": "takes minutes; tests/api/bench/test_dashboard.py runs it on little",
    "tune": "needs ExecuTorch's runtime; tests/api/cli/test_tune.py has a stand-in for it",
    "bench tune": "takes minutes; tests/api/bench/test_tune.py runs it on one device",
    "profile import run.etdump --graph try.pte": "needs a phone's run; docs/measured.md has one",
    "profile export model.tuning/costs.sqlite": "needs tunings; docs/measured.md exports one",
    "plan other.pt2": "needs a phone's file; docs/measured.md plans by one",
    "profile import variants": "needs runs of them; tests/api/cli/test_profiles.py has some",
}
"""Commands of ``layout-planner`` whose arguments are checked, but which are not run."""

SMALLER: Final = {
    "zoo": "--small",
}
"""Options that make a command of ``layout-planner`` do less.

The commands after it get a model of four operators by the same name: lowering one of the zoo takes
a minute.
"""


def commands_of(group: click.Group) -> dict[str, click.Command]:
    """The commands of a group, by name."""
    context = click.Context(group)
    found = ((name, group.get_command(context, name)) for name in group.list_commands(context))
    return {name: command for name, command in found if command is not None}


def starts(command: str, prefixes: dict[str, str]) -> str | None:
    """The one of these with which a command begins, if any."""
    words = command.split()
    for prefix in prefixes:
        first = prefix.split()
        if words[: len(first)] == first:
            return prefix
    return next((p for p in prefixes if p.startswith(("source", ".venv")) and p in command), None)
