"""A store on a terminal: what was looked at, and what is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from api.store.check import Damage, StoreCheck
from api.terminal.console import visible


def check_lines(found: StoreCheck, folder: Path) -> Iterator[RenderableType]:
    """What a check found: a row for each damage, with what to do."""
    if found.database:
        table = Table("the database is damaged", "what to do")
        for line in found.database:
            table.add_row(escape(visible(line)), found.database_remedy)
        yield table
        return
    yield escape(
        f"{folder}: {found.plans} plans, {found.blobs} files, {found.bytes:,} bytes; "
        f"{found.strays} files ({found.stray_bytes:,} bytes) that nothing refers to"
    )
    if found.is_whole:
        yield "all of it is whole"
        return
    table = Table("file", "is", "of", "what to do")
    for damage in found.damages:
        table.add_row(damage.sha256[:16], damage.how, escape(_row(damage)), damage.remedy)
    yield table


def check_document(found: StoreCheck) -> dict[str, Any]:
    """The same as JSON."""
    damages = [asdict(damage) | {"remedy": damage.remedy} for damage in found.damages]
    return asdict(found) | {"is_whole": found.is_whole, "damages": damages}


def _row(damage: Damage) -> str:
    if not damage.column:
        return "nothing"
    name = f" ({visible(damage.name)})" if damage.name else ""
    return f"{damage.column.removesuffix('_sha256')} {damage.key}{name}"
