"""How the tables came to be as they are: a step for each release that changed them.

A new step is a module in ``versions``; a test holds what all of them make against ``tables``.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from planner.errors import OptionError

if TYPE_CHECKING:
    from sqlalchemy import Connection


def upgrade(connection: Connection, name: str) -> None:
    """Takes the steps that a database lacks, in the connection's transaction.

    Raises ``OptionError``, with the database's name, if it has had steps that this release does not
    know.
    """
    # Programs that log at all would get a line for each step.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current == script.get_current_head():
        return
    if current is not None and current not in known:
        raise OptionError(
            f"the database {name} is of a newer release of Layout Planner (its tables are at "
            f"{current}, here {script.get_current_head()} is the last): use that release, or "
            "another database"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
