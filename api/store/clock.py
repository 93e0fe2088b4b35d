"""The database's clock: machines that share a database need not agree on the time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Double, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from api.store.tables import Utc


class Ago(FunctionElement[datetime]):
    """The point in time so many seconds ago, when the statement runs."""

    name = "ago"
    type = Utc()
    inherit_cache = True

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(literal(seconds, Double))


@compiles(Ago, "sqlite")
def _sqlite(element: Ago, compiler: SQLCompiler, **kw: Any) -> str:
    # Six digits after the point, as those that SQLAlchemy writes: compared as texts.
    seconds = compiler.process(element.clauses, **kw)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', (-({seconds})) || ' seconds')"


@compiles(Ago, "postgresql")
def _postgresql(element: Ago, compiler: SQLCompiler, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"(clock_timestamp() - make_interval(secs => {seconds}))"
