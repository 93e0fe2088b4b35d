"""Requests about plans, over HTTP."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

import planner
import schema.plan
from tests.api.graphs import graph
from tests.api.http.running import Server, detail, post
from tests.planner.files.vetting.hostile import VECTORS, Program

_NO_ZIP = (
    "is not a zip archive: hand in a file written by torch.export.save, a lowered program "
    "(.pte, .bpte), or a VkGraph"
)


def test_answers_with_the_planned_program(planned: httpx.Response, conv: bytes) -> None:
    assert planned.status_code == 200
    assert planned.headers["content-type"] == "application/octet-stream"
    assert planned.headers["content-disposition"] == 'attachment; filename="tiny.plan"'
    program = schema.plan.decode(planned.content)
    assert program.source_name == "tiny.pt2"
    assert program.source_sha256 == hashlib.sha256(conv).hexdigest()
    assert program.profile_name == "default"
    assert program.objective == "repack"
    assert program.delegates[0].decode_graph().chain


def test_keeps_the_plan_where_location_says(planned: httpx.Response, server: Server) -> None:
    location = planned.headers["location"]
    plan_id = location.removeprefix("/plans/")

    report = server.client.get(location)
    assert report.status_code == 200
    assert report.headers["content-type"] == "application/json"
    assert report.json()["source"]["name"] == "tiny.pt2"
    assert report.json()["total"]["status"] == "OPTIMAL"

    graph = server.client.get(f"{location}/graph")
    assert graph.content == planned.content
    assert graph.headers["content-type"] == "application/octet-stream"
    assert graph.headers["content-disposition"] == f'attachment; filename="{plan_id}.plan"'

    program = server.client.get(f"{location}/program.pte")
    assert program.headers["content-disposition"] == f'attachment; filename="{plan_id}.pte"'
    assert program.content[4:8] == b"ET12"
    for delegate in schema.plan.decode(graph.content).delegates:
        assert delegate.graph in program.content

    part = server.client.get(f"{location}/graph", headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, schema.plan.FILE_IDENTIFIER)
    beyond = server.client.get(f"{location}/graph", headers={"Range": "bytes=99999999-"})
    assert beyond.status_code == 416


def test_takes_what_is_lowered_already(planned: httpx.Response, server: Server) -> None:
    program = server.client.get(f"{planned.headers['location']}/program.pte").content
    answer = post(server, program, name="lowered.pte")
    assert answer.status_code == 200
    location = answer.headers["location"]
    assert server.client.get(location).json()["kind"] == "pte"
    assert server.client.get(f"{location}/program.pte").content == program

    graph = schema.plan.decode(answer.content).delegates[0].graph
    answer = post(server, graph)
    location = answer.headers["location"]
    assert schema.plan.decode(answer.content).delegates[0].graph == graph
    assert server.client.get(location).json()["kind"] == "vkgraph"
    missing = server.client.get(f"{location}/program.pte")
    assert missing.status_code == 404 and "is of a VkGraph alone" in detail(missing)


@pytest.mark.parametrize(
    ("name", "disposition"),
    [
        ("net.pt2", 'attachment; filename="net.plan"'),
        ("../../etc/net.pt2", 'attachment; filename="net.plan"'),
        ("C:\\nets\\net.pt2", 'attachment; filename="net.plan"'),
        ("..", 'attachment; filename="upload.plan"'),
        ("", 'attachment; filename="upload.plan"'),
        ("nets/", 'attachment; filename="upload.plan"'),
        ('a"b\r\nX: y.pt2', "attachment; filename*=utf-8''a%22bX%3A%20y.plan"),
        ("größe.pt2", "attachment; filename*=utf-8''gr%C3%B6%C3%9Fe.plan"),
        ("n" * 300, f'attachment; filename="{"n" * 200}.plan"'),
    ],
)
def test_a_repeated_request_is_answered_from_store_under_its_name(
    planned: httpx.Response, server: Server, conv: bytes, name: str, disposition: str
) -> None:
    again = post(server, conv, name=name)
    assert again.status_code == 200
    assert again.content == planned.content
    assert again.headers["location"] == planned.headers["location"]
    assert again.headers["content-disposition"] == disposition


@pytest.mark.parametrize("content_type", ["application/zip", "text/plain", None])
def test_takes_a_body_of_any_content_type(
    planned: httpx.Response, server: Server, conv: bytes, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    # In chunks, so without a length announced.
    again = server.client.post("/plan", content=iter([conv[:1000], conv[1000:]]), headers=headers)
    assert again.headers["location"] == planned.headers["location"]


def test_another_option_is_another_plan(
    planned: httpx.Response, server: Server, conv: bytes
) -> None:
    answer = post(
        server,
        conv,
        objective="latency",
        profile="bytes",
        texture_limits="2048,2048,2048",
        without_layout=["PACKED_INT8_4C", "height_packed"],
    )
    assert answer.status_code == 200
    assert answer.headers["location"] != planned.headers["location"]
    report = server.client.get(answer.headers["location"]).json()
    assert report["objective"] == "latency"
    assert report["profile"]["name"] == "bytes"
    assert report["texture_limits"] == [2048, 2048, 2048]
    assert report["excluded_layouts"] == ["TENSOR_HEIGHT_PACKED", "PACKED_INT8_4C"]


def _zip(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", f"upload.pt2 {_NO_ZIP}".replace("not a zip archive", "empty")),
        (b"no zip at all", f"upload.pt2 {_NO_ZIP}"),
        (
            _zip(readme=b"hello"),
            "upload.pt2 is a zip archive, but not a .pt2: "
            "hand in a file written by torch.export.save",
        ),
    ],
)
def test_a_body_that_is_no_pt2(server: Server, body: bytes, text: str) -> None:
    answer = post(server, body)
    assert answer.status_code == 400
    assert detail(answer) == text


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (
            {"profile": "fast"},
            "unknown profile 'fast': use one of bytes, default, h200, lavapipe, the hash of one "
            "that POST /profiles has kept, or in a job a profile's JSON document",
        ),
        (
            {"profile": "bytes", "device": "nvidia-h100"},
            "profile 'bytes' counts bytes, but a "
            "device's times are ns: use a profile in ns for what was not measured",
        ),
        ({"objective": "speed"}, "unknown objective 'speed': use repack or latency"),
        (
            {"texture_limits": "4,4"},
            "texture limits '4,4' are not three positive numbers of texels: "
            "write X,Y,Z, as in 2048,2048,2048",
        ),
        (
            {"objektive": "repack"},
            "query parameter 'objektive': Extra inputs are not permitted "
            "(there are pin, forbid, input_layout, output_layout, max_transitions, "
            "max_transition_bytes, max_peak_memory, profile, device, objective, texture_limits, "
            "buffer_limit, without_layout, runtime, target, gpu, compile_option, alternatives, "
            "name, input)",
        ),
    ],
)
def test_a_wrong_option(server: Server, query: dict[str, str], text: str) -> None:
    answer = post(server, b"", **query)
    assert answer.status_code == 422
    assert detail(answer) == text


def test_limits_of_representations(server: Server) -> None:
    data = graph(10)
    answers = [
        post(server, data, **limits)
        for limits in ({}, {"pin": ["v3=buffer"]}, {"forbid": ["texture"], "pin": ["v3=buffer"]})
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    paths = [answer.headers["location"] for answer in answers]
    assert len(set(paths)) == 3
    found = [server.client.get(path).json()["limits"] for path in paths]
    assert found == [[], ["pin v3=buffer"], ["pin v3=buffer", "forbid texture"]]
    # The same in another order is the same plan.
    again = post(server, data, pin=["v3=buffer"], forbid=["texture"])
    assert again.headers["location"] == paths[2]
    answer = post(server, data, max_transitions="0", max_transition_bytes="0")
    report = server.client.get(answer.headers["location"]).json()
    assert report["limits"] == ["max-transitions 0", "max-transition-bytes 0"]
    answer = post(server, data, pin=["v33=buffer"])
    assert answer.status_code == 422
    assert detail(answer).startswith(
        "--pin v33=buffer names nothing in upload.pt2: did you mean v3"
    )


def test_an_unknown_layout(server: Server) -> None:
    answer = post(server, b"", without_layout=["TENSOR_WIDTH_PACKED", "DIAGONAL"])
    assert answer.status_code == 422
    assert detail(answer).startswith("unknown layout 'DIAGONAL': use one of TENSOR_WIDTH_PACKED,")


def test_a_program_that_would_run_code_is_refused(
    server: Server, conv: bytes, tmp_path: Path
) -> None:
    program = Program.of(conv)
    VECTORS["a size"](program, tmp_path / "ran")
    VECTORS["sample inputs"](program, tmp_path / "ran")
    answer = post(server, program.data(), name="evil.pt2")
    assert answer.status_code == 422
    assert detail(answer).startswith("evil.pt2 is refused: models/model.json / graph_module / ")
    assert detail(answer).endswith("lower it where its author is trusted, and hand in the .pte")
    assert not (tmp_path / "ran").exists()


def test_a_profile_is_never_a_path(server: Server, tmp_path: Path) -> None:
    folder = Path(planner.__file__).parent / "profiles"
    for path in (f"{folder}/default.json", "/dev/stdin", str(tmp_path), "./default"):
        answer = post(server, b"", profile=path)
        assert answer.status_code == 422
        assert detail(answer) == (
            f"unknown profile {path!r}: use one of bytes, default, h200, lavapipe, the hash of one "
            "that POST /profiles has kept, or in a job a profile's JSON document"
        )


def test_a_client_can_ask_how_far_its_plan_is(server: Server, conv: bytes) -> None:
    number = "0123456789abcdef" * 2
    query, headers = {"buffer_limit": 123_456_789}, {"Progress-Id": number}

    def stage() -> str | None:
        found: str | None = server.client.get(f"/progress/{number}").json()["stage"]
        return found

    assert stage() is None
    seen = []
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(
            server.client.post, "/plan", content=conv, params=query, headers=headers
        )
        while not running.done():
            seen.append(stage())
        assert running.result().status_code == 200
    assert stage() is None
    assert "lowering" in seen
    stages = ["waiting", "loading", "lowering", "planning", "1 delegate planned", "writing"]
    known = [stages.index(name) for name in seen if name is not None]
    assert known == sorted(known)
    wrong = server.client.post("/plan", content=conv, headers={"Progress-Id": "7"})
    assert wrong.status_code == 422
    assert detail(wrong).startswith("field 'progress-id': String should match")


def test_what_exceeds_the_limits_stays_on_the_cpu(server: Server, conv: bytes) -> None:
    answer = post(server, conv, texture_limits="4,4,4")
    assert answer.status_code == 200
    report = server.client.get(answer.headers["location"]).json()
    assert any(text.startswith("aten.convolution.default (") for text in report["on_cpu"])
    nothing = post(server, conv, texture_limits="1,1,1", buffer_limit="1")
    assert nothing.status_code == 422
    assert "limit" in detail(nothing)


def test_a_lowered_program_is_checked(server: Server, conv: bytes) -> None:
    planned = server.client.post("/plan", content=conv, params={"name": "net.pt2"})
    program = server.client.get(f"{planned.headers['location']}/program.pte").content
    checked = server.client.post("/check", content=program, params={"name": "net.pte"})
    assert checked.status_code == 200
    found = checked.json()
    assert (found["name"], found["runtime"], found["findings"]) == ("net.pte", "1.5", [])
    narrow = {"gpu": "Adreno (TM) 740", "runtime": "1.1"}
    assert server.client.post("/check", content=program, params=narrow).json()["gpu"] == (
        "Adreno (TM) 740"
    )
    limits = {"pin": ["input=buffer", "output=texture"], "max_transition_bytes": "0"}
    broken = server.client.post("/check", content=program, params=limits).json()["findings"]
    assert {finding["kind"] for finding in broken} == {"restriction"}
    misspelt = server.client.post("/check", content=program, params={"gpus": "Mali"})
    assert misspelt.status_code == 422
    for params, text in (({"gpu": "Voodoo"}, "unknown GPU"), ({"runtime": "9"}, "unknown runtime")):
        refused = server.client.post("/check", content=program, params=params)
        assert refused.status_code == 422
        assert detail(refused).startswith(text)
    exported = server.client.post("/check", content=conv, params={"name": "net.pt2"})
    assert exported.status_code == 400
    assert detail(exported).startswith("net.pt2 is not a lowered program: hand in a .pte")


def test_a_plan_for_webgpu_is_no_plan_for_vulkan(server: Server, conv: bytes) -> None:
    made = post(server, conv, target="webgpu")
    assert made.status_code == 200
    location = made.headers["location"]
    report = server.client.get(location).json()
    assert (report["target"], report["total"]["transitions"]) == ("webgpu", 0)
    plan_id = location.rsplit("/", 1)[-1]
    listed = {p["id"]: p["target"] for p in server.client.get("/plans").json()["plans"]}
    assert listed[plan_id] == "webgpu"
    assert "1.5, WebGPU</dd>" in server.client.get(f"/view/{plan_id}").text
    program = server.client.get(f"{location}/program.pte").content
    by_accident = post(server, program)
    assert by_accident.status_code == 422
    assert "planned for WebGPU before: name what to plan it for (target=" in detail(by_accident)
    back = post(server, program, target="vulkan")
    assert server.client.get(back.headers["location"]).json()["target"] == "vulkan"
    checked = server.client.post("/check", content=program).json()
    assert (checked["target"], checked["findings"]) == ("webgpu", [])
    wrong = server.client.post("/check", content=program, params={"target": "vulkan"}).json()
    assert "target" in {finding["kind"] for finding in wrong["findings"]}
    assert post(server, program, target="metal").status_code == 422


def test_a_program_without_an_operator_for_vulkan(server: Server, sort: bytes) -> None:
    answer = post(server, sort, name="sort.pt2")
    assert answer.status_code == 422
    assert detail(answer) == (
        "sort.pt2 has no operator that the Vulkan delegate supports: there is nothing to plan"
    )


class _Touch:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_objects_pickled_into_a_file_are_not_made(
    server: Server, conv: bytes, tmp_path: Path
) -> None:
    import torch

    pickled, changed = io.BytesIO(), io.BytesIO()
    torch.save((((_Touch(tmp_path / "made"),), {}),), pickled)
    with zipfile.ZipFile(io.BytesIO(conv)) as old, zipfile.ZipFile(changed, "w") as new:
        for member in old.namelist():
            sample = member.endswith("data/sample_inputs/model.pt")
            new.writestr(member, pickled.getvalue() if sample else old.read(member))
    # Torch does not get to see sample inputs.
    assert post(server, changed.getvalue()).status_code == 200
    assert not (tmp_path / "made").exists()


def _get_raw(server: Server, path: str) -> tuple[int, str]:
    """Status and detail for a path that is sent as it is, dots and all."""
    url = server.client.base_url
    with closing(HTTPConnection(url.host, url.port, timeout=600)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["detail"]


@pytest.mark.parametrize("part", ["", "/graph", "/program.pte"])
@pytest.mark.parametrize("plan_id", ["0" * 32, "0" * 31, "A" * 32, "report", "0" * 32 + "g"])
def test_an_unknown_id(server: Server, plan_id: str, part: str) -> None:
    answer = server.client.get(f"/plans/{plan_id}{part}")
    assert answer.status_code == 404
    assert detail(answer) == (
        f"there is no plan {plan_id!r}: ids come in the Location that POST /plan gives"
    )


@pytest.mark.parametrize("part", ["", "/graph", "/program.pte"])
@pytest.mark.parametrize(
    "path",
    [
        *("..", ".", "%2e%2e", "..%2f", "..%5c", "../{id}", "%2e%2e%2fplans%2f{id}", ".%2f{id}"),
        *("{id}/..", "{id}%2f..%2f..", "{id}%00", "{id}%0a", "/etc/passwd", "%2fetc%2fpasswd"),
    ],
)
def test_no_path_leads_out_of_the_store(
    planned: httpx.Response, server: Server, path: str, part: str
) -> None:
    # A report where a path that leads out of the store would find one.
    (server.data_dir / "report.json").write_text("{}")
    plan_id = planned.headers["location"].removeprefix("/plans/")
    status, text = _get_raw(server, f"/plans/{path.format(id=plan_id)}{part}")
    assert status == 404
    assert text


def test_lists_what_was_planned(planned: httpx.Response, server: Server, conv: bytes) -> None:
    plan_id = planned.headers["location"].removeprefix("/plans/")
    report = server.client.get(f"/plans/{plan_id}").json()
    page = server.client.get("/plans", params={"profile": "default", "sort": "created"}).json()
    (found,) = (plan for plan in page["plans"] if plan["id"] == plan_id)
    assert page["total"] >= 1
    assert found["name"] == "tiny.pt2"
    assert found["source_sha256"] == hashlib.sha256(conv).hexdigest()
    assert found["profile_hash"] == report["profile"]["hash"]
    assert found["has_program"] is True
    assert found["delegates"] == len(report["delegates"])
    for name in ("objective", "unit", "texture_limits", "excluded_layouts", "kind"):
        assert found[name] == report[name]
    for name in (
        *("status", "bound", "repack_cost", "baseline_repack_cost", "ratio", "objective_cost"),
        *("baseline_objective_cost", "objective_ratio", "transitions", "baseline_transitions"),
        *("operators", "plan_seconds"),
    ):
        assert found[name] == report["total"][name], name


def test_what_is_deleted_is_planned_again(server: Server, conv: bytes) -> None:
    query = {"buffer_limit": 2**30}
    location = post(server, conv, **query).headers["location"]
    total = server.client.get("/plans").json()["total"]
    assert server.client.delete(location).status_code == 204
    assert server.client.get("/plans").json()["total"] == total - 1
    again = server.client.delete(location)
    assert again.status_code == 404
    assert detail(again).startswith("there is no plan ")
    assert server.client.get(f"{location}/graph").status_code == 404
    assert post(server, conv, **query).headers["location"] == location


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"sort": "speed"}, "query parameter 'sort': Input should be 'created', 'name', 'ratio'"),
        ({"order": "up"}, "query parameter 'order': Input should be 'asc' or 'desc'"),
        ({"limit": 501}, "query parameter 'limit': Input should be less than or equal to 500"),
        ({"limit": 0}, "query parameter 'limit': Input should be greater than or equal to 1"),
        ({"offset": -1}, "query parameter 'offset': Input should be greater than or equal to 0"),
        ({"offset": 2**63}, "query parameter 'offset': Input should be less than"),
        ({"min_ratio": "nan"}, "query parameter 'min_ratio': Input should be a finite number"),
        ({"name": "a\0b"}, "query parameter 'name': String should match pattern"),
        ({"status": "GOOD"}, "query parameter 'status': Input should be 'OPTIMAL' or 'FEASIBLE'"),
        ({"created_after": "soon"}, "query parameter 'created_after': Input should be a valid"),
        (
            {"created_after": "0001-01-01T00:00:00+14:00"},
            "query parameter 'created_after': Value error, there is no such time in UTC",
        ),
        ({"nam": "x"}, "query parameter 'nam': Extra inputs are not permitted (there are name, "),
    ],
)
def test_a_wrong_list_query(server: Server, query: dict[str, Any], text: str) -> None:
    answer = server.client.get("/plans", params=query)
    assert answer.status_code == 422
    assert detail(answer).startswith(text)
