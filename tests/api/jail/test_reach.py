"""How far code gets that runs in a planning process: shown by running it there."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import api
from api.jail.jail import Jail
from api.jail.limits import Limits
from api.planning.pool import Pool
from api.planning.process import CrashError, OvertimeError, ProcessError
from api.planning.work import PlanWork
from api.store.files import PlanFiles
from planner.errors import PlannerError
from planner.options import make_options
from tests.api.jail import payload
from tests.api.planning.processes import planning_pids
from tests.planner.files.vetting.hostile import Program
from tests.planner.programs import exported

pytestmark = [pytest.mark.server, pytest.mark.lowering]

_MEMORY = 2**30
_HERE = Jail.of_machine()

_OUTSIDE = (
    *("read a secret", "list its folder", "read the users", "read the service's variables"),
    *("read the service's memory", "see the service"),
    *("write beside the secret", "write into the code", "change the code"),
    *("change the secret's mode", "change the secret's time", "cut the secret"),
    "change the code's mode",
    "connect to the service",
    *("connect to a socket's file", "connect to a socket's name", "signal the service"),
    *("mount", "become root", "load a program into the kernel", "raise its limits"),
    *("take more memory", "trace the zygote", "open the zygote's memory"),
)
"""What no jail lets it do."""
_WITHIN = (
    *("fork", "run a program", "listen", "send to the network", "signal the zygote"),
    *("make namespaces", "change its root", "write to /tmp", "write to /dev/shm"),
    *("list the users' folders", "read the first process's variables"),
)
"""What bubblewrap alone lets it do, to nothing but what is inside."""
_ALLOWED = ("start a thread", "read the code")


@dataclass
class World:
    """What there is to reach, and whether it was."""

    told: dict[str, Any]
    servers: list[socket.socket]

    def is_reached(self) -> bool:
        """Whether anything came in."""
        for server in self.servers:
            with suppress(BlockingIOError):
                if server.type == socket.SOCK_DGRAM:
                    server.recv(16)
                else:
                    server.accept()
                return True
        return False


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A secret of the service, and its sockets."""
    secret, path, name = tmp_path / "secret", str(tmp_path / "socket"), f"layout-{os.getpid()}"
    secret.write_text("a secret")
    tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
    tcp.bind(("127.0.0.1", 0))
    udp.bind(tcp.getsockname())
    file, named = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    file.bind(path)
    named.bind("\0" + name)
    servers = [tcp, udp, file, named]
    for server in servers:
        server.setblocking(False)
        if server.type == socket.SOCK_STREAM:
            server.listen()
    told = {
        "secret": str(secret),
        "service": os.getpid(),
        "code": api.__path__[0],
        "port": tcp.getsockname()[1],
        "socket": path,
        "name": name,
        "memory": 2 * _MEMORY,
    }
    yield World(told, servers)
    for server in servers:
        server.close()


def _hostile(text: str) -> bytes:
    """An exported program that runs this Python when torch loads it."""
    # In a namespace of its own, and without what a size may not have in it.
    packed = base64.b64encode(text.encode()).decode()
    decoded = f"__import__('base64').b64decode('{packed}')"
    program = Program.of(exported("mixed"))
    sizes = next(iter(program.graph["tensor_values"].values()))["sizes"]
    run = f"__import__('builtins').exec({decoded}, {{'__name__': 'payload'}})"
    sizes[0] = {"as_expr": {"expr_str": run, "hint": None}}
    return program.data()


def _work(text: str, folder: Path) -> PlanWork:
    """Work on such a program, where nothing vets it."""
    source, files = folder / "source", PlanFiles.within(folder / "files")
    files.graph.parent.mkdir()
    source.write_bytes(_hostile(text))
    return PlanWork(source, "evil.pt2", make_options("bytes", trust=True), files)


def _reached(jail: Jail, world: World, folder: Path) -> dict[str, tuple[str, str]]:
    """What the payload says that it could do."""
    work = _work(Path(payload.__file__).read_text() + f"\nanswer({world.told!r})\n", folder)
    pool = Pool(1, 600, jail, Limits(_MEMORY, 600))
    with suppress(PlannerError, ProcessError):
        asyncio.run(pool.run(work))
    found: dict[str, tuple[str, str]] = json.loads(work.files.graph.read_bytes())
    return found


