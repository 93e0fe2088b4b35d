"""Planning as an image's user, with what a container lets it: the jail is Landlock and seccomp."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.api.jobs.plant import wait
from tests.docker.container import USER, Container, container
from tests.paths import ROOT

pytestmark = [
    pytest.mark.server,
    pytest.mark.lowering,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0 or shutil.which("setpriv") is None,
        reason="it takes root on Linux to make what a container is",
    ),
]


@pytest.fixture
def contained() -> Iterator[Container]:
    with container() as found:
        yield found


def test_the_service_plans_an_exported_program(contained: Container) -> None:
    program = (ROOT / "api" / "planning" / "warm.pt2").read_bytes()
    serve = ("-P", "-m", "api.cli", "serve", "--port", "0", "--data-dir", str(contained.data / "d"))
    log = contained.data / "log"
    with (
        log.open("w+") as errors,
        subprocess.Popen(
            contained.command(sys.executable, *serve, "--workers", "0"),
            env=contained.environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as server,
    ):
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[-1]
            answer = httpx.post(f"{address}/plan", content=program, timeout=600)
            assert answer.status_code == 200, answer.text
            # It may still plan a program of its own.
            wait(lambda: httpx.get(f"{address}/readyz").status_code == 200)
        finally:
            server.kill()  # with all that is inside
    said = log.read_text()
    assert "bubblewrap is not installed or may not make namespaces" in said
    assert "Landlock" not in said and "libseccomp" not in said
    assert (contained.data / "d").stat().st_uid == USER


def test_code_in_its_jail_reaches_nothing(contained: Container) -> None:
    """The payload again, run by this user: it could read what is this user's without a jail."""
    tests = (
        "tests/api/jail/test_reach.py::test_code_in_the_jail_reaches_nothing[without bubblewrap]"
    )
    options = ("-q", "-p", "no:cacheprovider", "--basetemp", str(contained.data / "pytest"))
    ended = subprocess.run(
        contained.command(sys.executable, "-m", "pytest", *options, tests),
        env=contained.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 passed" in ended.stdout
