"""What a program tries that runs code in a planning process. It knows only Python's own library.

It is sent as text: ``TRIES`` has, by name, what was tried, and the answer goes into every file that
is open. What fails is answered by its error.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_PTRACE_SEIZE = 0x4206


def _call(name: str, *args: Any) -> int:
    found: int = getattr(_LIBC, name)(*args)
    if found == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def _connect(family: int, kind: int, address: Any) -> None:
    with socket.socket(family, kind) as connection:
        connection.settimeout(5)
        connection.connect(address)
        connection.send(b"here")


def _listen() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()


def _fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _open_files() -> list[int]:
    """The numbers of the files that are open, but for what is no file of a disk."""
    found = []
    for descriptor in range(256):
        try:
            status = os.fstat(descriptor)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            found.append(status.st_ino)
    return sorted(found)


def tries(told: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """What is tried, given what there is to reach."""
    service, zygote = told["service"], os.getppid()
    return {
        "read a secret": lambda: Path(told["secret"]).read_text(),
        "list its folder": lambda: list(Path(told["secret"]).parent.iterdir()),
        "read the users": lambda: Path("/etc/passwd").read_text(),
        "list the users' folders": lambda: list(Path("/root").iterdir()),
        "read the service's variables": lambda: Path(f"/proc/{service}/environ").read_bytes(),
        "read the service's memory": lambda: os.open(f"/proc/{service}/mem", os.O_RDONLY),
        "read the first process's variables": lambda: Path("/proc/1/environ").read_bytes(),
        "see the service": lambda: Path(f"/proc/{service}/exe").stat(),
        "write beside the secret": lambda: Path(told["secret"] + ".new").write_text("mine"),
        "change the secret's mode": lambda: Path(told["secret"]).chmod(0o666),
        "change the secret's time": lambda: os.utime(told["secret"]),
        "cut the secret": lambda: os.truncate(told["secret"], 0),
        "change the code's mode": lambda: Path(told["code"], "__init__.py").chmod(0o666),
        "write to /tmp": lambda: Path("/tmp/layout-planner-mine").write_text("mine"),
        "write to /dev/shm": lambda: Path("/dev/shm/layout-planner-mine").write_text("mine"),
        "write into the code": lambda: Path(told["code"], "mine.py").write_text("mine"),
        "change the code": lambda: Path(told["code"], "__init__.py").open("a").close(),
        "connect to the service": lambda: _connect(
            socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", told["port"])
        ),
        "send to the network": lambda: _connect(
            socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", told["port"])
        ),
        "connect to a socket's file": lambda: _connect(
            socket.AF_UNIX, socket.SOCK_STREAM, told["socket"]
        ),
        "connect to a socket's name": lambda: _connect(
            socket.AF_UNIX, socket.SOCK_STREAM, "\0" + told["name"]
        ),
        "listen": _listen,
        "fork": _fork,
        "run a program": lambda: subprocess.run(["/bin/true"], check=True),
        "signal the service": lambda: os.kill(service, signal.SIGCONT),
        "signal the zygote": lambda: os.kill(zygote, signal.SIGCONT),
        "trace the zygote": lambda: _call("ptrace", _PTRACE_SEIZE, zygote, 0, 0),
        "open the zygote's memory": lambda: os.open(f"/proc/{zygote}/mem", os.O_RDWR),
        "mount": lambda: _call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "make namespaces": lambda: _call("unshare", 0x10000000 | 0x00020000),
        "become root": lambda: os.setuid(0) if os.getuid() else os.chown("/dev/null", 1, 1),
        "change its root": lambda: os.chroot("/proc"),
        "load a program into the kernel": lambda: _call("syscall", 321, 0, None, 0),
        "raise its limits": lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)),
        "take more memory": lambda: len(bytearray(told["memory"])),
        "start a thread": lambda: threading.Thread(target=int).start(),
        "read the code": lambda: len(Path(told["code"], "__init__.py").read_bytes()) > 0,
        "what is open": _open_files,
        "variables": lambda: sorted(os.environ),
    }


def answer(told: dict[str, Any]) -> None:
    """Tries all, and writes what came of it."""
    found = {}
    for name, act in tries(told).items():
        try:
            found[name] = ["done", str(act())]
        except BaseException as error:
            found[name] = ["failed", f"{type(error).__name__}: {error}"]
    for descriptor in range(3, 64):
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.pwrite(descriptor, json.dumps(found).encode(), 0)
        except OSError:
            continue
