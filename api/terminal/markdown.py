"""Tables as Markdown, for the terminal and for ``benchmarks/``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from planner.files.whole import write_whole


def head(cells: Sequence[str], texts: int = 1) -> Iterator[str]:
    """A table's first two lines; the columns after the first ``texts`` are numbers."""
    yield row(cells)
    yield row(["---"] * texts + ["---:"] * (len(cells) - texts))


def row(cells: Sequence[str]) -> str:
    """A line of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def print_and_write(text: str, output: Path | None) -> None:
    """Prints a text, and writes it to a file if one is given."""
    Console(width=250, highlight=False).print(text, markup=False, end="")
    if output is not None:
        write_whole(output, text.encode())
