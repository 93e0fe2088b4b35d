"""The files of a piece of work: a planning process is handed them open, and opens none itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from api.store.room import is_full


class FullOutputError(Exception):
    """There is no room for what work is to write."""


@dataclass(frozen=True, slots=True)
class Files:
    """Open files, as descriptors, by the paths that the work knows them by."""

    descriptors: Mapping[Path, int]

    def read(self, path: Path) -> bytes:
        """All that is in a file."""
        with os.fdopen(os.dup(self.descriptors[path]), "rb") as file:
            if file.seekable():  # and may have been read before
                file.seek(0)
            return file.read()

    def write(self, path: Path, data: bytes) -> None:
        """Makes data all that is in a file.

        Raises ``FullOutputError``, and ``OSError``, as if it is larger than may be.
        """
        try:
            with os.fdopen(os.dup(self.descriptors[path]), "wb") as file:
                file.seek(0)
                file.truncate()
                file.write(data)
        except OSError as error:
            if is_full(error):
                raise FullOutputError from error
            raise


@contextmanager
def opened(reads: Sequence[Path], writes: Sequence[Path]) -> Iterator[Files]:
    """Those to read and, made anew, those to write. Raises ``OSError``."""
    with ExitStack() as stack:
        found = {path: stack.enter_context(path.open("rb")).fileno() for path in reads}
        found |= {path: stack.enter_context(path.open("wb")).fileno() for path in writes}
        yield Files(found)
