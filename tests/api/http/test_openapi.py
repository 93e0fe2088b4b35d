"""The service's description of itself."""

from __future__ import annotations

import planner
from tests.api.http.running import Server


def test_lists_the_profiles(server: Server) -> None:
    profiles = [each for each in server.client.get("/profiles").json() if each["is_builtin"]]
    assert [profile["name"] for profile in profiles] == ["bytes", "default", "h200", "lavapipe"]
    assert all(profile["description"] for profile in profiles)


def test_health_says_the_version(server: Server) -> None:
    assert server.client.get("/health").json() == {"status": "ok", "version": planner.__version__}


def test_openapi_describes_every_request_and_answer(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/plan",
        "/check",
        "/plans",
        "/plans/{plan_id}",
        "/plans/{plan_id}/explanation",
        "/plans/{plan_id}/opportunities",
        "/plans/{plan_id}/tradeoffs",
        "/plans/{plan_id}/graph",
        "/plans/{plan_id}/program.pte",
        "/progress/{progress_id}",
        "/profiles",
        "/health",
        "/readyz",
        "/metrics",
        "/problems/{name}",
        "/inputs",
        "/inputs/{sha256}",
        "/workers",
        "/jobs",
        "/jobs/{job_id}",
        *(f"/jobs/{{job_id}}/{w}" for w in ("events", "cancel", "retry", "opportunities")),
        *(f"/jobs/{{job_id}}/results.{kind}" for kind in ("csv", "json")),
        "/devices",
        "/devices/{name}",
        *(f"/devices/{{name}}/{w}" for w in ("avoid", "fit", "device.json", "runs", "tunings")),
        "/devices/{name}/runs/{run_id}",
        "/devices/{name}/tunings/{tuning_id}",
        "/calibrations",
        *(f"/calibrations/{w}" for w in ("links", "samples", "profiles", "sweeps/{sweep}")),
        "/calibrations/sweeps/{sweep}/{number}",
    }
    readiness = document["paths"]["/readyz"]
    assert set(document["paths"].pop("/inputs/{sha256}")) == {"head"}
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["summary"] and operation["description"]
            assert all(answer["description"] for answer in operation["responses"].values())
            for status, answer in operation["responses"].items():
                if (
                    status not in ("200", "201", "202", "204", "206", "416")
                    and path is not readiness
                ):
                    schema_of = answer["content"]["application/problem+json"]["schema"]
                    assert schema_of == {"$ref": "#/components/schemas/Problem"}

    plan = document["paths"]["/plan"]["post"]
    for path in ("/plan", "/inputs"):
        body = document["paths"][path]["post"]["requestBody"]["description"]
        assert all(kind in body for kind in (".pt2", ".pte", "VkGraph"))
    assert set(plan["requestBody"]["content"]) == {"application/octet-stream", "application/zip"}
    assert set(plan["responses"]) == {
        *(
            "200",
            "202",
            "400",
            "403",
            "404",
            "410",
            "413",
            "422",
            "429",
            "500",
            "501",
            "503",
            "504",
        ),
        *("507", "default"),
    }
    assert set(plan["responses"]["200"]["content"]) == {"application/octet-stream"}
    assert set(plan["responses"]["200"]["headers"]) == {"Location", "Content-Disposition"}
    parameters = {parameter["name"]: parameter for parameter in plan["parameters"]}
    assert parameters.pop("progress-id")["in"] == "header"
    assert parameters.pop("prefer")["in"] == "header"
    assert all(p["in"] == "query" and p["schema"]["description"] for p in parameters.values())
    assert parameters["profile"]["schema"]["examples"] == ["bytes", "default", "h200", "lavapipe"]
    assert parameters["objective"]["schema"]["enum"] == ["repack", "latency"]
    assert parameters["texture_limits"]["schema"]["examples"] == ["2048,2048,2048"]
    assert "PACKED_INT8_4W4C" in parameters["without_layout"]["schema"]["items"]["enum"]
    assert parameters["name"]["schema"]["default"] == "upload.pt2"

    report = document["paths"]["/plans/{plan_id}"]["get"]
    assert set(report["responses"]) == {"200", "206", "404", "410", "416", "default"}
    assert set(report["responses"]["200"]["content"]) == {"application/json"}

    plans = document["paths"]["/plans"]["get"]
    assert set(plans["responses"]) == {"200", "422", "default"}
    parameters = {parameter["name"]: parameter for parameter in plans["parameters"]}
    assert all(parameter["schema"]["description"] for parameter in parameters.values())
    assert parameters["limit"]["schema"]["maximum"] == 500
    assert set(document["paths"]["/plans/{plan_id}"]["delete"]["responses"]) == {
        *("204", "404", "default"),
    }
