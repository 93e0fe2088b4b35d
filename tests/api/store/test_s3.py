"""What an S3 store has that a directory has not. What both have is in ``test_blobs``."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api.store import s3
from api.store.cache import Cache
from api.store.database import UnreachableError
from api.store.plans import open_store
from api.store.s3 import S3Blobs
from planner.errors import MissingExtraError, OptionError
from tests.api.objects import ObjectStore
from tests.api.store.homes import S3Home

GRACE = timedelta(hours=1)
DATA = b"data"
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def home(tmp_path: Path, blobs_url: str) -> S3Home:
    return S3Home(tmp_path, blobs_url)


class _Actor(threading.Thread):
    """Does something with a store of its own, one request at a time, each when it is let."""

    def __init__(self, home: S3Home, act: Callable[[S3Blobs], object]) -> None:
        super().__init__(daemon=True)
        self._act, self._blobs = act, home.open()
        self._blobs.client.meta.events.register("before-call.s3", self._pause)
        self._may_go, self._rests = threading.Semaphore(0), threading.Semaphore(0)
        self.has_ended = False
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._act(self._blobs)
        except BaseException as error:
            self.error = error
        self.has_ended = True
        self._rests.release()

    def begin(self) -> None:
        """Returns when it is about to make its first request."""
        self.start()
        self._rests.acquire()

    def step(self) -> None:
        """Lets it make a request; returns when it is about to make another, or has ended."""
        self._may_go.release()
        self._rests.acquire()

    def _pause(self, **_: object) -> None:
        self._rests.release()
        self._may_go.acquire()


# A smaller example is not worth the minutes that it takes to find one.
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=15,
    phases=[Phase.generate],
)
@given(data=st.data())
def test_in_whatever_order_requests_come_nothing_new_is_lost(
    home: S3Home, data: st.DataObject
) -> None:
    """Two that make a blob new, two sweeps and a reader, with their requests in a drawn order."""
    home.open().delete(SHA256)
    home.open().put(DATA)
    home.age(SHA256)
    is_kept = data.draw(st.booleans(), "referred to")

    def sweep(blobs: S3Blobs) -> None:
        blobs.sweep(lambda some: some if is_kept else [], GRACE)

    reader = _Actor(home, lambda blobs: blobs.path(SHA256))
    actors = [
        *(_Actor(home, lambda blobs: blobs.put(DATA)) for _ in range(2)),
        *(_Actor(home, sweep) for _ in range(2)),
        reader,
    ]
    for actor in actors:
        actor.begin()
    while waiting := [actor for actor in actors if not actor.has_ended]:
        waiting[data.draw(st.integers(0, len(waiting) - 1), "next")].step()
    for actor in actors:
        # What nothing refers to may be gone before it is read.
        assert actor.error is None or (actor is reader and not is_kept), actor.error
    assert home.open().path(SHA256).read_bytes() == DATA
    home.open().sweep(lambda some: [], GRACE)
    assert home.open().path(SHA256).read_bytes() == DATA
    assert len(home.found()) == 1


def test_who_reads_what_is_put_again_meanwhile_reads_the_other(home: S3Home) -> None:
    home.open().put(DATA)
    home.age(SHA256)  # of objects of the same second either may be the newest
    (old,) = home.objects()
    blobs, other = home.open(), home.open()

    def put_again(**_: object) -> None:
        if old in home.objects():
            other.put(DATA)

    # Its object is known by then, and has not been asked for.
    blobs.client.meta.events.register("before-call.s3.HeadObject", put_again)
    assert blobs.path(SHA256).read_bytes() == DATA
    assert old not in home.objects()


def test_objects_that_a_put_could_not_delete_are_swept(
    home: S3Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several requests for a few objects.
    monkeypatch.setattr(s3, "_BATCH", 2)
    blobs, kept = home.open(), [home.open().put(bytes([n])) for n in range(5)]
    (first,) = home.objects(kept[0])
    home.age(*kept)

    def refuse(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "DeleteObjects")

    blobs.client.meta.events.register("before-call.s3.DeleteObjects", refuse, "refuse")
    assert blobs.put(bytes([0])) == kept[0]
    assert len(home.objects(kept[0])) == 2
    with pytest.raises(UnreachableError, match=r"does not do its work \(AccessDenied\)"):
        blobs.sweep(lambda some: kept, GRACE)
    blobs.client.meta.events.unregister("before-call.s3.DeleteObjects", refuse, "refuse")
    assert blobs.sweep(lambda some: kept, GRACE) == 0
    assert len(home.found()) == 5 and first not in home.objects()
    assert sorted(blobs.all()) == sorted((sha256, 1) for sha256 in kept)
    assert blobs.sweep(lambda some: kept[:2], GRACE) == 3


def test_a_file_that_changes_while_it_is_put_is_not_kept(home: S3Home, tmp_path: Path) -> None:
    blobs, source = home.open(), tmp_path / "source"
    source.write_bytes(DATA)

    def change(**_: object) -> None:
        source.write_bytes(b"DATA")

    blobs.client.meta.events.register("provide-client-params.s3.PutObject", change)
    with pytest.raises(ValueError, match="changed while it was read"):
        blobs.put(source)
    assert home.found() == []


def test_a_store_that_was_away_is_told_of_and_used_again(
    home: S3Home, objects_server: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    blobs, other = home.open(), home.open()
    blobs.put(DATA)
    objects_server.stop()
    try:
        calls: list[Callable[[], object]] = [
            *(lambda: blobs.put(b"other"), lambda: blobs.size(SHA256)),
            *(lambda: other.path(SHA256), lambda: blobs.sweep(lambda some: some, GRACE)),
        ]
        for call in calls:
            with pytest.raises(UnreachableError, match=r"the store s3://plans/\w+ does not do its"):
                call()
        assert blobs.path(SHA256).read_bytes() == DATA
    finally:
        objects_server.start()
    assert other.path(SHA256).read_bytes() == DATA
    assert blobs.put(b"other") and len(home.found()) == 2


def test_a_store_that_cannot_be_used_is_refused_with_what_to_do(
    objects_server: ObjectStore, blobs_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    def refused(match: str, url: str = blobs_url, **variables: str | None) -> None:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                if value is None:
                    patch.delenv(name)
                else:
                    patch.setenv(name, value)
            with pytest.raises(OptionError, match=match):
                open_store(tmp_path / "data", None, url)

    may = "see that AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are right, and that they may list"
    refused(rf"cannot keep files in {blobs_url} \(InvalidAccess.*: {may}", AWS_ACCESS_KEY_ID="me")
    refused(rf"\(SignatureDoesNotMatch: .*: {may}", AWS_SECRET_ACCESS_KEY="guessed")
    refused(rf"\(AccessDenied: .*: {may}", **objects_server.environment(writes=False))
    refused(r"credentials\): set AWS_ACCESS", AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    refused(r"\(NoSuchBucket: .*\): make the bucket, or name another", "s3://other/folder")
    refused(r"\(Could not connect.*AWS_ENDPOINT_URL", AWS_ENDPOINT_URL="http://127.0.0.1:1")
    refused(r"\(Invalid endpoint.*AWS_ENDPOINT_URL", AWS_ENDPOINT_URL="somewhere")
    assert not (tmp_path / "data" / "layout-planner.sqlite").exists()


@pytest.mark.parametrize(
    "url", ["", "plans", "/plans", "https://plans", "s3://", "s3://me:secret@plans", "s3://a?b=c"]
)
def test_what_is_no_address_is_refused_unseen(tmp_path: Path, url: str) -> None:
    with pytest.raises(OptionError, match="cannot be read: write s3://bucket") as found:
        S3Blobs(url, Cache(tmp_path))
    assert "secret@" not in str(found.value)


def test_what_s3_needs_is_in_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingExtraError, match="--blobs"):
        open_store(tmp_path / "data", None, "s3://plans")


def test_a_database_goes_with_one_store_of_files(
    objects_server: ObjectStore, blobs_url: str, database_url: str, tmp_path: Path
) -> None:
    # Machines need not share the directory.
    for name in ("one", "other"):
        open_store(tmp_path / name, database_url, blobs_url).close()
    for url in (None, objects_server.url()):
        with pytest.raises(OptionError, match="the database goes with other files than those of"):
            open_store(tmp_path / "other", database_url, url)


def test_no_room_for_a_copy_is_no_reason_not_to_keep_a_blob(home: S3Home, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    (tmp_path / "cache" / SHA256[:2]).touch()
    blobs = home.open()
    blobs._cache = cache
    assert blobs.put(DATA) == SHA256 and home.found() == [SHA256]
    with pytest.raises(NotADirectoryError):
        blobs.path(SHA256)
