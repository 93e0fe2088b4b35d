"""Where blobs are kept, for tests of all kinds of stores alike."""

from __future__ import annotations

import os
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import boto3

from api.store.blobs import BlobStore, DirectoryBlobs
from api.store.cache import Cache
from api.store.s3 import S3Blobs

_AGE = timedelta(hours=2)
_OWN = {".lock", ".clock", ".identity"}


class Home(Protocol):
    """Where blobs are kept, with what only a test does to them."""

    rounds: int
    """How often a test may do what takes a while."""

    def open(self) -> BlobStore:
        """The store, as another process has it that opens it now."""

    def found(self) -> list[str]:
        """The SHA-256 of every file or object that a blob is in, sorted."""

    def age(self, *blobs: str) -> None:
        """Makes blobs as old as if they had been put two hours ago."""

    def spoil(self, sha256: str, data: bytes) -> None:
        """Puts other bytes in the place of a blob's."""


class DirectoryHome:
    """A directory."""

    rounds = 150

    def __init__(self, folder: Path) -> None:
        self._root = folder / "blobs"

    def open(self) -> DirectoryBlobs:
        """The store."""
        return DirectoryBlobs(self._root)

    def found(self) -> list[str]:
        """The names of its files."""
        return sorted({p.name for p in self._root.rglob("*") if p.is_file()} - _OWN)

    def age(self, *blobs: str) -> None:
        """Sets the times of files."""
        then = time.time() - _AGE.total_seconds()
        for sha256 in blobs:
            os.utime(self._file(sha256), (then, then))

    def spoil(self, sha256: str, data: bytes) -> None:
        """Writes into a file."""
        self._file(sha256).write_bytes(data)

    def _file(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256[2:4] / sha256


class S3Home:
    """A folder in an S3 store.

    No one can set the time of an object there: the answers of the store are changed.
    """

    rounds = 15

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, url
        # To read what a session knows of Amazon takes a while.
        self._session = boto3.Session()
        self._old: set[str] = set()
        self._own = self.open()
        _, _, bucket, inner = url.split("/")
        self._where = {"Bucket": bucket, "Prefix": f"{inner}/blobs/"}

    def open(self) -> S3Blobs:
        """The store, with an empty cache."""
        blobs = S3Blobs(self._url, Cache(self._folder / "caches" / uuid.uuid4().hex), self._session)
        blobs.client.meta.events.register("after-call.s3.ListObjectsV2", self._make_old)
        return blobs

    def found(self) -> list[str]:
        """What the keys of its objects start with."""
        return sorted(key.rpartition("/")[2].partition("-")[0] for key in self.objects())

    def age(self, *blobs: str) -> None:
        """From now on the store says so of the objects that are there."""
        self._old |= {key for sha256 in blobs for key in self.objects(sha256)}

    def spoil(self, sha256: str, data: bytes) -> None:
        """Writes an object again."""
        for key in self.objects(sha256):
            self._own.client.put_object(Bucket=self._where["Bucket"], Key=key, Body=data)

    def objects(self, sha256: str = "") -> list[str]:
        """The keys of a blob's objects, or of all."""
        where = {**self._where, "Prefix": self._where["Prefix"] + sha256}
        found = self._own.client.list_objects_v2(**where)
        return [each["Key"] for each in found.get("Contents", ())]

    def _make_old(self, parsed: dict[str, Any], **_: object) -> None:
        for each in parsed.get("Contents", ()):
            if each["Key"] in self._old:
                each["LastModified"] -= _AGE
