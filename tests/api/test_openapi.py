"""The server against its OpenAPI document: Schemathesis makes requests from it and checks the answers."""

from collections.abc import Mapping
from typing import Any, cast

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from provisioner.core.protocol.words import STREAMS
from tests.api.served import Server, recipe

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
#: Paths that answer 503 without a daemon or a cloud, which is correct here.
AWAY = {"/readyz", "/api/info/servers"}
#: A generated value of one of these headers makes the request invalid (RFC 9112) or the answer endless.
FRAMING = {"accept", "connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"}
#: Examples for each operation, role and generation mode.
EXAMPLES = 10


@pytest.fixture(scope="module")
def document(quiet: Server) -> dict[str, Any]:
    with quiet.client() as client:
        found: dict[str, Any] = client.get("/api/openapi.json").json()
    return found


@pytest.mark.parametrize("role", ["admin", "user", "nobody"])
def test_every_answer_is_a_documented_one(quiet: Server, document: dict[str, Any], role: str) -> None:
    """Requests that fit the document, and requests that do not, get documented answers; no answer is a 500."""
    job = quiet.service.jobs.apply(recipe("job", "ann"), "the test's recipe")
    there = {"job": job.id, "run": quiet.service.runs.start(job.id, {}).id}
    token = "" if role == "nobody" else quiet.token("ann", admin=role == "admin")
    with quiet.client(token, **{"X-Forwarded-For": "192.0.2.7"}) as client:
        for mode in GenerationMode:
            for found in schemathesis.openapi.from_dict(document).get_all_operations():
                operation = cast(Any, found).ok()
                told = operation.definition.raw
                # An operation without parameters and body has no invalid request.
                if mode is GenerationMode.POSITIVE or "parameters" in told or "requestBody" in told:
                    _hold(operation, client, mode, there)


def _hold(operation: Any, client: httpx.Client, mode: GenerationMode, there: Mapping[str, str]) -> None:
    # Do not shrink a failing example: that takes minutes.
    @settings(max_examples=EXAMPLES, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode), real=st.booleans())
    def answered(case: Any, real: bool) -> None:
        for name in (case.path_parameters or {}).keys() & there.keys() if real else ():
            case.path_parameters[name] = there[name]
        for name in [name for name in case.headers or () if name.lower() in FRAMING]:
            del case.headers[name]
        if operation.path not in AWAY:
            headers = {name: value for name, value in client.headers.items() if name != "accept"}
            response = case.call(base_url=str(client.base_url), headers=headers)
            case.validate_response(response, checks=CHECKS)

    answered()


def test_every_operation_is_documented(document: dict[str, Any]) -> None:
    """Each operation has an id, a summary, a description, an example answer, and a text for each status."""
    ids = []
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            where = f"{method} {path}"
            ids.append(told["operationId"])
            assert told["summary"], where
            assert told["description"], where
            assert "422" not in told["responses"], where
            for status, answer in told["responses"].items():
                assert answer["description"], (where, status)
                if status.startswith("2") and "application/json" in answer.get("content", {}):
                    assert "example" in answer["content"]["application/json"], where
            for parameter in told.get("parameters", ()):
                assert parameter["description"], (where, parameter["name"])
    assert len(set(ids)) == len(ids)


def test_the_document_names_what_is_streamed(document: dict[str, Any]) -> None:
    """The document lists the streams of the protocol."""
    told = next(
        each for each in document["paths"]["/api/runs/{run}/logs"]["get"]["parameters"] if each["name"] == "stream"
    )
    assert [*STREAMS] == told["schema"]["anyOf"][0]["items"]["enum"]
