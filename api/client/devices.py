"""A server's device as a tuning sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from api.client.client import Client
from api.client.documents import TuningProgress
from planner.measured.device import Device, read_device
from planner.measured.importing import ProfiledFiles


class DeviceClient:
    """A device of a server. Methods raise ``OptionError`` if it refuses, ``AwayError`` if away."""

    def __init__(self, server: str, device: str) -> None:
        """For a server's address; the device is added if it is not there."""
        # A device does not wait for a server: what could not be told is told later.
        self._client = Client(server, patience=0)
        self.name = device
        if self._client.device(device) is None:
            self._client.add_device(device)

    @property
    def page(self) -> str:
        """The address of the device's page."""
        return f"{self._client.connection.server.rstrip('/')}/device/{quote(self.name, safe='')}"

    def avoid(self) -> list[dict[str, Any]]:
        """Its avoid list."""
        return self._client.avoid(self.name)

    def add_avoid(self, rows: Sequence[dict[str, Any]]) -> None:
        """Adds to its avoid list what is not there yet."""
        self._client.add_avoid(self.name, rows)

    def known(self) -> Device | None:
        """All that is known of it; None where it has no runs yet. Raises ``InputError``."""
        data = self._client.device_file(self.name)
        return None if data is None else read_device(data, f"device {self.name}")

    def add_run(self, files: ProfiledFiles) -> bool:
        """Adds a run; False if it was there already. The program may be without its constants."""
        _, is_new = self._client.add_run(
            *(self.name, files.etdump, files.program, files.etdump_name, files.program_name)
        )
        return is_new

    def begin_tuning(self, program: str) -> str:
        """Begins to tell of a tuning; returns its id."""
        return self._client.begin_tuning(self.name, program)

    def has_tuning(self, id_: str) -> bool:
        """Whether there is a tuning of this id."""
        return self._client.tuning(self.name, id_) is not None

    def tell_tuning(self, id_: str, progress: TuningProgress) -> None:
        """Tells how a tuning goes."""
        self._client.tell_tuning(self.name, id_, progress)
