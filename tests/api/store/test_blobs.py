from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.store.blobs import BlobStore, DirectoryBlobs, LostBlobError
from tests.api.store.homes import DirectoryHome, Home, S3Home

GRACE = timedelta(hours=1)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _none(blobs: list[str]) -> list[str]:
    return []


@pytest.fixture(params=["directory", "s3"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """Where blobs are kept: a test that takes it runs on a directory and on an S3 store."""
    if request.param == "directory":
        return DirectoryHome(tmp_path)
    return S3Home(tmp_path, request.getfixturevalue("blobs_url"))


@pytest.fixture
def blobs(home: Home) -> BlobStore:
    return home.open()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(data=st.binary(max_size=300))
def test_what_is_put_is_found_by_its_sha256(home: Home, data: bytes) -> None:
    blobs, other = home.open(), home.open()
    sha256 = _sha256(data)
    assert blobs.put(data) == sha256
    # Whatever this one remembers, another has to find.
    for each in (blobs, other):
        assert each.exists(sha256)
        assert each.size(sha256) == len(data)
        assert each.path(sha256).read_bytes() == data
        assert each.content(sha256) == data
        assert each.place(sha256).read_bytes() == data
        with each.open(sha256) as file:
            assert file.read() == data
    blobs.delete(sha256)
    assert not blobs.exists(sha256) and not other.exists(sha256)


def test_a_file_is_put_and_stays(home: Home, blobs: BlobStore, tmp_path: Path) -> None:
    data = bytes(range(256)) * 100_000
    (tmp_path / "file").write_bytes(data)
    sha256 = blobs.put(tmp_path / "file")
    assert sha256 == _sha256(data)
    assert (tmp_path / "file").read_bytes() == data
    assert home.open().path(sha256).read_bytes() == blobs.path(sha256).read_bytes() == data


def test_a_directory_has_a_file_for_each_blob(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path / "blobs")
    sha256 = blobs.put(b"data")
    assert blobs.path(sha256) == tmp_path / "blobs" / sha256[:2] / sha256[2:4] / sha256


def test_puts_of_the_same_bytes_at_once_leave_one(home: Home, blobs: BlobStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: blobs.put(b"same" * 100_000), range(8)))
    assert found == {_sha256(b"same" * 100_000)}
    assert home.found() == list(found)


def test_a_blob_that_was_spoilt_is_not_read_and_is_put_again(home: Home) -> None:
    sha256 = home.open().put(b"data")
    home.spoil(sha256, b"dat")
    for call in (home.open().path, home.open().open, home.open().content):
        with pytest.raises(LostBlobError, match="is damaged: hand in the program again"):
            call(sha256)
    assert home.open().put(b"data") == sha256
    assert home.open().path(sha256).read_bytes() == b"data"
    assert home.found() == [sha256]


@pytest.mark.parametrize(
    "sha256", ["", "..", "a" * 63, "A" * 64, "a" * 64 + "\n", "../" * 21 + "a"]
)
def test_only_a_sha256_becomes_part_of_a_path(blobs: BlobStore, sha256: str) -> None:
    calls: list[Callable[[str], object]] = [
        *(blobs.path, blobs.content, blobs.place, blobs.open, blobs.size),
        *(blobs.exists, blobs.delete),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="is not a SHA-256"):
            call(sha256)


def test_a_blob_that_is_not_there(blobs: BlobStore) -> None:
    calls: list[Callable[[str], object]] = [
        *(blobs.path, blobs.content, blobs.place, blobs.open, blobs.size)
    ]
    for call in calls:
        with pytest.raises(FileNotFoundError):
            call("a" * 64)
    blobs.delete("a" * 64)


def test_a_home_has_one_identity(home: Home, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        (identity,) = set(threads.map(lambda _: home.open().identity, range(8)))
    assert len(identity) == 32
    assert DirectoryBlobs(tmp_path / "other").identity != identity


def test_a_directory_s_identity_leaves_nothing_unfinished(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: DirectoryBlobs(tmp_path / "shared"), range(8)))
    assert list((tmp_path / "shared" / "unfinished").iterdir()) == []


def test_deletes(blobs: BlobStore) -> None:
    sha256 = blobs.put(b"data")
    blobs.delete(sha256)
    assert not blobs.exists(sha256)
    with pytest.raises(FileNotFoundError):
        blobs.path(sha256)


def test_a_sweep_takes_what_is_old_and_not_kept(home: Home, blobs: BlobStore) -> None:
    old, kept, new = (blobs.put(data) for data in (b"old", b"kept", b"new"))
    home.age(old, kept)
    assert blobs.sweep(lambda some: [kept, "other"], GRACE) == 1
    assert home.found() == sorted((kept, new))


def test_a_sweep_takes_what_puts_to_a_directory_left(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path / "blobs")
    half, fresh = (tmp_path / "blobs" / "unfinished" / name for name in ("half", "fresh"))
    for leftover in (half, fresh):
        leftover.touch()
    then = time.time() - 7200
    os.utime(half, (then, then))
    assert blobs.sweep(_none, GRACE) == 0
    assert not half.exists() and fresh.exists()


def test_a_sweep_spares_what_is_put_again(home: Home, blobs: BlobStore) -> None:
    sha256 = blobs.put(b"data")
    home.age(sha256)
    blobs.put(blobs.path(sha256))
    assert blobs.sweep(_none, GRACE) == 0
    assert home.found() == [sha256]


def test_a_sweep_spares_what_is_put_again_after_it_looked(home: Home, blobs: BlobStore) -> None:
    sha256 = blobs.put(b"data")
    home.age(sha256)

    def put_again(some: list[str]) -> list[str]:
        assert some == [sha256]
        blobs.put(b"data")
        return []

    blobs.sweep(put_again, GRACE)
    assert home.open().path(sha256).read_bytes() == b"data"
    assert blobs.sweep(_none, GRACE) == 0


def test_a_put_beside_sweeps_never_loses_its_blob(home: Home, blobs: BlobStore) -> None:
    stop = threading.Event()
    swept = 0

    def sweep() -> None:
        nonlocal swept
        while not stop.is_set():
            swept += blobs.sweep(_none, GRACE)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        done = 0
        # On a busy machine sweeps come seldom: on, until one has met a blob.
        while done < home.rounds or not swept:
            sha256 = blobs.put(b"data")
            assert blobs.exists(sha256)
            home.age(sha256)
            done += 1
            assert done < 1000 * home.rounds
    finally:
        stop.set()
        sweeper.join()
