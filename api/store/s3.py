"""Blobs in an S3-compatible store, which machines reach that share no directory."""

from __future__ import annotations

import re
import secrets
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from io import BytesIO
from itertools import groupby, islice
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO, Final, TypeVar
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from api.store.blobs import FEW, LostBlobError, check_sha256, sha256_of
from api.store.cache import Cache
from api.store.database import UnreachableError
from planner.errors import OptionError

T = TypeVar("T")

_CONNECT_SECONDS: Final = 10
_CONNECTIONS: Final = 50
"""As many as there are threads that may ask at once."""
_BATCH: Final = 500
_ATTEMPTS: Final = 5
_KEY: Final = re.compile(r"(?P<sha256>[0-9a-f]{64})-[0-9a-f]{32}")
_NO_BLOB: Final = "0" * 64
_FAILED: Final = (BotoCoreError, Boto3Error, ClientError)
_CHANGED: Final = frozenset(("BadDigest", "XAmzContentSHA256Mismatch"))
_MISSING: Final = frozenset(("NoSuchKey", "404"))


@dataclass(frozen=True, order=True, slots=True)
class _Object:
    """An object of the store. The newest is the greatest; of two of one time the key decides."""

    modified: datetime
    key: str
    size: int


class S3Blobs:
    """Keeps each blob in an object of its own: ``blobs/SHA256-NUMBER`` in a bucket, or a folder.

    The store checks the SHA-256 of what it is sent; what is read comes through the ``cache``,
    where it is checked again. A copy in the cache is read without asking the store, even if the
    blob was deleted meanwhile.

    S3 has no locks, so nothing here needs any. Each put draws a key at random, which is never
    written again. So what a sweep saw under a key is what it deletes, however late: who puts the
    same bytes meanwhile, makes another object. Of several objects of one blob only those are
    deleted that are not the newest; who does it has seen a newer one. That one in turn goes only
    for a newer one still, or because it is older than a sweep's grace. So the newest of all stays,
    as long as a put promises. Who reads an object that goes just then looks for the newest again.
    Bytes that are known are sent all the same: that mends what was spoilt.

    At most 5 GB fit into an object that is written at once. Methods raise ``UnreachableError``
    where the store does not answer, or refuses, after the client's own attempts.
    """

    def __init__(self, url: str, cache: Cache, session: boto3.Session | None = None) -> None:
        """Opens the store at ``s3://bucket/folder``.

        Credentials, and the address of a store that is not Amazon's, are the session's; without
        one they come from where AWS's clients have them: ``AWS_ACCESS_KEY_ID``,
        ``AWS_ENDPOINT_URL``, and so on. Raises ``OptionError`` for a store that cannot be read and
        written to.
        """
        self._url, self._cache = url, cache
        self._bucket, self._folder = _parse(url)
        try:
            self.client: Any = (session or boto3.Session()).client(
                "s3",
                config=Config(connect_timeout=_CONNECT_SECONDS, max_pool_connections=_CONNECTIONS),
            )
            self.identity = self._identify()
            self._objects(_NO_BLOB)
        except (*_FAILED, ValueError) as error:
            raise OptionError(
                f"cannot keep files in {url} ({_reason(error)}): {_remedy(error)}"
            ) from error

    def put(self, source: bytes | Path) -> str:
        """Keeps bytes, or those of a file; returns their SHA-256 once the store has them whole."""
        sha256 = sha256_of(source)
        with self._answering():
            self._upload(source, sha256)
            self._tidy(sha256)
        # It is likely to be read next. The blob is kept, whether or not there is room for a copy.
        with suppress(OSError), _opened(source) as file:
            self._cache.add(sha256, partial(copyfileobj, file))
        return sha256

    def path(self, sha256: str) -> Path:
        """A file of the cache with the blob's bytes, to be read only."""
        return self._cache.find_whole(sha256) or self._fetch(sha256)

    def renew(self, sha256: str) -> Path:
        """A file of the cache with the blob's bytes, which are sent again."""
        path = self.path(sha256)
        self.put(path)
        return path

    def content(self, sha256: str) -> bytes | Path:
        """The blob's bytes, or a file of the cache, to be read only."""
        copy = self.place(sha256)
        if copy.stat().st_size > FEW:
            return self.path(sha256)
        data = copy.read_bytes()
        # A damaged copy is replaced.
        return data if sha256_of(data) == sha256 else self.path(sha256)

    def place(self, sha256: str) -> Path:
        """A file of the cache, to be read only and with care."""
        return self._cache.find(sha256) or self._fetch(sha256)

    def open(self, sha256: str) -> BinaryIO:
        """The blob, opened for reading."""
        return self.path(sha256).open("rb")

    def size(self, sha256: str) -> int:
        """The blob's size in bytes, in the store itself."""
        with self._answering():
            return self._newest(sha256).size

    def exists(self, sha256: str) -> bool:
        """Whether the blob is in the store itself."""
        with self._answering():
            return bool(self._objects(sha256))

    def all(self) -> Iterator[tuple[str, int]]:
        """The SHA-256 and the size of every blob."""
        with self._answering():
            for sha256, objects in self._by_blob():
                yield sha256, objects[-1].size

    def delete(self, sha256: str) -> None:
        """Deletes a blob now, whoever refers to it; other machines may still have copies."""
        self._cache.drop(sha256)
        with self._answering():
            self._remove(self._objects(sha256))

    def sweep(self, kept: Callable[[list[str]], Collection[str]], grace: timedelta) -> int:
        """Deletes blobs that are older than ``grace`` and not among the ``kept``."""
        deleted = 0
        with self._answering():
            latest = self._now() - grace
            for some in _batches(self._by_blob()):
                objects = dict(some)
                superseded = [each for found in objects.values() for each in found[:-1]]
                self._remove(each for each in superseded if each.modified < latest)
                old = {k: found[-1] for k, found in objects.items() if found[-1].modified < latest}
                unused = set(old).difference(kept(list(old))) if old else set()
                self._remove(old[sha256] for sha256 in unused)
                deleted += len(unused)
        return deleted

    def _identify(self) -> str:
        """Reads the identity from its object, which the first to come has written."""
        where = {"Bucket": self._bucket, "Key": f"{self._folder}identity"}
        for _ in range(_ATTEMPTS):
            try:
                # Sent every time: it shows as well that the store may be written to.
                self.client.put_object(**where, Body=uuid.uuid4().hex.encode(), IfNoneMatch="*")
                break
            except ClientError as error:
                if _code(error) == "PreconditionFailed":
                    break
                # Another process writes it just now.
                if _code(error) != "ConditionalRequestConflict":
                    raise
        found: bytes = self.client.get_object(**where)["Body"].read()
        return found.decode()

    def _upload(self, source: bytes | Path, sha256: str) -> None:
        checksum = b64encode(bytes.fromhex(sha256)).decode()
        try:
            with _opened(source) as body:
                self.client.put_object(
                    Bucket=self._bucket,
                    Key=self._new_key(sha256),
                    Body=body,
                    ChecksumSHA256=checksum,
                )
        except ClientError as error:
            if _code(error) in _CHANGED:
                raise ValueError(f"{source!r} changed while it was read") from error
            raise

    def _tidy(self, sha256: str) -> None:
        """Deletes the objects of a blob but the newest; what stays is the next sweep's."""
        with suppress(*_FAILED):
            self._remove(self._objects(sha256)[:-1])

    def _fetch(self, sha256: str) -> Path:
        """Copies a blob into the cache."""
        with self._answering():
            for _ in range(_ATTEMPTS):
                key = self._newest(sha256).key
                try:
                    return self._cache.add(
                        sha256, partial(self.client.download_fileobj, self._bucket, key)
                    )
                except ClientError as error:
                    # It was put again meanwhile, and this object has gone.
                    if _code(error) not in _MISSING:
                        raise
        raise LostBlobError(sha256, "missing")

    def _newest(self, sha256: str) -> _Object:
        objects = self._objects(sha256)
        if not objects:
            raise LostBlobError(sha256, "missing")
        return objects[-1]

    def _objects(self, sha256: str) -> list[_Object]:
        """The objects of a blob, the newest last."""
        check_sha256(sha256)
        return sorted(self._listed(f"{sha256}-"))

    def _by_blob(self) -> Iterator[tuple[str, list[_Object]]]:
        """Every blob with its objects, the newest last."""
        found = ((_KEY.fullmatch(each.key[-97:]), each) for each in self._listed(""))
        ours = ((match["sha256"], each) for match, each in found if match is not None)
        for sha256, objects in groupby(ours, key=lambda pair: pair[0]):
            yield sha256, sorted(each for _, each in objects)

    def _listed(self, start: str) -> Iterator[_Object]:
        """The objects of blobs whose names start like this, in the order of their names."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{self._folder}blobs/{start}"
        )
        for page in pages:
            for each in page.get("Contents", ()):
                yield _Object(each["LastModified"], each["Key"], each["Size"])

    def _remove(self, objects: Iterable[_Object]) -> None:
        for some in _batches(objects):
            keys = [{"Key": each.key} for each in some]
            answer = self.client.delete_objects(
                Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True}
            )
            for error in answer.get("Errors", ()):
                raise ClientError({"Error": error}, "DeleteObjects")

    def _new_key(self, sha256: str) -> str:
        # Times of objects are in seconds: of those of one second the latest shall be the newest.
        number = f"{time.time_ns():016x}{secrets.token_hex(8)}"
        return f"{self._folder}blobs/{sha256}-{number}"

    def _now(self) -> datetime:
        """The time by the store's clock."""
        answer = self.client.list_objects_v2(
            Bucket=self._bucket, Prefix=f"{self._folder}blobs/", MaxKeys=1
        )
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turns the client's errors into one that says that the store did not do its work."""
        try:
            yield
        except _FAILED as error:
            raise UnreachableError(
                f"the store {self._url} does not do its work ({_reason(error, short=True)}): "
                "try again"
            ) from error


