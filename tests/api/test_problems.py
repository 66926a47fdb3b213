"""Errors: one shape for all, and nothing of the inside in it."""

from __future__ import annotations

import logging

import httpx
import pytest
from fastapi.exceptions import RequestValidationError

from serve_app.api.problems import Refused, answer
from serve_app.errors import ConfigError, InvalidField, InvalidParameter, ServiceError
from serve_app.messages import JobError
from tests.api.harness import LocalTransport, assert_problem
from tests.factories import JOB_ID


@pytest.fixture
def bug(transport: LocalTransport) -> RuntimeError:
    """What a registry with a bug raises when it is asked for a job."""
    transport.failures["get"] = bug = RuntimeError("a prompt: /srv/secret/path")
    return bug


async def test_a_bug_is_500_and_says_nothing(
    client: httpx.AsyncClient, bug: RuntimeError, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the frames under the id the client was given, and no message above DEBUG."""
    with caplog.at_level(logging.INFO, logger="assets"):
        response = await client.get(f"/v1/jobs/{JOB_ID}")
    assert_problem(response, 500, "internal")
    assert "secret" not in response.text
    assert response.headers["x-request-id"] in response.json()["detail"]
    assert response.headers["x-request-id"] in caplog.text
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


async def test_a_bug_is_logged_under_the_name_that_the_proxy_gave(
    client: httpx.AsyncClient, bug: RuntimeError, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"X-Request-Id": "from-the-proxy"}
    response = await client.get(f"/v1/jobs/{JOB_ID}", headers=headers)
    assert "from-the-proxy" in response.json()["detail"]
    assert "from-the-proxy" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/styles/", 404, "not_found"),
        ("DELETE", "/v1/styles", 405, "method_not_allowed"),
        ("GET", "/v1/generate", 405, "method_not_allowed"),
    ],
)
async def test_starlettes_own_errors_are_problems(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    body = assert_problem(await client.request(method, path), status, code)
    assert body["instance"] == path


@pytest.mark.parametrize(
    ("code", "status", "after", "header"),
    [
        ("queue_full", 429, 7.2, "8"),
        ("too_late", 503, 1, "1"),
        ("storage_failed", 503, 5, "5"),
        ("newer than this code", 503, None, "2"),
        ("idempotency_key_reuse", 422, None, None),
        ("deleted", 410, None, None),
    ],
)
def test_a_refusal_says_when_to_come_back(
    code: str, status: int, after: float | None, header: str | None
) -> None:
    """In whole seconds, rounded up."""
    error = JobError(code=code, title="Refused", detail="Not now.", retryable=True)
    response = answer(Refused(error, after), "/v1/generate", "")
    assert (response.status_code, response.headers.get("retry-after")) == (status, header)


@pytest.mark.parametrize(
    ("kind", "pointer"), [(InvalidField, b"#/a~1b~0"), (InvalidParameter, b"")]
)
def test_a_field_of_the_body_has_a_pointer_and_a_header_has_none(
    kind: type[InvalidField], pointer: bytes
) -> None:
    body = bytes(answer(kind("a/b~", "wrong", ["right"]), "/x", "").body)
    assert (b'"pointer":"%s"' % pointer in body) == bool(pointer)
    assert b'"detail":"wrong","allowed":["right"]' in body


def test_an_error_of_the_server_shows_no_path() -> None:
    response = answer(ConfigError("/srv/secret/styles.yaml:3: wrong"), "/x", "")
    assert b"secret" not in bytes(response.body)


def test_what_json_can_name_and_utf8_cannot_is_escaped() -> None:
    unknown = {"type": "extra_forbidden", "loc": ("body", "\ud800"), "msg": "Unknown"}
    response = answer(RequestValidationError([unknown]), "/\udfff", "")
    assert response.status_code == 422
    assert b"ud800" in bytes(response.body)


def test_every_deliberate_error_has_a_status() -> None:
    """Those of a render attempt are 500: they reach clients only as the `error` of a job. 502: an answer was
    held for a job, which has failed."""

    def children(kind: type[ServiceError]) -> list[type[ServiceError]]:
        return [kind, *(c for child in kind.__subclasses__() for c in children(child))]

    for kind in children(ServiceError):
        assert kind.status in (400, 401, 403, 404, 409, 410, 422, 429, 500, 502, 503), kind
