"""Who is charged for what is in the store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from api.store.accounts import Account, FullAccountError
from api.store.clock import Ago
from api.store.plans import PlanStore, open_store, plan_id
from api.store.tables import Charge, Plan
from tests.api.store.drafts import OPTIONS, draft

ANN, BOB = Account("ann", 10_000), Account("bob", 10_000)


@pytest.fixture
def store(tmp_path: Path, database_url: str) -> Iterator[PlanStore]:
    store = open_store(tmp_path / "data", database_url)
    yield store
    store.close()


def _age(store: PlanStore) -> None:
    """Makes all charges as old as if they had been made two hours ago."""
    with store.database.writing() as session:
        session.execute(update(Charge).values(created=Ago(7200.0)))


def _put(store: PlanStore, folder: Path, text: str, account: Account) -> Plan:
    source, files = draft(folder, text)
    id_ = plan_id(store.blobs.put(source), OPTIONS)
    return store.put(id_, files, source, OPTIONS, account)


def _size(store: PlanStore, plan: Plan) -> int:
    assert plan.program_sha256 is not None
    blobs = (plan.source_sha256, plan.report_sha256, plan.graph_sha256, plan.program_sha256)
    return sum(map(store.blobs.size, blobs))


def test_a_plan_is_charged_to_who_asked_first_until_it_is_deleted(
    store: PlanStore, tmp_path: Path
) -> None:
    plan = _put(store, tmp_path / "a", "net", ANN)
    assert _put(store, tmp_path / "b", "net", BOB).id == plan.id
    size = _size(store, plan)
    assert (store.accounts.stored("ann"), store.accounts.stored("bob")) == (size, 0)
    store.delete(plan.id)
    assert store.accounts.stored("ann") == 0


def test_what_another_plan_has_as_well_stays_charged(store: PlanStore, tmp_path: Path) -> None:
    one, two = (_put(store, tmp_path / name, name, ANN) for name in ("one", "two"))
    assert store.accounts.stored("ann") == _size(store, one) + _size(store, two)
    store.accounts.reserve(BOB, {two.graph_sha256: 7})
    store.delete(one.id)
    assert store.accounts.stored("ann") == _size(store, two)
    assert store.accounts.stored("bob") == 7


def test_a_charge_goes_with_what_a_sweep_deletes(store: PlanStore, tmp_path: Path) -> None:
    plan = _put(store, tmp_path / "a", "net", ANN)
    store.accounts.reserve(ANN, {store.blobs.put(b"upload"): 6})
    store.sweep()
    assert store.accounts.stored("ann") == _size(store, plan) + 6
    store.sweep(timedelta(seconds=-60))
    assert store.accounts.stored("ann") == _size(store, plan)


def test_what_is_put_again_stays_charged(store: PlanStore) -> None:
    sha256 = store.blobs.put(b"upload")
    store.accounts.reserve(ANN, {sha256: 6})
    _age(store)
    with store.database.writing() as session:
        store.accounts.renew(session, sha256)
    store.sweep()
    assert store.accounts.stored("ann") == 6
    _age(store)
    store.sweep()
    assert store.accounts.stored("ann") == 0


def test_of_many_at_once_only_so_many_get_room_as_there_is(store: PlanStore) -> None:
    def reserve(number: int) -> bool:
        try:
            store.accounts.reserve(ANN, {f"{number:064x}": 3000})
        except FullAccountError as error:
            assert "that you may have" in str(error)
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(reserve, range(8))) == 3
    assert store.accounts.stored("ann") == 9000
    with pytest.raises(FullAccountError):
        store.accounts.check(ANN, 1001)
    store.accounts.check(ANN, 1000)
    store.accounts.reserve(ANN, {"f" * 64: 1000})
    with pytest.raises(FullAccountError):
        store.accounts.check(ANN)
