"""The bench of answers: each is asked again by planning anew, and agrees."""

from __future__ import annotations

from pathlib import Path

from api.bench.answers import answers
from tests.api.graphs import forced


def test_answers_agree_with_planning_again(tmp_path: Path) -> None:
    file, table = tmp_path / "net.vkgraph", tmp_path / "table.md"
    file.write_bytes(forced())
    answers([file], [], "small", None, 4, table)
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.read_text().splitlines()
        if line.startswith("|")
    ]
    assert [cells[:2] for cells in rows] == [["net", "repack"], ["net", "latency"]]
    for cells in rows:
        agreed, _, checked = cells[head.index("checked")].partition(" of ")
        assert agreed == checked and int(checked) >= 12
        assert cells[head.index("proof")].isdigit()
        assert "(1)" in cells[head.index("repacks explained")]
