"""The password of a database, from a file."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from api.cli.database import database_options

_URL = "postgresql://me@host/plans"


@click.command()
@database_options("The database.")
def _show(database_url: str | None) -> None:
    click.echo(database_url)


def _shown(file: Path | None, url: str | None = _URL) -> Result:
    env = {
        "LAYOUT_PLANNER_DATABASE_URL": url,
        "LAYOUT_PLANNER_DATABASE_PASSWORD_FILE": None if file is None else str(file),
    }
    return CliRunner().invoke(_show, env=env)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "password"
    found.write_text("a b/c@d\n")
    return found


def test_the_password_of_the_file_comes_into_the_url(file: Path) -> None:
    assert _shown(file).output == "postgresql://me:a b%2Fc%40d@host/plans\n"
    assert _shown(None).output == f"{_URL}\n"
    assert _shown(None, "").output == "\n"


def test_what_is_wrong_with_it_is_said(file: Path, tmp_path: Path) -> None:
    gone = _shown(tmp_path / "gone")
    assert gone.exit_code == 2 and "gone' does not exist" in gone.output
    alone = _shown(file, None)
    assert alone.exit_code == 2 and "is of no use without it" in alone.output
    for text in ("", "\n", "one\ntwo\n"):
        file.write_text(text)
        wrong = _shown(file)
        assert wrong.exit_code == 2 and "has to hold one line, the password" in wrong.output
        assert "two" not in wrong.output


def test_two_passwords_are_one_too_many(file: Path) -> None:
    twice = _shown(file, "postgresql://me:secret@host/plans")
    assert "has a password in it, and there is a file with one" in str(twice.exception)
    assert "secret" not in str(twice.exception)
