"""The options that name a server's database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])
_PASSWORD: Final = "layout-planner database password"


def database_options(meaning: str) -> Callable[[_Command], _Command]:
    """``--database``, which comes to a command as ``database_url``, and a file with its password.

    A password in a file is in no environment and on no command line, where others may look.
    """
    url = click.option(
        "--database",
        "database_url",
        metavar="URL",
        envvar="LAYOUT_PLANNER_DATABASE_URL",
        show_envvar=True,
        callback=_with_password,
        help=meaning,
    )
    password = click.option(
        "--database-password-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        envvar="LAYOUT_PLANNER_DATABASE_PASSWORD_FILE",
        show_envvar=True,
        expose_value=False,
        is_eager=True,  # the URL needs it
        callback=_read_password,
        help="The password of that database is in this file, and not in its URL.",
    )
    return lambda command: url(password(command))


def _read_password(context: click.Context, option: click.Parameter, file: Path | None) -> None:
    if file is None:
        return
    try:
        password = file.read_text("utf-8").removesuffix("\n")
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{file} cannot be read ({error})", context, option) from error
    if not password or not password.isprintable():
        raise click.BadParameter(f"{file} has to hold one line, the password", context, option)
    context.meta[_PASSWORD] = password


def _with_password(context: click.Context, option: click.Parameter, url: str | None) -> str | None:
    password: str | None = context.meta.get(_PASSWORD)
    if password is None:
        return url or None
    if not url:
        raise click.BadParameter(
            "is missing: --database-password-file is of no use without it", context, option
        )
    from api.store.database import with_password

    return with_password(url, password)
