"""The programs of a job as files: one for each input and each of its options."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Final

from api.client.client import Client
from planner.errors import InputError

_UNSAFE: Final = re.compile(r"[^\w.+()-]+")


def program_files(client: Client, job_id: str) -> dict[str, bytes]:
    """The programs of what is done, by names of files after the input and the device.

    Raises ``InputError`` for a job without any, and as ``Client``.
    """
    found: dict[str, bytes] = {}
    for item in client.results(job_id):
        data = None if item["plan_id"] is None else client.program(item["plan_id"])
        if data is None:
            continue
        name = str(PurePath(item["input"]).with_suffix(""))
        parts = [name] + [device for device in (item["options"].get("device"),) if device]
        stem = "-".join(_UNSAFE.sub("_", part).strip(".") or "program" for part in parts)
        number, unique = 1, stem
        while f"{unique}.pte" in found:
            number += 1
            unique = f"{stem}-{number}"
        found[f"{unique}.pte"] = data
    if not found:
        raise InputError(f"job {job_id} has no programs: nothing of it is planned (yet)")
    return found