def _done(found: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {name: text for name, (how, text) in found.items() if how == "done"}


@pytest.mark.parametrize(
    "jail",
    [
        pytest.param(_HERE, id="all of it"),
        pytest.param(Jail(None, _HERE.landlock, _HERE.seccomp), id="without bubblewrap"),
    ],
)
def test_code_in_the_jail_reaches_nothing(jail: Jail, world: World, tmp_path: Path) -> None:
    assert jail.is_closed
    found = _reached(jail, world, tmp_path)
    done = _done(found)
    print(f"{len(found) - len(done)} of {len(found)} tries failed, in {jail}")
    for name in (*_OUTSIDE, *_WITHIN):
        assert name not in done, (name, done[name])
    for name in _ALLOWED:
        assert name in done, found[name]
    assert not world.is_reached()
    work = (tmp_path / "source", *PlanFiles.within(tmp_path / "files").all())
    assert json.loads(done["what is open"]) == sorted(path.stat().st_ino for path in work)
    assert not {"LAYOUT_PLANNER_DATABASE_URL", "PGPASSWORD"} & set(done["variables"].split("'"))


@pytest.mark.skipif(_HERE.bubblewrap is None, reason="bubblewrap is not here, or not allowed")
def test_bubblewrap_alone_leaves_it_what_is_inside(world: World, tmp_path: Path) -> None:
    found = _reached(Jail(_HERE.bubblewrap), world, tmp_path)
    done = _done(found)
    for name in _OUTSIDE:
        assert name not in done, (name, done[name])
    assert not world.is_reached()
    assert not Path("/tmp/layout-planner-mine").exists()


def test_without_a_jail_it_reaches_all(world: World, tmp_path: Path) -> None:
    """So that the others would fail if nothing was tried."""
    done = _done(_reached(Jail(), world, tmp_path))
    Path("/tmp/layout-planner-mine").unlink()
    Path("/dev/shm/layout-planner-mine").unlink()
    assert done["read a secret"] == "a secret"
    assert world.is_reached()
    for name in ("connect to the service", "connect to a socket's name", "fork", "run a program"):
        assert name in done
    (Path(world.told["code"]) / "mine.py").unlink()


_TALK = """
import os, stat, time
for descriptor in range(3, 64):
    try:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        continue
    if is_socket:
        said, sent = {said!r} * {times}, 0
        while sent < len(said):
            try:
                sent += os.write(descriptor, said[sent:])
            except BlockingIOError:
                time.sleep(0.01)
            except BrokenPipeError:
                break
while True:
    time.sleep(1)
"""


@pytest.mark.parametrize(
    ("said", "times", "error"),
    [
        pytest.param(b'{"status":0}\n', 1, OvertimeError, id="that it has ended"),
        pytest.param(b'{"status":99999}\n', 1, CrashError, id="a status that there is not"),
        pytest.param(b"nonsense\n", 1, CrashError, id="nonsense"),
        pytest.param(b"x", 200_000, CrashError, id="a line without an end"),
        pytest.param(b'{"stage":"x"}\n', 20_000, CrashError, id="stages without an end"),
    ],
)
def test_whatever_it_says_it_is_ended_and_nothing_is_left(
    tmp_path: Path, said: bytes, times: int, error: type[ProcessError]
) -> None:
    work = _work(_TALK.format(said=said, times=times), tmp_path)
    pool = Pool(1, 10, _HERE, Limits(_MEMORY, 600))
    with pytest.raises(error):
        asyncio.run(pool.run(work))
    assert not planning_pids()


def test_one_that_says_that_it_is_done_is_ended_then(tmp_path: Path) -> None:
    pool = Pool(1, 600, _HERE, Limits(_MEMORY, 600))

    async def run(name: str, said: bytes) -> None:
        (tmp_path / name).mkdir()
        await pool.run(_work(_TALK.format(said=said, times=1), tmp_path / name))

    async def both() -> None:
        await run("done", b'{"done":true}\n')
        # It is counted as long as it is there.
        with pytest.raises(CrashError):
            await run("next", b"nonsense\n")
        assert not planning_pids()

    asyncio.run(both())
