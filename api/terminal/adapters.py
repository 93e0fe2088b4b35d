"""The GPUs of a machine, as data and for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from gpu.device import AdapterInfo


def describe_adapters(adapters: Sequence[AdapterInfo], used: int) -> dict[str, Any]:
    """Every adapter, as JSON takes it; ``used`` is the index of the one that would be opened."""
    return {
        "adapters": [
            asdict(info)
            | {
                "is_used": index == used,
                "is_software": info.is_software,
                "timestamps": info.has_timestamps,
                "f16": info.has_f16,
            }
            for index, info in enumerate(adapters)
        ]
    }


def adapters_table(description: dict[str, Any]) -> Table:
    """A column for each adapter, the one that would be used first."""
    adapters = sorted(description["adapters"], key=lambda adapter: not adapter["is_used"])
    table = Table(title="GPUs of this machine")
    table.add_column("")
    for adapter in adapters:
        table.add_column(Text(adapter["name"]), style="bold" if adapter["is_used"] else None)

    def row(heading: str, texts: Iterable[str]) -> None:
        table.add_row(heading, *map(Text, texts))

    row("used", (_yes(a["is_used"]) for a in adapters))
    row("backend", (a["backend"] for a in adapters))
    row("kind", (f"{_kind(a['is_software'])}, {a['kind']}" for a in adapters))
    row("driver", (a["driver"] for a in adapters))
    row("timestamps", (_yes(a["timestamps"]) for a in adapters))
    row("f16 in shaders", (_yes(a["f16"]) for a in adapters))
    table.add_section()
    for heading, name, show in (
        ("largest buffer", "max-buffer-size", _mebibytes),
        ("largest binding", "max-storage-buffer-binding-size", _mebibytes),
        ("largest 3D image, each side", "max-texture-dimension-3d", "{:,} texels".format),
        ("workgroup's memory", "max-compute-workgroup-storage-size", "{:,} bytes".format),
        ("workgroup's invocations", "max-compute-invocations-per-workgroup", "{:,}".format),
        ("workgroups, each dimension", "max-compute-workgroups-per-dimension", "{:,}".format),
    ):
        limits = (adapter["limits"].get(name) for adapter in adapters)
        row(heading, ("–" if limit is None else show(limit) for limit in limits))
    return table


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _kind(is_software: bool) -> str:
    return "software" if is_software else "hardware"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
