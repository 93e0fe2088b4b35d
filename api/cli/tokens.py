"""Commands for the tokens that let people use a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.cli.jobs import DATA_DIR, DATABASE
from api.cli.limits import token_limits

if TYPE_CHECKING:
    from api.store.tables import TokenRecord
    from api.store.tokens import Tokens


@click.group("token")
def token_group() -> None:
    """Let people use a server: each with a token of their own, which can be revoked.

    They act on the server's database, and need no server that runs. A token is told once, when it
    is made: the database has only its SHA-256.
    """


@token_group.command()
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(["read", "plan", "admin"]),
    default="plan",
    show_default=True,
    help="read: look at everything; plan: also make plans, jobs and devices; admin: also delete.",
)
@token_limits
@DATA_DIR
@DATABASE
def create(
    name: str, scope: str, data_dir: Path | None, database_url: str | None, **limits: int | None
) -> None:
    """Make a token for NAME, and print it."""
    from api.store.tokens import Allowance, Scope

    with _tokens(data_dir, database_url) as tokens:
        click.echo(tokens.create(name, Scope[scope.upper()], Allowance(**limits)))


@token_group.command("list")
@DATA_DIR
@DATABASE
def list_tokens(data_dir: Path | None, database_url: str | None) -> None:
    """Print the tokens that were made: id, scope, since when, whose, limits of their own."""
    with _tokens(data_dir, database_url) as tokens:
        for token in tokens.all():
            state = token.scope if token.revoked is None else "revoked"
            line = f"{token.id}  {state:<7}  {token.created:%Y-%m-%d %H:%M}  {token.name}"
            click.echo("  ".join([line, *_limits(token)]))


@token_group.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@DATA_DIR
@DATABASE
def revoke(ids: tuple[str, ...], data_dir: Path | None, database_url: str | None) -> None:
    """Make tokens worthless, at servers that run within seconds."""
    from planner.errors import OptionError

    with _tokens(data_dir, database_url) as tokens:
        for id_ in ids:
            if not tokens.revoke(id_):
                raise OptionError(f"there is no token {id_!r} that is valid: see 'token list'")


def _limits(token: TokenRecord) -> Iterator[str]:
    """The limits that a token has of its own."""
    if token.requests_per_minute is not None:
        yield f"{token.requests_per_minute} requests/min"
    if token.running_plans is not None:
        yield f"{token.running_plans} plans at a time"
    if token.stored_bytes is not None:
        yield f"{token.stored_bytes / 2**30:g} GiB stored"
    if token.upload_bytes_per_hour is not None:
        yield f"{token.upload_bytes_per_hour / 2**30:g} GiB/h uploaded"


@contextmanager
def _tokens(data_dir: Path | None, database_url: str | None) -> Iterator[Tokens]:
    from platformdirs import user_data_path

    from api.store.plans import open_database
    from api.store.tokens import Tokens

    folder = data_dir or user_data_path("layout-planner", appauthor=False)
    database = open_database(folder, database_url)
    try:
        yield Tokens(database)
    finally:
        database.close()
