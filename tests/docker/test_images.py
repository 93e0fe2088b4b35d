"""The image and the services of the compose file, as far as they can be told without an engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from api.cli import main
from tests.install.project import PACKAGES, PROJECT
from tests.paths import ROOT

DOCKERFILE = ROOT / "docker" / "Dockerfile"
SCRIPTS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """What Docker Compose makes of its file."""
    file = ROOT / "docker" / "compose.yaml"
    command: list[str | Path] = [
        SCRIPTS / "docker-compose",
        "-f",
        file,
        "config",
        "--format",
        "json",
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    services: dict[str, Any] = json.loads(found.stdout)["services"]
    return services


def _instructions(name: str) -> list[str]:
    """The arguments of each instruction of a name in the Dockerfile, continued lines as one."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)


def _check_command(arguments: list[str]) -> None:
    """Asserts that the command line takes the arguments, without running them."""
    context = click.Context(main)
    name, command, rest = main.resolve_command(context, arguments)
    assert command is not None and name is not None
    command.make_context(name, rest, parent=context)


def test_there_are_a_database_a_server_and_two_workers(services: dict[str, Any]) -> None:
    assert services.keys() == {"database", "server", "worker"}
    assert services["worker"]["deploy"]["replicas"] == 2
    assert services["server"]["ports"][0]["host_ip"] == "127.0.0.1"
    assert "ports" not in services["database"]
    for name in ("server", "worker"):
        service = services[name]
        _check_command(service["command"])
        assert service["depends_on"]["database"]["condition"] == "service_healthy"
        # Every one must reach the same files.
        assert [(v["source"], v["target"]) for v in service["volumes"]] == [("data", "/data")]
        build = service["build"]
        assert (Path(build["context"]) / build["dockerfile"]).samefile(DOCKERFILE)
    assert services["server"]["command"][0] == "serve"
    assert services["worker"]["command"][0] == "worker"


def test_the_services_reach_the_database(services: dict[str, Any]) -> None:
    known = services["database"]["environment"]
    parts = tuple(known[f"POSTGRES_{name}"] for name in ("USER", "PASSWORD", "DB"))
    url = "postgresql://{}:{}@database/{}".format(*parts)
    options = {
        option.envvar
        for command in main.commands.values()
        for option in command.params
        if isinstance(option, click.Option)
    }
    for name in ("server", "worker"):
        environment = services[name]["environment"]
        assert environment == {"LAYOUT_PLANNER_DATABASE_URL": url}
        assert environment.keys() <= options
    (variables,) = (v for v in _instructions("ENV") if "LAYOUT_PLANNER" in v)
    assert variables.split("=") == ["LAYOUT_PLANNER_DATA_DIR", "/data"]


def test_the_dockerfile_has_nothing_to_mend() -> None:
    subprocess.run([SCRIPTS / "hadolint", DOCKERFILE], check=True)
    _check_command(json.loads(_instructions("CMD")[0]))
    assert json.loads(_instructions("ENTRYPOINT")[0]) == list(PROJECT["scripts"])


def test_the_image_gets_every_package_and_its_context_nothing_else() -> None:
    copies = (line.split()[:-1] for line in _instructions("COPY") if "--from" not in line)
    copied = {source for sources in copies for source in sources}
    texts = {"pyproject.toml", PROJECT["readme"], *PROJECT.get("license-files", ())}
    assert copied == {*PACKAGES, *texts}
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    patterns = [line for line in ignored if not line.startswith("#")]
    assert patterns[0] == "*"
    assert {pattern[1:] for pattern in patterns if pattern.startswith("!")} == copied


@pytest.mark.server
def test_the_health_check_tells_a_server_that_runs_from_one_that_does_not(tmp_path: Path) -> None:
    (line,) = _instructions("HEALTHCHECK")
    python, *arguments = json.loads(line.partition("CMD ")[2])
    assert python == "python"
    command = json.loads(_instructions("CMD")[0])
    port = command[command.index("--port") + 1]
    assert f":{port}/" in arguments[-1]
    serve = ("-m", "api.cli", "serve", "--port", "0", "--data-dir", str(tmp_path))
    with subprocess.Popen([sys.executable, *serve], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[-1]
            arguments[-1] = arguments[-1].replace(f"http://127.0.0.1:{port}", address)
            # A proxy is for others than this machine.
            environment = {"http_proxy": "http://127.0.0.1:9"}
            check = [sys.executable, *arguments]
            assert subprocess.run(check, env=environment, check=False).returncode == 0
        finally:
            server.terminate()
        server.wait(60)
        gone = subprocess.run(check, env=environment, stderr=subprocess.DEVNULL, check=False)
        assert gone.returncode == 1
