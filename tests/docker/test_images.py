"""The image and the services of the compose file, as far as they can be told without an engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from api.cli import main
from api.cli.jobs import worker
from api.cli.service import serve
from tests.install.project import PACKAGES, PROJECT
from tests.paths import ROOT

DOCKERFILE = ROOT / "docker" / "Dockerfile"
SCRIPTS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """What Docker Compose makes of its file."""
    services: dict[str, Any] = _compose()["services"]
    return services


@cache
def _compose() -> dict[str, Any]:
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
    known: dict[str, Any] = json.loads(found.stdout)
    return known


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
    url = "postgresql://{}@database/{}".format(*(known[f"POSTGRES_{n}"] for n in ("USER", "DB")))
    file = known["POSTGRES_PASSWORD_FILE"]
    options = {
        option.envvar
        for command in (serve, worker)
        for option in command.params
        if isinstance(option, click.Option)
    }
    for name in ("server", "worker"):
        environment = services[name]["environment"]
        assert environment == {
            "LAYOUT_PLANNER_DATABASE_URL": url,
            "LAYOUT_PLANNER_DATABASE_PASSWORD_FILE": file,
        }
        assert environment.keys() <= options
    for service in services.values():
        # No variable has the password: it is where the engine puts the secret.
        assert [f"/run/secrets/{secret['source']}" for secret in service["secrets"]] == [file]
        assert "inside" in service["networks"]
    (variables,) = (v for v in _instructions("ENV") if "LAYOUT_PLANNER" in v)
    assert variables.split("=") == ["LAYOUT_PLANNER_DATA_DIR", "/data"]


def test_the_services_may_do_what_they_need_and_no_more(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert any(mount.partition(":")[0] == "/tmp" for mount in service["tmpfs"])
        assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
        assert not {"privileged", "cap_add", "pid", "ipc", "network_mode"} & service.keys()
        if name != "server":
            assert list(service["networks"]) == ["inside"]


def test_no_network_leads_out() -> None:
    networks = _compose()["networks"]
    assert networks["inside"]["internal"]
    masquerade = "com.docker.network.bridge.enable_ip_masquerade"
    assert networks["published"]["driver_opts"] == {masquerade: "false"}


def test_the_secret_is_the_one_that_make_makes(tmp_path: Path) -> None:
    file = Path(_compose()["secrets"]["database_password"]["file"]).relative_to(ROOT)
    command: list[str | Path] = [
        "make",
        "-s",
        "-f",
        ROOT / "Makefile",
        "secrets",
        f"PYTHON={sys.executable}",
    ]
    made = tmp_path / file
    for _ in range(2):
        subprocess.run(command, cwd=tmp_path, check=True)
        password = made.read_text().strip()
        assert len(password) >= 32 and password.isalnum()
    assert made.parent.stat().st_mode & 0o777 == 0o700
    assert made.stat().st_mode & 0o777 == 0o444
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert f"/{file.parent}/" in ignored


def test_what_is_pulled_is_pinned_by_its_digest(services: dict[str, Any]) -> None:
    bases = [line.split()[0] for line in _instructions("FROM")]
    for image in (*bases, services["database"]["image"]):
        assert re.fullmatch(r"[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}", image)
    assert len(set(bases)) == 1


def test_what_the_image_installs_is_pinned_by_hash() -> None:
    (line,) = (each for each in _instructions("RUN") if "requirements.txt" in each)
    assert "--require-hashes" in line
    text = (DOCKERFILE.parent / "requirements.txt").read_text().replace("\\\n", " ")
    assert "://" not in text
    locked: dict[str, list[Requirement]] = {}
    for line in text.splitlines():
        if line and not line.lstrip().startswith("#"):
            pinned, *hashes = re.split(r"\s+--hash=", line.strip())
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), line
            assert hashes, line
            requirement = Requirement(pinned)
            locked.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    extras = PROJECT["optional-dependencies"]
    for text in (*PROJECT["dependencies"], *extras["serve"], *extras["export"]):
        wanted = Requirement(text)
        pins = locked.get(canonicalize_name(wanted.name), [])
        assert pins, f"{wanted.name} is not in docker/requirements.txt: make lock"
        for pin in pins:
            (version,) = pin.specifier
            assert wanted.specifier.contains(version.version), f"{pin}: make lock"


def test_the_dockerfile_has_nothing_to_mend() -> None:
    subprocess.run([SCRIPTS / "hadolint", DOCKERFILE], check=True)
    _check_command(json.loads(_instructions("CMD")[0]))
    assert json.loads(_instructions("ENTRYPOINT")[0]) == list(PROJECT["scripts"])


def test_the_image_gets_every_package_and_its_context_nothing_else() -> None:
    copies = (line.split()[:-1] for line in _instructions("COPY") if "--from" not in line)
    copied = {source for sources in copies for source in sources}
    texts = {
        "docker/requirements.txt",
        "pyproject.toml",
        PROJECT["readme"],
        *PROJECT.get("license-files", ()),
    }
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
