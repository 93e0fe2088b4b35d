"""The benchmark of the service, with few requests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from api.bench.service import bench_service

pytestmark = [pytest.mark.server, pytest.mark.lowering]


def test_prints_what_was_measured(tmp_path: Path) -> None:
    output = tmp_path / "service.md"
    bench_service(20, 0.5, 1, output)
    text = output.read_text()
    kinds = [line.split(" | ")[0].strip("| ") for line in text.splitlines() if "of a" in line]
    assert "`POST /plan` of a `.pte`, cold" in kinds
    assert re.search(r"^\| static file \| [\d.]+ \| [\d.]+ \| 1\.0 \|$", text, re.MULTILINE)
    for clients in (1, 8, 64):
        assert re.search(rf"^\| {clients} \| `POST /plan`, in store \|", text, re.MULTILINE)
    asked, made, shed, other = map(
        int, re.findall(r"Asked for (\d+) in .* made (\d+), shed (\d+) .* answered (\d+)", text)[0]
    )
    assert asked >= 10
    # Whatever is not made is told so.
    assert (made + shed, other) == (asked, 0)
