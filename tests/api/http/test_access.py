"""Who is let in, what a token is good for, and what is written down."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient

from api.cli import main
from api.http.access import AccessRules
from api.http.app import Settings, create_app
from api.store.plans import open_store
from api.store.tokens import Scope, Tokens
from tests.api.http.inside import StandIn

_BODY = b"\0\0\0\0VK00"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """A service that takes tokens."""
    settings = Settings(tmp_path / "data", access=AccessRules("tokens"))
    with TestClient(create_app(settings, StandIn())) as client:
        yield client


def _tokens(client: TestClient) -> Tokens:
    app: Any = client.app
    tokens: Tokens = app.state.tokens
    return tokens


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_without_a_token_there_is_nothing_but_health(client: TestClient) -> None:
    for path in ("/health", "/healthz", "/readyz", "/static/dashboard.css"):
        assert client.get(path).status_code == 200
    for path in ("/", "/plans", "/metrics", "/openapi.json", "/docs", "/jobs", "/profiles"):
        answer = client.get(path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"].startswith("Bearer realm=")
        assert "with a token alone" in answer.json()["detail"]
    assert client.post("/plan", content=_BODY).status_code == 401


@pytest.mark.parametrize(
    ("scope", "reads", "plans", "deletes"),
    [(Scope.READ, 200, 403, 403), (Scope.PLAN, 200, 200, 403), (Scope.ADMIN, 200, 200, 404)],
)
def test_a_token_is_good_for_its_scope(
    client: TestClient, scope: Scope, reads: int, plans: int, deletes: int
) -> None:
    headers = _bearer(_tokens(client).create("someone", scope))
    assert client.get("/plans", headers=headers).status_code == reads
    assert client.post("/plan", content=_BODY, headers=headers).status_code == plans
    assert client.delete(f"/plans/{'0' * 32}", headers=headers).status_code == deletes
    assert client.put("/devices/x/avoid", json=[], headers=headers).status_code in (
        (403,) if scope < Scope.ADMIN else (404, 405)
    )


def test_a_browser_hands_it_in_as_a_password(client: TestClient) -> None:
    token = _tokens(client).create("someone", Scope.READ)
    password = base64.b64encode(f"anybody:{token}".encode()).decode()
    assert client.get("/", headers={"Authorization": f"Basic {password}"}).status_code == 200


@pytest.mark.parametrize(
    "header",
    ["Bearer x", "Bearer ", "Basic !", "Basic //8=", "Digest x", "Bearer lp_" + "0" * 16 + "_"],
)
def test_what_is_no_token_lets_nobody_in(client: TestClient, header: str) -> None:
    _tokens(client).create("someone", Scope.ADMIN)
    assert client.get("/plans", headers={"Authorization": header}).status_code == 401


def test_neither_does_one_with_another_secret_or_a_revoked_one(client: TestClient) -> None:
    tokens = _tokens(client)
    token = tokens.create("someone", Scope.ADMIN)
    other = token[:-1] + ("A" if token[-1] != "A" else "B")
    assert client.get("/plans", headers=_bearer(other)).status_code == 401
    (record,) = tokens.all()
    assert tokens.revoke(record.id) and not tokens.revoke(record.id)
    assert client.get("/plans", headers=_bearer(token)).status_code == 401


def test_whom_a_proxy_names_is_let_in(tmp_path: Path) -> None:
    settings = Settings(tmp_path, access=AccessRules("tokens", "X-Forwarded-User"))
    with TestClient(create_app(settings, StandIn())) as client:
        assert client.get("/plans").status_code == 401
        assert client.get("/plans", headers={"X-Forwarded-User": "ann"}).status_code == 200
        assert client.get("/plans", headers={"X-Forwarded-User": ""}).status_code == 401


def test_who_planned_read_and_deleted_what_is_written_down(
    client: TestClient, tmp_path: Path
) -> None:
    headers = _bearer(_tokens(client).create("ann", Scope.ADMIN))
    location = client.post("/plan?name=x.pte", content=_BODY, headers=headers).headers["location"]
    client.get(f"{location}/graph", headers=headers)
    client.delete(location, headers=headers)
    client.delete(location)
    client.get("/health")
    log = tmp_path / "data" / "audit.log"
    assert log.stat().st_mode & 0o077 == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["who"], line["method"], line["path"], line["status"]) for line in lines] == [
        ("ann", "POST", "/plan", 200),
        ("ann", "GET", f"{location}/graph", 200),
        ("ann", "DELETE", location, 204),
        (None, "DELETE", location, 401),
    ]
    assert lines[0]["made"] == location
    assert lines[0]["query"] == "name=x.pte"


def _run(folder: Path, *args: str) -> str:
    ended = CliRunner().invoke(main, ["token", *args, "--data-dir", str(folder)])
    assert ended.exit_code == 0, ended.output
    return ended.output


def test_tokens_are_made_listed_and_revoked_by_commands(tmp_path: Path) -> None:
    token = _run(tmp_path, "create", "Ann's laptop", "--scope", "read").strip()
    id_ = token.split("_")[1]
    assert _run(tmp_path, "list").split()[:2] == [id_, "read"]
    store = open_store(tmp_path)
    assert Tokens(store.database).find(token) is not None
    database = (tmp_path / "layout-planner.sqlite").read_bytes()
    assert token.encode() not in database
    assert _run(tmp_path, "revoke", id_) == ""
    assert Tokens(store.database).find(token) is None
    store.close()
    assert "revoked" in _run(tmp_path, "list")
    again = CliRunner().invoke(main, ["token", "revoke", id_, "--data-dir", str(tmp_path)])
    assert again.exit_code != 0


def test_a_server_that_others_reach_does_not_start_without_tokens(tmp_path: Path) -> None:
    options = ["serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path)]
    refused = CliRunner().invoke(main, options)
    assert refused.exit_code == 2
    assert "nobody has a token for it" in refused.output
