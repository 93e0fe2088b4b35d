from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any, get_args

import pytest
from sqlalchemy import Engine, delete, event, select, update

from api.store import plans
from api.store.database import Database
from api.store.plans import PlanFilter, PlanStore, Sort, open_store, plan_id
from api.store.tables import Blob, Plan
from planner.errors import OptionError
from planner.options import make_options
from planner.result.revision import PLANNER
from tests.api.store.drafts import OPTIONS, check_whole, draft, put

ID = "0123456789abcdef" * 2


@pytest.fixture
def store(tmp_path: Path, database_url: str) -> Iterator[PlanStore]:
    store = open_store(tmp_path / "data", database_url)
    yield store
    store.close()


def _blobs(tmp_path: Path) -> dict[str, Path]:
    """The files of all blobs, by SHA-256."""
    return {path.name: path for path in (tmp_path / "data/blobs").glob("??/??/*")}


def _age(tmp_path: Path, url: str) -> None:
    """Makes all blobs as old as if they had been put two hours ago."""
    then = datetime.now(UTC) - timedelta(hours=2)
    for path in _blobs(tmp_path).values():
        os.utime(path, (then.timestamp(), then.timestamp()))
    database = Database(url)
    with database.writing() as session:
        session.execute(update(Blob).values(created=then))
    database.close()


def _rows(url: str) -> dict[str, datetime]:
    """When the blobs were put that the database knows."""
    database = Database(url)
    with database.reading() as session:
        found = {blob.sha256: blob.created for blob in session.scalars(select(Blob))}
    database.close()
    return found


def test_keeps_what_a_plan_says_and_is_made_of(store: PlanStore, tmp_path: Path) -> None:
    before = datetime.now(UTC)
    source, files = draft(tmp_path / "draft", name="Größe.pt2", ratio=None)
    options = make_options("bytes", buffer_limit=2**40)
    assert store.get(ID) is None
    plan = store.put(ID, files, source, options)

    again = store.get(ID)
    assert again is not None
    for kept in (plan, again):
        assert kept.id == ID
        # SQLite's clock has milliseconds.
        assert before - timedelta(milliseconds=1) <= kept.created <= datetime.now(UTC)
        assert (kept.source_name, kept.folded_name) == ("Größe.pt2", "grösse.pt2")
        assert (kept.profile_name, kept.profile_hash) == ("bytes", options.profile.digest)
        assert (kept.costs_name, kept.costs_hash) == ("bytes", options.profile.digest)
        assert kept.texture_limits == (16384, 16384, 2048)
        assert kept.excluded_layouts == ("TENSOR_HEIGHT_PACKED", "PACKED_INT8_4C")
        assert kept.buffer_limit == 2**40
        assert (kept.repack_cost, kept.baseline_repack_cost, kept.saved_cost) == (100, 250, 150)
        assert (kept.ratio, kept.objective_ratio) == (inf, 2.5)
        assert (kept.delegates, kept.operators, kept.plan_seconds) == (1, 30, 0.25)
        assert kept.has_program and kept.program_sha256 is not None
        assert store.path(kept.source_sha256).read_text() == "source of net"
        assert json.loads(store.path(kept.report_sha256).read_text())["kind"] == "pt2"
        assert store.path(kept.graph_sha256).read_text() == "graph of net"
        assert store.path(kept.program_sha256).read_text() == "program of net"


def _set_ahead(connection: Any, _: object) -> None:
    """Has a connection's database be a day ahead of this process's clock."""
    if isinstance(connection, sqlite3.Connection):
        there = datetime.now(UTC) + timedelta(days=1)
        text = there.strftime("%Y-%m-%d %H:%M:%S.%f")
        connection.create_function("strftime", -1, lambda *_: text)
        return
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA IF NOT EXISTS ahead")
        cursor.execute(
            "CREATE OR REPLACE FUNCTION ahead.clock_timestamp() RETURNS timestamptz LANGUAGE sql "
            "AS $$ SELECT pg_catalog.clock_timestamp() + interval '1 day' $$"
        )
        cursor.execute("SET search_path = ahead, pg_catalog, public")
    connection.commit()


def test_plans_and_blobs_have_the_time_of_the_database(
    store: PlanStore, tmp_path: Path, database_url: str
) -> None:
    store.close()
    event.listen(Engine, "connect", _set_ahead)
    try:
        with ExitStack() as stack:
            ahead = open_store(tmp_path / "data", database_url)
            stack.callback(ahead.close)
            tomorrow = datetime.now(UTC) + timedelta(hours=23)
            assert put(ahead, tmp_path / "draft").created > tomorrow
            assert min(_rows(database_url).values()) > tomorrow
    finally:
        event.remove(Engine, "connect", _set_ahead)


