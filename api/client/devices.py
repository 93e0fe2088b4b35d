"""A server's devices as the command line sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx

from api.client.connection import Connection, checked
from planner.measured.device import Device, read_device
from planner.measured.importing import ProfiledFiles


class DeviceClient:
    """A device of a server. Methods raise ``OptionError`` if it refuses, ``AwayError`` if away."""

    def __init__(self, server: str, device: str) -> None:
        """For a server's address; the device is added if it is not there."""
        self._connection = Connection(server)
        self._path = f"/devices/{quote(device, safe='')}"
        self.name = device
        if self._found("") is None:
            self._connection.call("POST", "/devices", json={"name": device})

    @property
    def page(self) -> str:
        """The address of the device's page."""
        return self._connection.server.rstrip("/") + self._path.replace("/devices/", "/device/", 1)

    def avoid(self) -> list[dict[str, Any]]:
        """Its avoid list."""
        found: list[dict[str, Any]] = self._connection.call("GET", f"{self._path}/avoid")
        return found

    def add_avoid(self, rows: Sequence[dict[str, Any]]) -> None:
        """Adds to its avoid list what is not there yet."""
        self._connection.call("POST", f"{self._path}/avoid", json=list(rows))

    def known(self) -> Device | None:
        """All that is known of it; None where it has no runs yet. Raises ``InputError``."""
        answer = self._found("/device.json")
        return None if answer is None else read_device(answer.content, f"device {self.name}")

    def add_run(self, files: ProfiledFiles) -> bool:
        """Adds a run; False if it was there already. The program may be without its constants."""
        upload = self._connection.upload
        run = {
            "etdump": {"name": files.etdump_name, "sha256": upload(files.etdump)},
            "program": {"name": files.program_name, "sha256": upload(files.program)},
        }
        return self._connection.request("POST", f"{self._path}/runs", json=run).status_code == 201

    def begin_tuning(self, program: str) -> str:
        """Begins to tell of a tuning; returns its id."""
        begun = self._connection.call("POST", f"{self._path}/tunings", json={"program": program})
        id_: str = begun["id"]
        return id_

    def has_tuning(self, id_: str) -> bool:
        """Whether there is a tuning of this id."""
        return self._found(f"/tunings/{quote(id_, safe='')}") is not None

    def tell_tuning(self, id_: str, progress: dict[str, Any]) -> None:
        """Tells how a tuning goes."""
        self._connection.call("PUT", f"{self._path}/tunings/{id_}", json=progress)

    def _found(self, path: str) -> httpx.Response | None:
        """The answer about the device; None where there is nothing yet."""
        answer = self._connection.answer("GET", self._path + path)
        # A device without runs is known by nothing.
        return None if answer.status_code in (404, 422) else checked(answer)
