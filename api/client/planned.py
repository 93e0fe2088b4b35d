"""A program that a server planned, with all that there is of it."""

from __future__ import annotations

from pathlib import Path

from api.client.client import Client
from api.client.operations import ServerPlan
from api.files import read_input
from planner.errors import InputError, OptionError
from planner.files.kinds import FileKind, kind_of
from planner.result.report import Report
from schema import SchemaError, join_delegate, plan, split_delegate


class PlannedThere:
    """A program that a server planned, as ``planner.plan`` returns one that was planned here.

    ``pte`` and ``data`` are read from there when they are asked for.
    """

    def __init__(self, client: Client, made: ServerPlan, source: Path) -> None:
        """``source`` is the program as it was handed in."""
        self._client, self._made, self._source = client, made, source
        self._program: bytes | None = None
        self.report: Report = client.report(made.id)

    def flatbuffer(self) -> bytes:
        """The planned program as a flatbuffer (``plan.fbs``)."""
        return self._made.flatbuffer

    def pte(self) -> bytes:
        """The program for ExecuTorch's runtime; raises ``OptionError`` where none was handed in."""
        if self._program is None:
            self._program = self._client.program(self._made.id)
        if self._program is None:
            raise OptionError(
                "a VkGraph alone is not a program for the runtime: give the .pte that it is from"
            )
        return self._program

    @property
    def data(self) -> bytes:
        """The program in the form in which it came; a ``.pt2`` as it was lowered."""
        return self.pte() if self.report.kind != "vkgraph" else self._graph()

    def _graph(self) -> bytes:
        """The planned VkGraph; where it came with constants, which stay here, with these."""
        try:
            graph = plan.decode(self._made.flatbuffer).delegates[0].graph
            given = read_input(self._source)
            if kind_of(given) is FileKind.VKGRAPH:
                return graph
            return join_delegate(graph, bytes(split_delegate(given).constants))
        except (SchemaError, IndexError) as error:
            raise InputError(f"{self._source.name} is not what was planned: {error}") from error
