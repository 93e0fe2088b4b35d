"""The terminal: how wide it is, and texts that are safe to print on it."""

from __future__ import annotations

from typing import Final

from rich.console import Console, Group
from rich.text import Text

_LONGEST_TEXT: Final = 200


def stdout() -> Console:
    """Standard output: as wide as the terminal, or as a table needs where there is none."""
    # A name such as ":ok:" stays as it is.
    console = Console(emoji=False)
    return console if console.is_terminal else Console(width=160, emoji=False)


def visible(text: str) -> str:
    """A text of unknown origin on one line: control and bidi characters escaped, its end cut."""
    cut = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut
    )


def paragraph(*lines: str) -> Group:
    """Lines of text without markup, as a part of what is printed."""
    # In a group, for a console prints texts that follow each other side by side.
    return Group(Text("\n".join(lines)))