def test_a_plan_of_a_graph_alone_has_no_program(store: PlanStore, tmp_path: Path) -> None:
    source, files = draft(tmp_path / "draft")
    files.program.write_bytes(b"")
    plan = store.put(ID, files, source, OPTIONS)
    assert plan.program_sha256 is None and not plan.has_program


def test_is_found_again_by_another_store_of_the_same_directory(tmp_path: Path) -> None:
    first = open_store(tmp_path / "deep" / "data")
    plan = put(first, tmp_path / "draft")
    first.close()
    second = open_store(tmp_path / "deep" / "data")
    found = second.get(plan.id)
    assert found is not None
    check_whole(second, found)
    second.close()


def test_puts_of_one_id_at_once_keep_the_first_to_commit(
    store: PlanStore, tmp_path: Path, database_url: str
) -> None:
    other = open_store(tmp_path / "data", database_url)
    drafts = [draft(tmp_path / f"draft{i}", name=f"{i}.pt2") for i in range(8)]

    def put_one(number: int) -> Plan:
        source, files = drafts[number]
        return (store, other)[number % 2].put(ID, files, source, OPTIONS)

    with ThreadPoolExecutor(8) as threads:
        kept = list(threads.map(put_one, range(8)))
    assert len({plan.source_name for plan in kept}) == 1
    assert len({plan.report_sha256 for plan in kept}) == 1
    assert store.page().total == 1
    check_whole(store, kept[0])
    other.close()


@pytest.mark.parametrize("missing", ["report.json", "graph.plan", "program.pte", "source"])
def test_a_plan_that_is_not_whole_is_never_seen(
    store: PlanStore, tmp_path: Path, missing: str
) -> None:
    source, files = draft(tmp_path / "draft")
    (tmp_path / "draft" / missing).unlink()
    with pytest.raises(FileNotFoundError):
        store.put(ID, files, source, OPTIONS)
    assert store.get(ID) is None
    assert store.page().total == 0


def test_nothing_is_kept_of_a_plan_whose_report_is_none(store: PlanStore, tmp_path: Path) -> None:
    source, files = draft(tmp_path / "draft")
    files.report.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="Expecting value"):
        store.put(ID, files, source, OPTIONS)
    assert _blobs(tmp_path) == {}


@pytest.mark.parametrize(
    "text", ["", "..", "../store", ID.upper().replace("0", "A"), ID[:-1], ID + "0", ID + "\n"]
)
def test_what_is_no_id_has_no_plan(store: PlanStore, tmp_path: Path, text: str) -> None:
    source, files = draft(tmp_path / "draft")
    assert store.get(text) is None
    assert not store.delete(text)
    with pytest.raises(ValueError, match="not the id of a plan"):
        store.put(text, files, source, OPTIONS)
    assert _blobs(tmp_path) == {}


def test_an_id_tells_files_and_options_apart() -> None:
    one, other = "a" * 64, "b" * 64
    options = [
        make_options("bytes"),
        make_options("default"),
        make_options("default", "latency"),
        make_options("default", "repack", "2048,2048,2048"),
        make_options("default", "repack", None, ["PACKED_INT8_4C"]),
        make_options("default", "repack", None, (), 2**20),
        make_options(replace(OPTIONS.profile, name="default")),
        make_options("bytes", target="vulkan"),
        make_options("bytes", target="webgpu"),
    ]
    ids = {plan_id(sha256, each) for sha256 in (one, other) for each in options}
    assert len(ids) == 2 * len(options)
    assert plan_id(one, make_options("bytes")) in ids


def test_what_is_deleted_is_gone_with_what_nothing_else_refers_to(
    store: PlanStore, tmp_path: Path, database_url: str
) -> None:
    plan, other = put(store, tmp_path / "one", "one"), put(store, tmp_path / "two", "two")
    shared = put(store, tmp_path / "three", "two", options=make_options("default"))
    assert shared.graph_sha256 == other.graph_sha256
    assert store.delete(plan.id)
    assert not store.delete(plan.id)
    assert store.get(plan.id) is None
    assert store.delete(shared.id)

    assert _rows(database_url).keys() == _blobs(tmp_path).keys()
    check_whole(store, other)
    assert len(_blobs(tmp_path)) == 4
    _age(tmp_path, database_url)
    assert store.sweep() == 0
    with pytest.raises(FileNotFoundError):
        store.path(plan.graph_sha256)
    check_whole(store, put(store, tmp_path / "again", "one"))


def test_what_was_handed_in_stays_when_the_plan_of_it_is_deleted(
    store: PlanStore, tmp_path: Path, database_url: str
) -> None:
    plan = put(store, tmp_path / "draft")
    sha256 = store.hand_in(b"source of net")
    assert sha256 == plan.source_sha256
    assert store.delete(plan.id)
    assert _blobs(tmp_path).keys() == _rows(database_url).keys() == {sha256}
    _age(tmp_path, database_url)
    assert store.sweep() == 1
    assert _blobs(tmp_path) == {}


