"""The commands for the store, on a store with a real plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.cli import main
from api.jobs.register import WorkerRegister
from api.store.files import PlanFiles
from api.store.plans import PlanStore, open_store, plan_id
from api.store.scratch import scratch_in
from api.store.tables import Plan
from tests.api.planned import OPTIONS, lowered, planned
from tests.api.store.drafts import check_whole, put


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PlanStore]:
    store = open_store(tmp_path / "data")
    yield store
    store.close()


@pytest.fixture
def plan(store: PlanStore, tmp_path: Path) -> Plan:
    """A plan as the service makes it."""
    files, source = PlanFiles.within(tmp_path), tmp_path / "source"
    flatbuffer, report = planned()
    source.write_bytes(lowered())
    files.graph.write_bytes(flatbuffer)
    files.report.write_text(report)
    files.program.write_bytes(b"program")
    id_ = plan_id(hashlib.sha256(lowered()).hexdigest(), OPTIONS)
    return store.put(id_, files, source, OPTIONS)


def _invoke(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["store", *arguments, "--data-dir", str(tmp_path / "data")])


def test_a_store_that_is_whole(plan: Plan, tmp_path: Path) -> None:
    found = _invoke(tmp_path, "check")
    assert found.exit_code == 0, found.output
    assert "1 plans, 4 files" in found.output and "all of it is whole" in found.output
    assert json.loads(_invoke(tmp_path, "check", "--json").output)["is_whole"] is True
    assert "nothing is damaged" in _invoke(tmp_path, "repair").output


def test_a_plan_whose_file_is_damaged_is_planned_again(
    store: PlanStore, plan: Plan, tmp_path: Path
) -> None:
    store.path(plan.graph_sha256).write_bytes(b"other")
    store.path(plan.report_sha256).unlink()
    found = _invoke(tmp_path, "check")
    assert found.exit_code == 1
    assert "damaged" in found.output and "missing" in found.output
    assert "store repair plans it again" in found.output
    damages = json.loads(_invoke(tmp_path, "check", "--json").output)["damages"]
    assert {damage["how"] for damage in damages} == {"damaged", "missing"}

    mended = _invoke(tmp_path, "repair")
    assert mended.exit_code == 0, mended.output
    assert mended.output == f"plan {plan.id} of cvt.pte was planned again\n"
    again = store.get(plan.id)
    assert again is not None and again.created == plan.created
    check_whole(store, again)
    # The same plan, by the jailed process.
    assert again.graph_sha256 == plan.graph_sha256
    assert _invoke(tmp_path, "check").exit_code == 0

    # Nothing is left of a damaged file whose plan has another one now.
    store.path(again.report_sha256).write_bytes(b"other")
    assert _invoke(tmp_path, "repair").exit_code == 0
    assert _invoke(tmp_path, "check").exit_code == 0


def test_a_plan_that_cannot_be_made_again_is_forgotten(
    store: PlanStore, plan: Plan, tmp_path: Path
) -> None:
    other = put(store, tmp_path / "other", "other")
    store.path(plan.graph_sha256).write_bytes(b"other")
    store.path(plan.source_sha256).write_bytes(b"other")
    store.path(other.program_sha256 or "").unlink()
    mended = _invoke(tmp_path, "repair")
    assert mended.exit_code == 1
    lines = {line.split()[1]: line for line in mended.output.splitlines()}
    assert "is damaged: hand in the program again" in lines[plan.id]
    # Its source is no program at all.
    assert "is forgotten, for it could not be planned again" in lines[other.id]
    assert store.page().total == 0
    assert _invoke(tmp_path, "check").exit_code == 0


def test_what_nothing_refers_to_is_deleted(store: PlanStore, plan: Plan, tmp_path: Path) -> None:
    store.blobs.put(b"stray")
    assert _invoke(tmp_path, "gc").output == "0 files swept, 0 bytes freed in all\n"
    with scratch_in(tmp_path / "data"):
        refused = _invoke(tmp_path, "gc", "--now")
    assert refused.exit_code == 2
    assert "a server or workers use the store" in refused.output
    register = WorkerRegister(store.database)
    register.add("worker")
    assert _invoke(tmp_path, "gc", "--now").exit_code == 2
    register.remove("worker")
    assert _invoke(tmp_path, "gc", "--now").output == "1 files swept, 5 bytes freed in all\n"
    check_whole(store, plan)


def test_what_is_too_old_or_too_much_goes(store: PlanStore, plan: Plan, tmp_path: Path) -> None:
    kept = _invoke(tmp_path, "gc", "--keep-days", "1", "--max-store-gib", "1")
    assert kept.output == "0 files swept, 0 bytes freed in all\n"
    size = sum(size for _, size in store.blobs.all())
    gone = _invoke(tmp_path, "gc", "--max-store-gib", "0.000001")
    first, last = gone.output.splitlines()
    assert first == f"plan {plan.id} of cvt.pte went for its size"
    assert last == f"0 files swept, {size:,} bytes freed in all"
    assert store.page().total == 0


def test_a_backup_comes_back(store: PlanStore, plan: Plan, tmp_path: Path) -> None:
    made = _invoke(tmp_path, "backup", str(tmp_path / "backup.tar"))
    assert made.exit_code == 0, made.output
    assert made.output.startswith(f"{tmp_path / 'backup.tar'}: 4 files, ")
    assert _invoke(tmp_path, "restore", str(tmp_path / "backup.tar")).exit_code == 2
    back = ["store", "restore", str(tmp_path / "backup.tar"), "--data-dir", str(tmp_path / "back")]
    restored = CliRunner().invoke(main, back)
    assert restored.exit_code == 0, restored.output
    assert "1 plans, 4 files" in restored.output


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    found = _invoke(tmp_path, "check")
    assert found.exit_code == 2
    assert "there is no store in" in found.output
    assert not (tmp_path / "data").exists()
