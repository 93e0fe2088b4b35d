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


class Printed:
    """Lines of a benchmark, printed as they come, and written to a file at the end."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._console = Console(width=250, highlight=False)

    def add(self, *lines: str) -> None:
        """Prints lines."""
        for line in lines:
            self._lines.append(line)
            self._console.print(line, markup=False)

    def write(self, output: Path | None) -> None:
        """Writes all of them to a file if one is given."""
        if output is not None:
            write_whole(output, ("\n".join(self._lines) + "\n").encode())


def print_and_write(text: str, output: Path | None) -> None:
    """Prints a text, and writes it to a file if one is given."""
    Console(width=250, highlight=False).print(text, markup=False, end="")
    if output is not None:
        write_whole(output, text.encode())
