"""The dashboard's pages of devices, as a browser gets them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from api.dashboard.headers import CONTENT_SECURITY_POLICY
from api.http.app import Settings, create_app
from api.store.devices import DeviceStore
from api.store.plans import open_store
from planner.measured.device import Device, shipped_devices
from planner.options import make_options
from planner.tuning.result import BASELINE
from tests.api.dashboard.devices import (
    HOSTILE,
    HOSTILE_FILE,
    PHONE,
    finalist,
    plan,
    progress,
    put_runs,
)
from tests.api.dashboard.test_pages import BROWSER, Page
from tests.api.store.drafts import put

PHONE_PAGE = "/device/my%20phone"
HOSTILE_PAGE = f"/device/{quote(HOSTILE, safe='')}"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("devices")
    store = open_store(folder / "data")
    devices = DeviceStore(store)
    devices.add(PHONE)
    devices.add(Device(HOSTILE, HOSTILE, HOSTILE))
    devices.add(Device("without runs"))
    put_runs(devices, folder / "runs", PHONE, "net.pte")
    put_runs(devices, folder / "hostile", Device(HOSTILE, HOSTILE), HOSTILE_FILE)
    devices.add(Device("gone"))
    put_runs(devices, folder / "gone", Device("gone"), "net.pte")
    for device, name in (("my phone", "phone"), (HOSTILE, "hostile"), ("gone", "left")):
        options = devices.known(device).options(make_options("default", "latency"))
        put(store, folder / f"plan of {name}", name, f"{name}.pt2", options)
    devices.delete("gone")
    put(store, folder / "none", "none", "none.pt2")
    store.close()
    return folder / "data"


@pytest.fixture(scope="module")
def client(data_dir: Path) -> Iterator[TestClient]:
    app = create_app(Settings(data_dir))
    with TestClient(app, headers=BROWSER, raise_server_exceptions=False) as client:
        yield client


def _told(client: TestClient, device: str = "my phone", **told: object) -> str:
    """Begins a tuning and tells of it; returns the path of its page."""
    at = f"/devices/{quote(device, safe='')}/tunings"
    begun = client.post(at, json={"program": HOSTILE_FILE}).json()["id"]
    if told:
        assert client.put(f"{at}/{begun}", json=told).status_code == 204
    return f"/device/{quote(device, safe='')}/tuning/{begun}"


def _text(page: Page) -> str:
    return re.sub(r"\s+", " ", page.text)


def test_every_device_is_listed_with_what_it_is(client: TestClient) -> None:
    page = Page(client.get("/device"))
    names = [HOSTILE, "my phone", "without runs", *shipped_devices()]
    assert [link for link in page.links() if link.startswith("/device/")] == [
        f"/device/{quote(name, safe='')}" for name in names
    ]
    assert "my phone v1 Adreno (TM) 740 3 just now 1 no" in _text(page)
    assert "without runs unknown – 0 – 0 no" in _text(page)
    assert {"name", "driver", "gpu", "texture_limits", "buffer_limit"} <= {
        field.get("name") for field in page.all("input")
    }


def test_the_pages_of_devices_ask_no_other_host_and_show_names_as_text(
    client: TestClient,
) -> None:
    tuning = _told(client, HOSTILE, **progress(plan(HOSTILE, 5e6, None)), ended=None)
    for path in ("/device", PHONE_PAGE, HOSTILE_PAGE, tuning, f"/?device={quote(HOSTILE)}"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        page = Page(answer)
        assert page.all("img") == []
        assert all(script["src"] for script in page.all("script"))
        for tag, attributes in page.elements:
            assert not any(name.startswith("on") or name == "style" for name in attributes), tag
            for name in ("src", "href", "action", "data-source", "data-page"):
                value = attributes.get(name)
                assert value is None or (value[0] in "/#?" and not value.startswith("//")), value
        for tag in ("script", "link"):
            for attributes in page.all(tag):
                address = attributes.get("src") or attributes.get("href")
                assert address is not None and client.get(address).status_code == 200
    assert HOSTILE in Page(client.get(HOSTILE_PAGE)).text
    assert HOSTILE_FILE in Page(client.get(tuning)).text


def test_a_device_s_page_leads_to_all_that_is_of_it(client: TestClient) -> None:
    for path, name in ((PHONE_PAGE, "my phone"), (HOSTILE_PAGE, HOSTILE)):
        tuning = _told(client, name)
        page = Page(client.get(path))
        part = quote(name, safe="")
        assert [e["data-source"] for e in page.all("section") if e.get("id") == "fit"] == [
            f"/devices/{part}/fit"
        ]
        links = [link for link in page.links() if name in link or part in link or "device=" in link]
        assert f"/devices/{part}/device.json" in links and tuning in links
        for link in links:
            assert client.get(link).status_code == 200, link
    text = _text(Page(client.get(PHONE_PAGE)))
    assert "texture limits 4096 × 4096 × 2048" in text and "134,217,728 elements" in text
    assert "aten.linear.default texture:WIDTH_PACKED gpus: ['Adreno'] wrong values" in text
    assert text.index("net.pte5.etdump") < text.index("net.pte3.etdump")


def test_a_device_without_runs_says_what_to_do(client: TestClient) -> None:
    page = Page(client.get("/device/without%20runs"))
    assert "has no runs yet" in page.text and "layout-planner tune --server" in page.text
    assert not any("device.json" in link or "upload?" in link for link in page.links())
    assert not any("device.js" in str(script["src"]) for script in page.all("script"))


def test_what_ships_with_the_planner_has_a_page(client: TestClient) -> None:
    for name in shipped_devices():
        page = Page(client.get(f"/device/{name}"))
        assert "ships with the planner" in page.text and "tune --server" not in page.text


def test_a_device_or_a_tuning_that_is_not_there(client: TestClient) -> None:
    for path in ("/device/nope", "/device/nope/tuning/1", f"{PHONE_PAGE}/tuning/nope"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "There is no such page" in Page(answer).text
    of_another = _told(client).replace("my%20phone", quote(HOSTILE, safe=""))
    assert client.get(of_another).status_code == 404


def test_tunings_are_listed_with_their_state_and_gain(client: TestClient) -> None:
    def listed() -> str:
        return _text(Page(client.get(PHONE_PAGE)))

    _told(client)
    assert f"{HOSTILE_FILE} just now goes on last heard of just now – –" in listed()
    _told(client, **progress(plan("b", 5e6, 5e6), stage="round 1"), ended=None)
    assert "goes on: round 1 last heard of just now – –" in listed()
    won = progress(finalists=[finalist("b"), finalist("c")], winner="b")
    _told(client, **won, ended="time is up")
    assert "ended: time is up b 1.200 (1.190 to 1.210)" in listed()
    few = {"median": 1.2, "low": 0.0, "high": None}
    _told(client, **progress(finalists=[finalist("b", gain=few)], winner="b"), ended="few")
    assert "ended: few b 1.200 (too few runs)" in listed()
    _told(client, **progress(finalists=[finalist("b")], winner=BASELINE), ended="none")
    assert f"ended: none {BASELINE} –" in listed()


def test_the_form_offers_devices_that_have_runs(client: TestClient) -> None:
    page = Page(client.get("/upload", params={"device": HOSTILE}))
    names = {HOSTILE, "my phone", "without runs", *shipped_devices()}
    options = {e["value"]: e for e in page.all("option") if e.get("value") in names}
    assert set(options) == names
    assert [name for name, option in options.items() if "disabled" in option] == ["without runs"]
    assert [name for name, option in options.items() if "selected" in option] == [HOSTILE]
    assert page.all("img") == []


def test_plans_are_found_by_their_device(client: TestClient) -> None:
    def shown(**query: str) -> list[str]:
        found = re.findall(r'"/view/[0-9a-f]{32}">([^<]*)</a>', client.get("/", params=query).text)
        return sorted(found)

    assert shown() == ["hostile.pt2", "left.pt2", "none.pt2", "phone.pt2"]
    assert shown(device="my phone") == ["phone.pt2"]
    assert shown(device=HOSTILE) == ["hostile.pt2"]
    assert shown(device="nope") == []
    page = Page(client.get("/", params={"device": HOSTILE, "sort": "name"}))
    kept = [link for link in page.links() if "sort=ratio" in link]
    assert len(kept) == 1 and client.get(kept[0]).text.count('data-name="Model"') == 1
    assert HOSTILE in [o.get("value") for o in page.all("option") if "selected" in o]


def test_a_plan_leads_to_its_device_as_long_as_that_is_there(client: TestClient) -> None:
    plans = {p["name"]: p["id"] for p in client.get("/plans").json()["plans"]}
    for name, path in (("phone.pt2", PHONE_PAGE), ("hostile.pt2", HOSTILE_PAGE)):
        page = Page(client.get(f"/view/{plans[name]}"))
        assert path in page.links() and "default, repack" in page.text
    for name in ("left.pt2", "none.pt2"):
        page = Page(client.get(f"/view/{plans[name]}"))
        assert not any(link.startswith("/device/") for link in page.links())
        assert ("device gone" in _text(page)) == (name == "left.pt2")
    compared = client.get(f"/compare?a={plans['phone.pt2']}&b={plans['none.pt2']}")
    assert "Devicemy phone–" in _text(Page(compared))
