"""Traces, as a collector gets them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.api.graphs import graph

_SERVE: Final = """
import sys
from pathlib import Path
from api.http.app import Settings
from api.http.server import serve
serve("127.0.0.1", 0, Settings(Path(sys.argv[1])))
"""
_OFF: Final = """
import sys
from pathlib import Path
from fastapi.testclient import TestClient
from api.http.app import Settings, create_app
from api.telemetry import traces
import api.http.server, api.jobs.supervisor
traces.start("1")
with TestClient(create_app(Settings(Path(sys.argv[1])))) as client:
    assert client.get("/profiles").status_code == 200
ours = ("opentelemetry.sdk", "opentelemetry.exporter")
print(*(name for name in sys.modules if name.startswith(ours)))
"""
_ABSENT: Final = """
import sys
sys.modules["opentelemetry.exporter.otlp.proto.http"] = None
from api.cli import main
main(sys.argv[1:])
"""


class _Collector(BaseHTTPRequestHandler):
    received: list[ExportTraceServiceRequest]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/v1/traces"
        self.received.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def _collecting() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """A collector's address, and what it got."""
    received: list[ExportTraceServiceRequest] = []
    handler = type("Handler", (_Collector,), {"received": received})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()


def _values(attributes: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


def test_a_plan_is_a_trace_of_its_request(tmp_path: Path) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "X-Request-Id": "build-17"}
    with _collecting() as (address, received):
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": address},
        )
        assert process.stdout is not None
        base = process.stdout.readline().removeprefix("Listening on ").strip()
        with httpx.Client(base_url=base, timeout=120) as client:
            answer = client.post("/plan?name=a.vk", content=graph(), headers=headers)
            assert answer.status_code == 200
            assert client.post("/plan", content=b"\0\0\0\0VK00").status_code >= 400
        process.terminate()
        assert process.wait() == 0
    resources = [resource for request in received for resource in request.resource_spans]
    assert _values(resources[0].resource.attributes)["service.name"] == "layout-planner"
    spans = [s for r in resources for scoped in r.scope_spans for s in scoped.spans]
    ours = [span for span in spans if span.trace_id.hex() == trace]
    names = {span.span_id: span.name for span in ours}
    (request,) = (span for span in ours if span.name == "POST /plan")
    assert request.kind == request.SPAN_KIND_SERVER
    assert request.parent_span_id.hex() == "00f067aa0ba902b7"
    said = _values(request.attributes)
    assert said["http.route"] == "/plan" and said["http.response.status_code"] == 200
    assert said["layout_planner.request_id"] == "build-17"
    parents = {span.name: names.get(span.parent_span_id) for span in ours}
    waits = ("waiting for others", "waiting for a process")
    for child in ("receiving", *waits, "planning process", "keeping"):
        assert child in parents
    assert parents["receiving"] == parents["waiting for a process"] == "POST /plan"
    assert parents["keeping"] == "POST /plan"
    assert parents["planning"] == parents["writing"] == "planning process"
    for span in ours:
        assert request.start_time_unix_nano <= span.start_time_unix_nano
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    # Another request is another trace, and says that its planning failed.
    others = [span for span in spans if span.trace_id.hex() != trace]
    assert len({span.trace_id for span in others}) == 1
    (failed,) = (span for span in others if span.name == "planning process")
    assert failed.status.code == failed.status.STATUS_CODE_ERROR


def test_nothing_of_it_is_imported_where_it_is_off(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _OFF, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "\n"


def test_without_its_packages_a_server_says_what_to_install(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _ABSENT, "serve", "--port", "0", "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("Error: OTEL_EXPORTER_OTLP_ENDPOINT needs opentelemetry-")
    assert "[telemetry]'" in ended.stderr
