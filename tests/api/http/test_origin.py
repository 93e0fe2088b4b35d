"""Names that the service goes by, and pages that may change something."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.http.app import Settings, create_app
from tests.api.http.inside import StandIn

_BODY = b"\0\0\0\0VK00"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(tmp_path, allowed_hosts=frozenset(["Plans.example.org"]))
    with TestClient(create_app(settings, StandIn())) as client:
        yield client


def _token(client: TestClient) -> str:
    page = client.get("/upload").text
    return page.partition('name="form-token" content="')[2].partition('"')[0]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("192.0.2.1", 200),
        ("localhost:8000", 200),
        ("planner", 200),
        ("a.localhost", 200),
        ("plans.example.org", 200),
        ("PLANS.example.org.", 200),
        ("evil.example.com", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil.example:80", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_names_that_a_site_could_point_here_are_not_answered(
    client: TestClient, host: str, status: int
) -> None:
    answer = client.get("/health", headers={"Host": host})
    assert answer.status_code == status
    if status == 421:
        assert f"does not go by the name {host!r}" in answer.json()["detail"]
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://testserver:81"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://testserver.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://testserver"}, 403),
        ({"Origin": "http://testserver", "Form-Token": "mine"}, 403),
        ({"Origin": "http://testserver", "Form-Token": "the page's"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Form-Token": "the page's"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Form-Token": "the page's"}, 403),
    ],
)
def test_only_pages_of_its_own_have_a_browser_change_something(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    if headers.get("Form-Token") == "the page's":
        headers = headers | {"Form-Token": _token(client)}
    answer = client.post("/plan", content=_BODY, headers=headers)
    assert answer.status_code == status, answer.text
    assert client.get("/plans").json()["total"] == (status == 200)
    assert client.delete(f"/plans/{'0' * 32}", headers=headers).status_code == (
        404 if status == 200 else 403
    )


def test_other_sites_read_nothing(client: TestClient) -> None:
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    answer = client.get("/plans", headers=headers)
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    asked = {"Access-Control-Request-Method": "DELETE"}
    preflight = client.options("/plans", headers=headers | asked)
    assert preflight.status_code == 405 or "access-control-allow-origin" not in preflight.headers


def test_servers_of_one_database_know_each_others_pages(tmp_path: Path) -> None:
    tokens = set()
    for _ in range(2):
        with TestClient(create_app(Settings(tmp_path), StandIn())) as client:
            tokens.add(_token(client))
    assert len(tokens) == 1 and len(tokens.pop()) >= 32
