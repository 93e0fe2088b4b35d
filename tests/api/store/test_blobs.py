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
from hypothesis import given
from hypothesis import strategies as st

from api.store.blobs import DirectoryBlobs

GRACE = timedelta(hours=1)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _age(path: Path, seconds: float = 7200) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def _none(blobs: list[str]) -> list[str]:
    return []


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobs:
    return DirectoryBlobs(tmp_path / "blobs")


def _files(blobs: DirectoryBlobs, root: Path) -> set[str]:
    return {path.name for path in (root / "blobs").rglob("*") if path.is_file()} - {
        ".lock",
        ".clock",
        ".identity",
    }


@given(data=st.binary(max_size=300))
def test_what_is_put_is_found_by_its_sha256(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    blobs = DirectoryBlobs(tmp_path_factory.mktemp("store"))
    assert not blobs.exists(_sha256(data))
    assert blobs.put(data) == _sha256(data)
    assert blobs.exists(_sha256(data))
    assert blobs.size(_sha256(data)) == len(data)
    assert blobs.path(_sha256(data)).read_bytes() == data
    with blobs.open(_sha256(data)) as file:
        assert file.read() == data


def test_a_file_is_put_and_stays(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(data)
    sha256 = blobs.put(tmp_path / "file")
    assert sha256 == _sha256(data)
    assert blobs.path(sha256) == tmp_path / "blobs" / sha256[:2] / sha256[2:4] / sha256
    assert (tmp_path / "file").read_bytes() == blobs.path(sha256).read_bytes() == data


def test_puts_of_the_same_bytes_at_once_leave_one_file(
    blobs: DirectoryBlobs, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: blobs.put(b"same" * 100_000), range(8)))
    assert found == {_sha256(b"same" * 100_000)}
    assert _files(blobs, tmp_path) == found


def test_a_blob_that_a_disk_has_spoilt_is_put_again(blobs: DirectoryBlobs) -> None:
    path = blobs.path(blobs.put(b"data"))
    path.write_bytes(b"dat")
    assert blobs.put(b"data") == path.name
    assert path.read_bytes() == b"data"


@pytest.mark.parametrize(
    "sha256", ["", "..", "a" * 63, "A" * 64, "a" * 64 + "\n", "../" * 21 + "a"]
)
def test_only_a_sha256_becomes_part_of_a_path(blobs: DirectoryBlobs, sha256: str) -> None:
    calls: list[Callable[[str], object]] = [
        *(blobs.path, blobs.open, blobs.size, blobs.exists, blobs.delete)
    ]
    for call in calls:
        with pytest.raises(ValueError, match="is not a SHA-256"):
            call(sha256)


def test_a_blob_that_is_not_there(blobs: DirectoryBlobs) -> None:
    for call in (blobs.path, blobs.open, blobs.size):
        with pytest.raises(FileNotFoundError):
            call("a" * 64)
    blobs.delete("a" * 64)


def test_a_directory_has_one_identity(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        stores = threads.map(lambda _: DirectoryBlobs(tmp_path / "shared"), range(8))
        (identity,) = {store.identity for store in stores}
    assert len(identity) == 32
    assert DirectoryBlobs(tmp_path / "other").identity != identity
    assert list((tmp_path / "shared" / "unfinished").iterdir()) == []


def test_deletes(blobs: DirectoryBlobs) -> None:
    sha256 = blobs.put(b"data")
    blobs.delete(sha256)
    assert not blobs.exists(sha256)


def test_a_sweep_takes_what_is_old_and_not_kept(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    old, kept, new = (blobs.put(data) for data in (b"old", b"kept", b"new"))
    for sha256 in (old, kept):
        _age(blobs.path(sha256))
    half, fresh = (tmp_path / "blobs" / "unfinished" / name for name in ("half", "fresh"))
    for leftover in (half, fresh):
        leftover.touch()
    _age(half)
    assert blobs.sweep(lambda some: [kept, "other"], GRACE) == 1
    assert _files(blobs, tmp_path) == {kept, new, "fresh"}


def test_a_sweep_spares_what_is_put_again_after_it_looked(blobs: DirectoryBlobs) -> None:
    sha256 = blobs.put(b"data")
    _age(blobs.path(sha256))

    def put_again(some: list[str]) -> list[str]:
        assert some == [sha256]
        blobs.put(b"data")
        return []

    assert blobs.sweep(put_again, GRACE) == 0
    assert blobs.path(sha256).read_bytes() == b"data"


def test_a_put_beside_sweeps_never_loses_its_blob(blobs: DirectoryBlobs) -> None:
    stop = threading.Event()
    swept = 0

    def sweep() -> None:
        nonlocal swept
        while not stop.is_set():
            swept += blobs.sweep(_none, GRACE)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for _ in range(150):
            sha256 = blobs.put(b"data")
            assert blobs.exists(sha256)
            _age(blobs.path(sha256))
    finally:
        stop.set()
        sweeper.join()
    assert swept