def _parse(url: str) -> tuple[str, str]:
    """The bucket of a URL, and the folder in it, as keys start with it."""
    parts = urlsplit(url)
    is_plain = parts.netloc == parts.hostname and not parts.query and not parts.fragment
    if parts.scheme != "s3" or not is_plain:
        # The text may hold a password.
        raise OptionError(
            "the address of the files cannot be read: write s3://bucket or s3://bucket/folder, and "
            "set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    folder = parts.path.strip("/")
    return parts.netloc, f"{folder}/" if folder else ""


def _code(error: ClientError) -> str:
    code: str = error.response.get("Error", {}).get("Code", "")
    return code


def _reason(error: Exception, *, short: bool = False) -> str:
    """What went wrong: whole for who runs the service, short for who uses it."""
    if isinstance(error, ClientError):
        said = error.response.get("Error", {}).get("Message", "")
        return _code(error) if short or not said else f"{_code(error)}: {said.rstrip('.')}"
    return type(error).__name__ if short else str(error).rstrip(".")


def _remedy(error: Exception) -> str:
    """What whoever runs the service can do about an error at its start."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if isinstance(error, ClientError):
        if _code(error) == "NoSuchBucket":
            return "make the bucket, or name another"
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if 400 <= status < 500:
            return (
                "see that AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are right, and that they may "
                "list, read, write and delete there"
            )
    return "see that the store runs, and that AWS_ENDPOINT_URL is its address"


def _batches(all_: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(all_)
    while some := list(islice(rest, _BATCH)):
        yield some


def _opened(source: bytes | Path) -> BinaryIO:
    return BytesIO(source) if isinstance(source, bytes) else source.open("rb")
