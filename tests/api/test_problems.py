"""Errors: one shape for all, and nothing of the inside in it."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
import pytest

from serve_app.messages import JobView
from tests.api.harness import UNKNOWN_ID, MemoryRegistry, assert_problem, make_app, serving


class BrokenRegistry(MemoryRegistry):
    message = "a prompt: /srv/secret/path"

    async def get(self, job_id: str) -> JobView | None:
        raise RuntimeError(self.message)


async def test_a_bug_is_500_and_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the frames under the id the client was given, and no message above DEBUG."""
    async with serving(make_app(BrokenRegistry(), tmp_path)) as client:
        with caplog.at_level(logging.INFO, logger="assets"):
            response = await client.get(f"/v1/jobs/{UNKNOWN_ID}")
    assert_problem(response, 500, "internal")
    assert "secret" not in response.text
    assert response.headers["x-request-id"] in response.json()["detail"]
    assert response.headers["x-request-id"] in caplog.text
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


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


async def test_a_named_request_keeps_its_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ray's proxy names requests and sends the name back itself: a second header would be one too
    many."""
    async with serving(make_app(BrokenRegistry(), tmp_path)) as client:
        headers = {"X-Request-Id": "from-the-proxy"}
        response = await client.get(f"/v1/jobs/{UNKNOWN_ID}", headers=headers)
    assert "x-request-id" not in response.headers
    assert "from-the-proxy" in response.json()["detail"]
    assert "from-the-proxy" in caplog.text


async def test_readiness_tells_the_reason(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    assert (await client.get("/readyz")).json() == {"status": "ok"}
    registry.reason = "No renderer is up."
    body = assert_problem(await client.get("/readyz"), 503, "unavailable")
    assert body["detail"] == "No renderer is up."
    registry.down = True
    assert_problem(await client.get("/readyz"), 503, "unavailable")
    assert (await client.get("/healthz")).status_code == 200
