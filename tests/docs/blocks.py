"""Fenced blocks of the documentation, and the commands in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.paths import ROOT

PAGES: Final = (
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
_FENCE: Final = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_SPAN: Final = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: where it is, its language, the file that it is to be saved as, its text."""

    place: str
    language: str
    title: str
    text: str

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands of a shell block, one for each line that is not continued."""
        joined = self.text.replace("\\\n", " ")
        return tuple(line.strip() for line in joined.splitlines() if line.strip())


def blocks_of(page: Path) -> tuple[Block, ...]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        place = f"{page.relative_to(ROOT)}:{line}"
        found.append(Block(place, match[1], match[2] or "", match[3]))
    assert text.count("\n```") + text.startswith("```") == 2 * len(found), (
        f"{page}: a fence is open"
    )
    return tuple(found)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def spans_of(page: Path) -> tuple[str, ...]:
    """What is set in code within the text of a page."""
    return tuple(" ".join(span.split()) for span in _SPAN.findall(prose(page)))
