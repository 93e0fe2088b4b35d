"""What the OpenAPI document allows is asked, and what it does not: answers are as it says."""

from __future__ import annotations

import os
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.http.running import Server

_EXAMPLES: Final = int(os.environ.get("FUZZ_REQUESTS", "2"))
_CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def _operations(server: Server) -> list[APIOperation[Any, Any, Any, Any]]:
    schema = schemathesis.openapi.from_url(f"{server.client.base_url}/openapi.json")
    return [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]


def _ask(operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode) -> None:
    """Sends an operation such requests. Raises an exception group of what answers were wrong."""

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        derandomize="FUZZ_REQUESTS" not in os.environ,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Case[Any]) -> None:
        case.call_and_validate(checks=_CHECKS, timeout=600)

    ask()


@pytest.mark.server
@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
def test_answers_are_as_the_document_says(server: Server, mode: GenerationMode) -> None:
    operations = _operations(server)
    # As many as there are: none is passed over because its schema cannot be read.
    document = server.client.get("/openapi.json").json()
    assert len(operations) == sum(len(methods) for methods in document["paths"].values())
    wrong = []
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and not (operation.query or operation.body):
            continue  # it takes nothing, or any name: whatever is sent to it is allowed
        try:
            _ask(operation, mode)
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, operation.label
        except Exception as error:
            wrong.append(f"{operation.label}: {error!r} {getattr(error, 'exceptions', '')}")
    assert wrong == []
