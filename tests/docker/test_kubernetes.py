"""The manifests of Kubernetes: by its schemas, and as closed as the compose file."""

from __future__ import annotations

from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from api.cli import main
from tests.paths import ROOT

MANIFESTS: list[dict[str, Any]] = list(
    yaml.safe_load_all((ROOT / "docker" / "kubernetes.yaml").read_text())
)
DEPLOYMENTS = [manifest for manifest in MANIFESTS if manifest["kind"] == "Deployment"]


def _named(kind: str, name: str) -> dict[str, Any]:
    (found,) = (m for m in MANIFESTS if m["kind"] == kind and m["metadata"]["name"] == name)
    return found


def _id(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


@pytest.mark.parametrize("manifest", MANIFESTS, ids=_id)
def test_a_manifest_is_what_kubernetes_takes(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=_id)
def test_pods_may_do_what_they_need_and_no_more(deployment: dict[str, Any]) -> None:
    pod = deployment["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (
        f"USER {pod['securityContext']['runAsUser']}\n"
        in (ROOT / "docker" / "Dockerfile").read_text()
    )
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"].keys() == {"requests", "limits"}
    # What it runs is a command, and what it reads are options of it.
    context = click.Context(main)
    name, command, rest = main.resolve_command(context, list(container["args"]))
    assert command is not None
    command.make_context(name, rest, parent=context)
    options = {option.envvar for option in command.params}
    assert {variable["name"] for variable in container["env"]} <= options
    # The password is in a file, and no secret is in the manifest.
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    (file,) = (v["value"] for v in container["env"] if v["name"].endswith("_PASSWORD_FILE"))
    assert file == f"{mounts['database-password']}/password"
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert {mounts["data"], mounts["tmp"]} == {"/data", "/tmp"}


def test_no_secret_is_in_the_manifests() -> None:
    assert "Secret" not in {manifest["kind"] for manifest in MANIFESTS}


def test_probes_ask_what_the_server_answers() -> None:
    (server,) = _named("Deployment", "layout-planner-server")["spec"]["template"]["spec"][
        "containers"
    ]
    paths = [server[f"{k}Probe"]["httpGet"]["path"] for k in ("startup", "liveness", "readiness")]
    assert paths == ["/healthz", "/healthz", "/readyz"]
    (port,) = server["ports"]
    arguments = server["args"]
    assert port["containerPort"] == int(arguments[arguments.index("--port") + 1])


def test_what_selects_pods_selects_these() -> None:
    labels = [d["spec"]["template"]["metadata"]["labels"] for d in DEPLOYMENTS]
    for deployment, own in zip(DEPLOYMENTS, labels, strict=True):
        assert deployment["spec"]["selector"]["matchLabels"] == own
    server = _named("Deployment", "layout-planner-server")["spec"]["selector"]["matchLabels"]
    assert _named("Service", "layout-planner")["spec"]["selector"] == server
    budget = _named("PodDisruptionBudget", "layout-planner-server")
    assert budget["spec"]["selector"]["matchLabels"] == server
    policy = _named("NetworkPolicy", "layout-planner")["spec"]
    assert all(policy["podSelector"]["matchLabels"].items() <= own.items() for own in labels)
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    # Nothing comes in but to the server; out go names and the database's port alone.
    assert "ingress" not in policy
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 5432}
    assert all(rule["to"] for rule in policy["egress"])
    inward = _named("NetworkPolicy", "layout-planner-server")["spec"]
    assert inward["podSelector"]["matchLabels"] == server
