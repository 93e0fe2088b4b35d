"""Options that say how much one caller may ask of a server."""

from __future__ import annotations

from typing import Any, Final

import click

from api.cli.options import GIB, F

_AT_LEAST_ONE: Final = click.IntRange(min=1)
_OPTIONS: Final[tuple[tuple[str, str, click.ParamType[Any], str, str, str], ...]] = (
    (
        *("--requests-per-minute", "requests_per_minute", _AT_LEAST_ONE, "N", "3000"),
        "Requests that {who} may send in a minute; as many may come at once.",
    ),
    (
        *("--running-plans", "running_plans", _AT_LEAST_ONE, "N", "16"),
        "Plans of {who} that are made, or wait to be, at a time.",
    ),
    (
        *("--stored-gib", "stored_bytes", GIB, "GIB", "100"),
        "What {who} may have in the store: uploads for jobs, and plans.",
    ),
    (
        *("--upload-gib-per-hour", "upload_bytes_per_hour", GIB, "GIB", "100"),
        "What {who} may upload in an hour; as much may come at once.",
    ),
)


def server_limits(command: F) -> F:
    """What each caller may ask of a server."""
    for flag, name, kind, metavar, default, text in reversed(_OPTIONS):
        command = click.option(
            flag,
            name,
            type=kind,
            metavar=metavar,
            default=default,
            show_default=True,
            envvar=f"LAYOUT_PLANNER_{flag.removeprefix('--').replace('-', '_').upper()}",
            show_envvar=True,
            help=text.format(who="one caller"),
        )(command)
    return command


def token_limits(command: F) -> F:
    """What a token may be used for, where that is not what the server allows everybody."""
    for flag, name, kind, metavar, _, text in reversed(_OPTIONS):
        said = text.format(who="its owner") + " [default: what the server allows]"
        command = click.option(flag, name, type=kind, metavar=metavar, help=said)(command)
    return command