def test_puts_beside_deletions_of_the_same_bytes_keep_theirs(
    store: PlanStore, tmp_path: Path, database_url: str
) -> None:
    """Each deletes what it has put; what another has put at that moment is whole."""
    other = open_store(tmp_path / "data", database_url)
    options = [make_options("bytes", buffer_limit=2**n) for n in range(20, 24)]

    def put_and_delete(number: int) -> None:
        mine = (store, other)[number % 2]
        for round_ in range(6):
            plan = put(mine, tmp_path / f"{number}-{round_}", options=options[number])
            check_whole(mine, plan)
            assert mine.delete(plan.id)

    with ThreadPoolExecutor(len(options)) as threads:
        list(threads.map(put_and_delete, range(len(options))))
    other.close()
    assert store.page().total == 0
    _age(tmp_path, database_url)
    store.sweep()
    assert _blobs(tmp_path) == {}


def test_a_blob_that_is_deleted_between_put_and_commit_is_put_again(
    store: PlanStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = put(store, tmp_path / "one")
    prepare = store.prepare
    deleted: list[bool] = []

    def prepare_and_lose(*args: Any) -> Any:
        found = prepare(*args)
        if not deleted:
            deleted.append(store.delete(first.id))
        return found

    monkeypatch.setattr(store, "prepare", prepare_and_lose)
    check_whole(store, put(store, tmp_path / "two", options=make_options("default")))
    assert deleted == [True]


def test_a_blob_that_is_put_again_counts_as_new(
    store: PlanStore, tmp_path: Path, database_url: str
) -> None:
    put(store, tmp_path / "one")
    _age(tmp_path, database_url)
    start = datetime.now(UTC) - timedelta(seconds=1)
    put(store, tmp_path / "two", options=make_options("default"))
    assert min(_rows(database_url).values()) > start
    assert min(path.stat().st_mtime for path in _blobs(tmp_path).values()) > start.timestamp()


def test_blobs_of_a_put_that_never_came_to_its_end_are_swept(
    store: PlanStore, tmp_path: Path, database_url: str
) -> None:
    source, files = draft(tmp_path / "draft")
    files.report.write_text("{}")
    put(store, tmp_path / "kept", "kept")
    with pytest.raises(KeyError):
        store.put(ID, files, source, OPTIONS)
    files.report.write_text("}")
    _age(tmp_path, database_url)
    store.sweep()
    assert len(_blobs(tmp_path)) == 4


def test_a_put_of_the_same_bytes_beside_sweeps_keeps_its_blobs(
    store: PlanStore, tmp_path: Path, database_url: str
) -> None:
    stop, swept = threading.Event(), []

    def sweep() -> None:
        while not stop.is_set():
            swept.append(store.sweep())

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        number = 0
        # On a busy machine sweeps come seldom: on, until one has met a blob.
        while number < 12 or not sum(swept):
            plan = put(store, tmp_path / f"draft{number}")
            check_whole(store, plan)
            # Not by the store, which would delete the blobs with it.
            with store.database.writing() as session:
                session.execute(delete(Plan))
            _age(tmp_path, database_url)
            time.sleep(0.002 * (number % 4))
            number += 1
            assert number < 1000
    finally:
        stop.set()
        sweeper.join()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def many(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PlanStore]:
    """Plans that differ in what can be filtered and sorted by; the first is the oldest."""
    folder = tmp_path_factory.mktemp("many")
    with ExitStack() as stack:
        url = None
        if request.param == "postgresql":
            url = stack.enter_context(request.getfixturevalue("cluster").database())
        store = open_store(folder / "data", url)
        stack.callback(store.close)
        _fill(store, folder)
        yield store


def _fill(store: PlanStore, folder: Path) -> None:
    rows: list[tuple[str, str, dict[str, Any]]] = [
        ("swin_t.pt2", "bytes", {"ratio": 2.5, "repack_cost": 30.0, "objective_cost": 3.0}),
        ("Swin_S.pt2", "default", {"ratio": None, "repack_cost": 0.0, "objective_cost": 2.0}),
        ("Größe.pt2", "bytes", {"ratio": 1.0, "repack_cost": 250.0, "status": "FEASIBLE"}),
        ("50%_a.pt2", "bytes", {"ratio": 2.0, "repack_cost": 30.0, "objective_cost": 7.0}),
        ("50xya.pt2", "h200", {"ratio": 2.0, "repack_cost": 20.0, "objective_cost": 9.0}),
    ]
    for number, (name, profile, total) in enumerate(rows):
        options = make_options(profile)
        put(store, folder / str(number), str(number), name, options, **total)


def _names(store: PlanStore, which: PlanFilter, **order: Any) -> list[str]:
    page = store.page(which, **order)
    assert page.total == len(page.plans)
    return [plan.source_name.removesuffix(".pt2") for plan in page.plans]


@pytest.mark.parametrize(
    ("which", "names"),
    [
        (PlanFilter(), ["50xya", "50%_a", "Größe", "Swin_S", "swin_t"]),
        (PlanFilter(name="SWIN"), ["Swin_S", "swin_t"]),
        (PlanFilter(name="GRÖSSE"), ["Größe"]),
        (PlanFilter(name="50%_"), ["50%_a"]),
        (PlanFilter(name="\\"), []),
        (PlanFilter(name=""), ["50xya", "50%_a", "Größe", "Swin_S", "swin_t"]),
        (PlanFilter(profile="bytes"), ["50%_a", "Größe", "swin_t"]),
        (PlanFilter(profile="byte"), []),
        (PlanFilter(objective="latency"), []),
        (PlanFilter(status="FEASIBLE"), ["Größe"]),
        (PlanFilter(min_ratio=2.0), ["50xya", "50%_a", "Swin_S", "swin_t"]),
        (PlanFilter(min_ratio=2.0, max_ratio=2.0), ["50xya", "50%_a"]),
        (PlanFilter(profile="bytes", max_ratio=2.0), ["50%_a", "Größe"]),
    ],
)
def test_filters(many: PlanStore, which: PlanFilter, names: list[str]) -> None:
    assert _names(many, which) == names


def test_filters_by_time(many: PlanStore) -> None:
    middle = many.page().plans[2].created
    assert _names(many, PlanFilter(created_after=middle)) == ["50xya", "50%_a", "Größe"]
    assert _names(many, PlanFilter(created_before=middle)) == ["Swin_S", "swin_t"]


@pytest.mark.parametrize("sort", get_args(Sort))
@pytest.mark.parametrize("descending", [False, True])
def test_sorts_and_pages_without_repeating_or_leaving_out(
    many: PlanStore, sort: Sort, descending: bool
) -> None:
    whole = many.page(sort=sort, descending=descending).plans
    key = "folded_name" if sort == "name" else sort
    keys = [(getattr(plan, key), plan.id) for plan in whole]
    assert keys == sorted(keys, reverse=descending)
    pages = [
        many.page(sort=sort, descending=descending, limit=2, offset=offset) for offset in (0, 2, 4)
    ]
    assert [page.total for page in pages] == [5] * 3
    assert [p.id for page in pages for p in page.plans] == [plan.id for plan in whole]


def test_names_sort_by_code_points_without_case(many: PlanStore) -> None:
    found = _names(many, PlanFilter(), sort="name", descending=False)
    assert found == ["50%_a", "50xya", "Größe", "Swin_S", "swin_t"]


def test_the_directory_is_made_and_holds_everything(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a" / "b")
    put(store, tmp_path / "draft")
    store.close()
    found = {path.name for path in (tmp_path / "a" / "b").iterdir()}
    assert found >= {"blobs", "layout-planner.sqlite"}


def test_a_database_goes_with_one_directory(
    store: PlanStore, tmp_path: Path, database_url: str
) -> None:
    plan = put(store, tmp_path / "draft")
    for _ in range(2):
        with pytest.raises(OptionError, match="the database goes with other files than"):
            open_store(tmp_path / "other", database_url)
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = open_store(tmp_path / "moved", database_url)
    check_whole(moved, plan)
    moved.close()


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match=r"cannot keep plans in .*/file/data: Not a directory; "):
        open_store(tmp_path / "file" / "data")


def test_a_source_has_the_sha256_that_its_report_says(store: PlanStore, tmp_path: Path) -> None:
    plan = put(store, tmp_path / "draft")
    report = json.loads(store.path(plan.report_sha256).read_bytes())
    assert plan.source_sha256 == report["source"]["sha256"]
    assert plan.source_sha256 == hashlib.sha256(b"source of net").hexdigest()


def test_another_revision_of_planning_is_another_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan_id("0" * 64, OPTIONS)
    assert before == plan_id("0" * 64, OPTIONS)
    monkeypatch.setattr(plans, "PLANNER", f"{PLANNER}1")
    assert before != plan_id("0" * 64, OPTIONS)


def test_of_a_rehearsal_no_plan_is_left(store: PlanStore, tmp_path: Path) -> None:
    source, files = draft(tmp_path / "draft")
    store.rehearse(files, source, OPTIONS)
    assert store.page().total == 0
    assert store.stored_bytes() == 0
    assert store.sweep(timedelta(0)) == 4
