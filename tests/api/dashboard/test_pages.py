"""The dashboard's pages, as a browser gets them."""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Protocol

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.dashboard.headers import CONTENT_SECURITY_POLICY
from api.dashboard.install import install
from api.dashboard.vendor import API_SCRIPT, API_STYLE, CHARTS, LIBRARIES
from api.http.app import Settings, create_app
from api.store.plans import PlanStore, open_store
from api.store.tables import Plan
from planner.options import make_options
from tests.api.planned import planned, put_planned
from tests.api.store.drafts import put

HOSTILE = "<img src=x onerror=alert(1)>\"'&{{7*7}}.pt2"
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class Answer(Protocol):
    """An answer of whichever client FastAPI's test client is made of."""

    @property
    def text(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


class Page(HTMLParser):
    """What a page says: its elements with their attributes, and its text."""

    def __init__(self, response: Answer) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        self.feed(response.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.text += " " if tag == "dd" else ""

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def links(self) -> list[str]:
        return [str(link["href"]) for link in self.all("a")]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dashboard")
    store = open_store(folder / "data")
    put_planned(store, folder / "cvt")
    put_planned(store, folder / "hostile", HOSTILE, "pt2")
    put_planned(store, folder / "graph", "graph.vkg", "vkgraph")
    for n in range(30):
        status = "FEASIBLE" if n % 3 == 0 else "OPTIMAL"
        put(store, folder / f"net{n}", f"net {n}", f"net_{n:02}.pt2", status=status, ratio=n / 10)
    put(store, folder / "free", "free", "net_00.pt2", make_options("default"), ratio=None)
    store.close()
    return folder / "data"


@pytest.fixture(scope="module")
def client(data_dir: Path) -> Iterator[TestClient]:
    app = create_app(Settings(data_dir))
    with TestClient(app, headers=BROWSER, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def plans(data_dir: Path) -> dict[str, Plan]:
    store = open_store(data_dir)
    found = _found(store)
    store.close()
    return found


def _found(store: PlanStore) -> dict[str, Plan]:
    return {plan.source_name: plan for plan in store.page(limit=100).plans}


def _rows(client: TestClient, **query: Any) -> list[str]:
    """The models in the table, from the top."""
    response = client.get("/", params=query)
    assert response.status_code == 200
    found = re.findall(r'<a href="/view/[0-9a-f]{32}">([^<]*)</a>', response.text)
    return [html.unescape(name) for name in found]


def test_the_pages_show_whichever_store_they_are_given(data_dir: Path) -> None:
    app = FastAPI()
    stores = [open_store(data_dir)]
    install(app, lambda: stores[-1])
    with TestClient(app, headers=BROWSER) as client:
        assert len(_rows(client)) == 25
        plan_id = _found(stores[0])["cvt.pte"].id
        assert len(client.get(f"/plans/{plan_id}/view").json()["nodes"]) > 0
    stores[0].close()


def test_every_answer_says_what_a_page_may_load(
    client: TestClient, plans: dict[str, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_id = plans["cvt.pte"].id
    paths = {
        "/": 200,
        "/upload": 200,
        "/docs": 200,
        f"/view/{plan_id}": 200,
        f"/plans/{plan_id}": 200,
        f"/plans/{plan_id}/view": 200,
        "/trend?model=cvt.pte": 200,
        "/static/dashboard.css": 200,
        f"/static/vendor/{CHARTS}": 200,
        "/health": 200,
        "/view/nope": 404,
        "/static/nope.js": 404,
        "/static/vendor/nope.js": 404,
        "/static/vendor/../vendor.py": 404,
        "/nope": 404,
        "/?sort=speed": 422,
        "/trend": 422,
        f"/plans/{plan_id}/view?delegate=2": 404,
        f"/plans/{plan_id}/view?delegate=-1": 404,
    }
    answers = {path: client.get(path) for path in paths}
    assert {path: answer.status_code for path, answer in answers.items()} == paths

    def fail(self: PlanStore, *args: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(PlanStore, "totals", fail)
    answers["500"] = client.get("/")
    assert answers["500"].status_code == 500 and "secret" not in answers["500"].text
    for path, answer in answers.items():
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY, path
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in CONTENT_SECURITY_POLICY and "http" not in CONTENT_SECURITY_POLICY


def test_pages_ask_no_other_host_and_have_no_script_of_their_own(
    client: TestClient, plans: dict[str, Plan]
) -> None:
    for path in ("/", "/?model=cvt.pte", "/upload", "/docs", f"/view/{plans['cvt.pte'].id}"):
        page = Page(client.get(path))
        for tag, attributes in page.elements:
            assert not any(name.startswith("on") or name == "style" for name in attributes), tag
            for name in ("src", "href", "action", "data-source"):
                value = attributes.get(name)
                assert value is None or (value[0] in "/#?" and not value.startswith("//")), value
        assert all(script["src"] for script in page.all("script"))
        for tag in ("script", "link"):
            for attributes in page.all(tag):
                address = attributes.get("src") or attributes.get("href")
                assert address is not None and client.get(address).status_code == 200


def test_names_of_files_are_text_wherever_they_are_shown(
    client: TestClient, plans: dict[str, Plan]
) -> None:
    for path in ("/?objective=latency", f"/view/{plans[HOSTILE].id}"):
        page = Page(client.get(path))
        assert HOSTILE in page.text
        assert page.all("img") == []
    page = Page(client.get("/", params={"model": HOSTILE, "name": "<script>"}))
    assert page.all("img") == [] and all("src" in script for script in page.all("script"))
    assert [e["data-model"] for e in page.all("div") if e.get("id") == "trend"] == [HOSTILE]
    assert "<script>" in {field.get("value") for field in page.all("input")}
    missing = Page(client.get("/view/<b>no"))
    assert "there is no plan '<b>no'" in missing.text and missing.all("b") == []


def test_the_address_alone_searches_filters_sorts_and_pages(client: TestClient) -> None:
    assert len(_rows(client)) == 25
    assert len(_rows(client, page=2)) == 9
    assert _rows(client, page=3) == []
    assert _rows(client, name="NET_1", sort="name", order="asc", size=100) == [
        f"net_{n}.pt2" for n in range(10, 20)
    ]
    assert _rows(client, name="net", sort="ratio", size=3) == [
        "net_00.pt2",  # nothing is left of its repack cost
        "net_29.pt2",
        "net_28.pt2",
    ]
    assert _rows(client, model="net_00.pt2", profile="default") == ["net_00.pt2"]
    assert len(_rows(client, status="FEASIBLE", size=100)) == 10
    assert sorted(_rows(client, objective="latency")) == sorted(["cvt.pte", "graph.vkg", HOSTILE])
    assert _rows(client, name="%") == []
    # A form sends what nobody filled in as well.
    assert len(_rows(client, name="", profile="", objective="", status="", size=100)) == 34


def test_links_keep_what_is_filtered(client: TestClient) -> None:
    page = Page(client.get("/?name=net&status=OPTIMAL&sort=name&order=asc&size=10&page=2"))
    links = [link for link in page.links() if link.startswith("/?") and "model=" not in link]
    assert "/?name=net&status=OPTIMAL&sort=name&order=asc&page=3&size=10" in links
    assert "/?name=net&status=OPTIMAL&sort=name&order=asc&size=10" in links  # the page before
    assert "/?name=net&status=OPTIMAL&sort=ratio&size=10" in links
    chosen = [o.get("value") for o in page.all("option") if "selected" in o]
    assert "OPTIMAL" in chosen
    for link in links:
        assert client.get(link).status_code == 200


def test_totals_are_of_all_pages(client: TestClient) -> None:
    page = re.sub(r"\s+", " ", Page(client.get("/?name=net&profile=bytes&size=1")).text)
    assert "plans 30" in page and "models 30" in page and "proven optimal 67%" in page
    assert "repack cost saved, bytes 4.5 kB of 7.5 kB" in page
    empty = re.sub(r"\s+", " ", Page(client.get("/?name=nothing")).text)
    assert "plans 0" in empty and "proven optimal –" in empty and "No plan matches" in empty


def test_a_plan_s_page_offers_what_there_is(client: TestClient, plans: dict[str, Plan]) -> None:
    for name, has_program in (("cvt.pte", True), ("graph.vkg", False)):
        plan = plans[name]
        page = Page(client.get(f"/view/{plan.id}"))
        files = [str(link["href"]) for link in page.all("a") if "download" in link]
        assert [f.removeprefix(f"/plans/{plan.id}") for f in files] == [
            "/graph",
            *(["/program.pte"] if has_program else []),
            "",
        ]
        assert all(client.get(file).status_code == 200 for file in files)


def test_the_graph_has_two_sides_and_the_page_says_what_was_before(
    client: TestClient, plans: dict[str, Plan]
) -> None:
    before = {"cvt.pte": "as the file came", HOSTILE: "as ExecuTorch's own pass lays it out"}
    for name, said in before.items():
        page = Page(client.get(f"/view/{plans[name].id}"))
        assert len([f for f in page.all("input") if f.get("name") == "side"]) == 2
        assert f"Before: {said}." in page.text
        view = client.get(f"/plans/{plans[name].id}/view").json()
        total = json.loads(planned()[1])["delegates"][0]
        assert len(view["before"]["transitions"]) == total["baseline_transitions"]
        assert len(view["after"]["transitions"]) == total["transitions"]


def test_graphs_and_libraries_come_compressed_to_those_that_take_it(
    client: TestClient, plans: dict[str, Plan]
) -> None:
    for path in (f"/plans/{plans['cvt.pte'].id}/view", f"/static/vendor/{CHARTS}"):
        small = client.get(path, headers={"Accept-Encoding": "gzip"})
        plain = client.get(path, headers={"Accept-Encoding": "identity"})
        assert small.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in plain.headers
        assert small.content == plain.content
        assert int(small.headers["content-length"]) < len(plain.content) / 2
        assert len(gzip.compress(plain.content)) > 0
    assert hashlib.sha256(plain.content).hexdigest() == LIBRARIES[CHARTS].sha256


def test_two_plans_are_compared(client: TestClient, plans: dict[str, Plan]) -> None:
    a, b = plans["cvt.pte"].id, plans["graph.vkg"].id
    page = re.sub(r"\s+", " ", Page(client.get(f"/compare?a={a}&b={b}")).text)
    assert "0 tensors are represented differently" in page and "+0.0%" in page
    # Some plans in this store have no graph at all.
    broken = Page(client.get(f"/compare?a={a}&b={plans['net_01.pt2'].id}"))
    assert "The graphs cannot be compared" in broken.text
    assert client.get(f"/compare?a={a}&b=nope").status_code == 404
    assert client.get(f"/compare?a={a}").status_code == 422
    assert "Compare with" not in client.get(f"/view/{a}").text


def test_errors_are_pages_for_browsers_and_documents_for_programs(client: TestClient) -> None:
    for path, status in (("/view/nope", 404), ("/plans/nope", 404), ("/?sort=speed", 422)):
        page = client.get(path)
        document = client.get(path, headers={"Accept": "application/json"})
        assert page.status_code == document.status_code == status
        assert document.json()["detail"] in Page(page).text
    refused = client.get("/?sort=speed", headers={"Accept": "*/*"}).json()["detail"]
    assert "'sort'" in refused and "there are name, model, profile" in refused
    assert client.get("/?page=0").status_code == 422
    assert client.get("/?name=%00").status_code == 422
    # What a form posts is for its script to read.
    assert "detail" in client.post("/plan", content=b"").json()
    assert client.post("/").status_code == 405


def test_the_api_s_page_shows_the_service_s_own_description(client: TestClient) -> None:
    page = Page(client.get("/docs"))
    (address,) = {e.get("data-document") for e in page.all("div")} - {None}
    assert client.get(str(address)).json()["paths"].keys() >= {"/plan", "/health"}
    for name, media_type in ((API_SCRIPT, "text/javascript"), (API_STYLE, "text/css")):
        answer = client.get(f"/static/vendor/{name}")
        assert answer.headers["content-type"].startswith(media_type)
    assert client.get("/redoc").status_code == 404


def test_the_form_has_every_option(client: TestClient) -> None:
    page = Page(client.get("/upload"))
    parameters = client.get("/openapi.json").json()["paths"]["/plan"]["post"]["parameters"]
    fields = {e.get("name") for tag in ("input", "select") for e in page.all(tag)}
    assert {p["name"] for p in parameters if p["in"] == "query"} - {"name", "input"} <= fields
    values = {e.get("value") for e in page.all("input")}
    (layouts,) = (p for p in parameters if p["name"] == "without_layout")
    assert set(layouts["schema"]["items"]["enum"]) <= values
