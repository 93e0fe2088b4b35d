"""Graphs of plans as the page reads them: drawn when first asked for, the latest kept."""

from __future__ import annotations

import gzip
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final

from pydantic import TypeAdapter

from api.dashboard.graph import GraphView

_DOCUMENT: Final = TypeAdapter(GraphView)
_MOST_BYTES: Final = 64 * 2**20

Documents = tuple[bytes, ...]
"""A gzipped JSON document for each delegate of a plan."""


class Views:
    """Keeps plans' graphs by the plans' ids. May be called from several threads at once."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, Documents] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()
        self._drawing = Lock()

    def get(self, plan_id: str, draw: Callable[[], Sequence[GraphView]]) -> Documents:
        """The graphs of a plan; raises what ``draw`` does."""
        found = self._find(plan_id)
        if found is not None:
            return found
        # One at a time: drawing keeps a processor busy, and the service has others to answer.
        with self._drawing:
            found = self._find(plan_id)
            if found is None:
                found = tuple(gzip.compress(_DOCUMENT.dump_json(view), 6) for view in draw())
                self._keep(plan_id, found)
            return found

    def _find(self, plan_id: str) -> Documents | None:
        with self._lock:
            found = self._kept.get(plan_id)
            if found is not None:
                self._kept.move_to_end(plan_id)
            return found

    def _keep(self, plan_id: str, documents: Documents) -> None:
        with self._lock:
            self._kept[plan_id] = documents
            self._bytes += _size(documents)
            while self._bytes > self._most_bytes and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= _size(oldest)


def _size(documents: Documents) -> int:
    return sum(map(len, documents))
