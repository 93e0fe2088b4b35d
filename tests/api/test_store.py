from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api.store import DirectoryStore, PlanFiles, is_plan_id

ID = "0123456789abcdef" * 2


def _draft(folder: Path, text: str = "graph") -> PlanFiles:
    folder.mkdir()
    files = PlanFiles.within(folder)
    files.report.write_text("{}")
    files.graph.write_text(text)
    files.program.write_text("program")
    return files


def test_keeps_the_files_of_a_plan(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "deep" / "store")
    assert store.get(ID) is None
    draft = _draft(tmp_path / "draft")
    kept = store.put(ID, draft)
    assert store.get(ID) == kept
    assert kept.report.read_text() == "{}"
    assert kept.graph.read_text() == "graph"
    assert kept.program.read_text() == "program"
    assert not draft.graph.exists()


def test_is_found_again_by_another_store_of_the_same_root(tmp_path: Path) -> None:
    kept = DirectoryStore(tmp_path / "store").put(ID, _draft(tmp_path / "draft"))
    assert DirectoryStore(tmp_path / "store").get(ID) == kept


def test_the_first_of_two_plans_with_one_id_stays(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    store.put(ID, _draft(tmp_path / "first", "first"))
    kept = store.put(ID, _draft(tmp_path / "second", "second"))
    assert kept.graph.read_text() == "first"
    assert [p.name for p in (tmp_path / "store").iterdir()] == [ID]


def test_puts_of_one_id_at_once_leave_one_whole_plan(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    drafts = [_draft(tmp_path / f"draft{i}", str(i)) for i in range(8)]
    with ThreadPoolExecutor(8) as threads:
        kept = set(threads.map(lambda files: store.put(ID, files), drafts))
    assert len(kept) == 1
    assert kept.pop().graph.read_text() in set("01234567")
    assert [p.name for p in (tmp_path / "store").iterdir()] == [ID]


@pytest.mark.parametrize("missing", ["report.json", "graph.plan", "program.pte"])
def test_a_plan_that_is_not_whole_is_never_seen(tmp_path: Path, missing: str) -> None:
    store = DirectoryStore(tmp_path / "store")
    files = _draft(tmp_path / "draft")
    (tmp_path / "draft" / missing).unlink()
    with pytest.raises(FileNotFoundError):
        store.put(ID, files)
    assert store.get(ID) is None
    assert list((tmp_path / "store").iterdir()) == []


def test_a_process_that_ends_before_the_rename_leaves_nothing_to_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(self: Path, target: Path) -> None:
        raise Killed

    store = DirectoryStore(tmp_path / "store")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "rename", die)
        # A killed process cleans nothing up either.
        patch.setattr(shutil, "rmtree", lambda *args, **options: None)
        store.put(ID, _draft(tmp_path / "draft"))
    (leftover,) = (tmp_path / "store").iterdir()
    assert store.get(ID) is None
    assert store.get(leftover.name) is None
    assert store.put(ID, _draft(tmp_path / "again", "again")).graph.read_text() == "again"


@pytest.mark.parametrize(
    "text", ["", "..", "../store", ID.upper(), ID[:-1], ID + "0", ID[:-1] + "/", ID + "\n", "/etc"]
)
def test_only_ids_become_part_of_a_path(tmp_path: Path, text: str) -> None:
    store = DirectoryStore(tmp_path / "store")
    assert not is_plan_id(text)
    assert store.get(text) is None
    with pytest.raises(ValueError, match="not the id of a plan"):
        store.put(text, _draft(tmp_path / "draft"))
    assert list((tmp_path / "store").iterdir()) == []
