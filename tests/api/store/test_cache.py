from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from api.store.blobs import LostBlobError
from api.store.cache import Cache


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _add(cache: Cache, data: bytes) -> str:
    cache.add(_sha256(data), lambda file: file.write(data))
    return _sha256(data)


def _files(root: Path) -> set[str]:
    return {path.name for path in root.rglob("*") if path.is_file()} - {".lock"}


def test_what_is_added_is_found_by_all(tmp_path: Path) -> None:
    sha256 = _add(Cache(tmp_path), b"data")
    for cache in (Cache(tmp_path), Cache(tmp_path)):
        for found in (cache.find(sha256), cache.find_whole(sha256)):
            assert found is not None and found.read_bytes() == b"data"
    cache.drop(sha256)
    assert cache.find(sha256) is cache.find_whole(sha256) is None


def test_a_damaged_copy_is_not_found_whole_and_is_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    sha256 = _add(cache, b"data")
    found = cache.find(sha256)
    assert found is not None
    found.write_bytes(b"dat")
    assert cache.find_whole(sha256) is None
    assert _files(tmp_path) == set()


def test_what_is_half_written_or_other_bytes_is_no_copy(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fail(file: BinaryIO) -> None:
        file.write(b"da")
        raise ConnectionError

    with pytest.raises(LostBlobError, match="is damaged"):
        cache.add(_sha256(b"data"), lambda file: file.write(b"dat"))
    with pytest.raises(ConnectionError):
        cache.add(_sha256(b"data"), fail)
    assert _files(tmp_path) == set()


def test_what_was_not_asked_for_longest_goes(tmp_path: Path) -> None:
    cache, other = Cache(tmp_path, 350), Cache(tmp_path, 350)
    first, second, third = (_add(cache, bytes([n]) * 100) for n in range(3))
    (tmp_path / "unfinished" / "killed").touch()
    for path in tmp_path.rglob("*"):
        os.utime(path, (time.time() - 90_000,) * 2)
    assert other.find(first) is not None
    fourth = _add(cache, b"4" * 100)
    assert len(_files(tmp_path)) == 3 and {first, fourth} <= _files(tmp_path)
    assert {second, third} & _files(tmp_path)


def test_what_is_in_use_stays_even_if_it_is_too_much(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 150)
    kept = {_add(cache, bytes([n]) * 100) for n in range(3)}
    assert _files(tmp_path) == kept
