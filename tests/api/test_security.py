"""Middlewares: hosts, keys, bodies, and the headers of every reply."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serve_app import secret_files
from serve_app.api import unread
from serve_app.api.keys import add_key
from tests.api.harness import (
    ORDER,
    LocalTransport,
    assert_problem,
    keys_of,
    make_app,
    ordered,
    serving,
)
from tests.factories import JOB_ID
from tests.jobs.harness import World
from tests.serving import WAIT_S

# ---- hosts ----


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
async def test_allowed_hosts_may_ask(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/healthz", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "localhost:x", "", "::1"]
)
async def test_other_hosts_are_refused(client: httpx.AsyncClient, host: str) -> None:
    response = await client.get("/healthz", headers={"Host": host})
    assert_problem(response, 400, "host_not_allowed")


async def test_any_host_may_ask_where_keys_are_needed(
    transport: LocalTransport, tmp_path: Path
) -> None:
    keys_of(tmp_path / "keys", "studio")
    app = make_app(transport, api_keys_file=tmp_path / "keys", allowed_hosts=["*"])
    async with serving(app) as client:
        response = await client.get("/healthz", headers={"Host": "assets.example"})
    assert response.status_code == 200


# ---- keys ----


async def test_the_key_says_whose_job_it_is(transport: LocalTransport, tmp_path: Path) -> None:
    """In either header; and one owner's job does not exist for another."""
    key = add_key(tmp_path / "keys", "ours")
    (other,) = keys_of(tmp_path / "keys", "theirs")
    async with serving(make_app(transport, api_keys_file=tmp_path / "keys")) as client:
        bearer = {"Authorization": f"Bearer {key}"}
        job = (await client.post("/v1/generate", json=ORDER, headers=bearer)).json()
        assert (await transport.world.look(job["job_id"]))["owner"] == "ours"
        for headers in (bearer, {"X-API-Key": key}):
            assert (await client.get(job["urls"]["self"], headers=headers)).status_code == 200
        missing = await client.get(job["urls"]["self"], headers=other)
        unknown = await client.get(f"/v1/jobs/{JOB_ID}", headers=other)
    assert_problem(missing, 404, "not_found")
    assert missing.json()["detail"] == unknown.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic d3Jvbmc="},
        {"X-API-Key": "wrong"},
        {"X-API-Key": hashlib.sha256(b"the hash is no key").hexdigest()},
    ],
)
@pytest.mark.parametrize("path", ["/v1/generate", f"/v1/jobs/{JOB_ID}", "/v1/styles"])
async def test_without_a_key_is_401(
    transport: LocalTransport, tmp_path: Path, headers: dict[str, str], path: str
) -> None:
    digest = hashlib.sha256(b"the hash is no key").hexdigest()
    (tmp_path / "keys").write_text(f"studio:{hashlib.sha256(b'right').hexdigest()}\nx:{digest}\n")
    async with serving(make_app(transport, api_keys_file=tmp_path / "keys")) as client:
        method = "POST" if path == "/v1/generate" else "GET"
        response = await client.request(method, path, headers=headers)
    assert_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        ("read", {"GET /v1/jobs", "POST /v1/inspect"}),
        ("order", {"POST /v1/generate", "DELETE /v1/jobs/x", "PATCH /v1/jobs/x"}),
        ("admin", set[str]()),
        ("read,order", {"GET /v1/jobs", "POST /v1/inspect", "POST /v1/generate"}),
    ],
)
async def test_a_key_does_what_its_scopes_say(
    transport: LocalTransport, tmp_path: Path, scopes: str, allowed: set[str]
) -> None:
    key = add_key(tmp_path / "keys", "anna", f"scopes={scopes}")
    requests = ["GET /v1/jobs", "POST /v1/inspect", "POST /v1/generate"]
    if scopes != "read,order":
        requests += ["DELETE /v1/jobs/x", "PATCH /v1/jobs/x"]
    async with serving(make_app(transport, api_keys_file=tmp_path / "keys")) as client:
        for wanted in requests:
            method, path = wanted.split()
            reply = await client.request(method, path, headers={"X-API-Key": key})
            assert (reply.status_code != 403) == (wanted in allowed), wanted
            if reply.status_code == 403:
                problem = assert_problem(reply, 403, "forbidden")
                assert problem["errors"][0]["field"] == "scopes"
                assert f"yours has {scopes}" in problem["detail"]


async def test_a_key_sends_no_more_than_its_rate(transport: LocalTransport, tmp_path: Path) -> None:
    """Another key of the same owner has its own, and what needs no key is not counted."""
    key, other = add_key(tmp_path / "keys", "anna", "rate=2/h"), add_key(tmp_path / "keys", "anna")
    async with serving(make_app(transport, api_keys_file=tmp_path / "keys")) as client:
        for _ in range(2):
            reply = await client.get("/v1/jobs", headers={"X-API-Key": key})
            assert reply.status_code == 200
        problem = assert_problem(
            reply := await client.get("/v1/jobs", headers={"X-API-Key": key}),
            429,
            "rate_exceeded",
        )
        assert problem["errors"][0]["field"] == "rate"
        assert 1700 < int(reply.headers["retry-after"]) <= 1800
        assert (await client.get("/v1/jobs", headers={"X-API-Key": other})).status_code == 200
        assert (await client.get("/healthz", headers={"X-API-Key": key})).status_code == 200


async def test_open_paths_need_no_key(
    world: World, transport: LocalTransport, tmp_path: Path
) -> None:
    keys_of(tmp_path / "keys", "studio")
    (world.files.root / "a.png").write_bytes(b"png")
    async with serving(make_app(transport, api_keys_file=tmp_path / "keys")) as client:
        for path in ("/healthz", "/readyz", "/openapi.json", "/docs", "/output/a.png"):
            assert (await client.get(path)).status_code == 200, path


async def test_a_revoked_key_is_refused_at_once(
    transport: LocalTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as the file is looked at again."""
    monkeypatch.setattr(secret_files, "LOOK_EVERY_S", 0.0)
    path = tmp_path / "keys"
    first, second = keys_of(path, "studio", "artist")
    async with serving(make_app(transport, api_keys_file=path)) as client:
        assert (await client.get("/v1/styles", headers=first)).status_code == 200
        path.write_text(path.read_text().splitlines()[1] + "\n")
        assert (await client.get("/v1/styles", headers=first)).status_code == 401
        assert (await client.get("/v1/styles", headers=second)).status_code == 200


# ---- bodies ----


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_another_content_type_is_415(
    client: httpx.AsyncClient, media_type: str | None
) -> None:
    """A form is what a page of another site can send."""
    headers = {"content-type": media_type} if media_type else {}
    job = await ordered(client)
    for path in ("/v1/generate", job["urls"]["cancel"]):
        response = await client.post(path, content=b"{}", headers=headers)
        assert_problem(response, 415, "unsupported_media_type")


async def test_five_megabytes_are_413(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/generate", json=ORDER | {"prompt": "x" * 5_000_000})
    assert_problem(response, 413, "body_too_large")


async def test_a_streamed_body_is_counted(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Content-Length, and not kept to its end."""
    monkeypatch.setattr(unread, "MOST_AT_ONCE", 0)
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b" " * 8192

    headers = {"content-type": "application/json"}
    response = await client.post("/v1/generate", content=chunks(), headers=headers)
    assert_problem(response, 413, "body_too_large")
    assert sent <= 10


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"prompt": "caf\xe9"}', "not UTF-8 (at byte 15)"),
        (b'{"prompt": "\xc0\xae"}', "not UTF-8"),
        ('{"prompt": "a castle"}'.encode("utf-16"), "not UTF-8 but utf-16"),
        ('{"prompt": "a castle"}'.encode("utf-16-le"), "not UTF-8 but utf-16-le"),
        ('{"prompt": "a castle"}'.encode("utf-32"), "not UTF-8 but utf-32"),
        (b"[" * 60_000, "nested too deep"),
        (b'{"seed": ' + b"1" * 5000 + b"}", "too many digits"),
        (b'{"prompt": ', "not JSON"),
        (b"\x00", "not JSON"),
    ],
)
async def test_what_is_wrong_with_a_body_is_said(
    client: httpx.AsyncClient, body: bytes, why: str
) -> None:
    headers = {"content-type": "application/json"}
    response = await client.post("/v1/generate", content=body, headers=headers)
    assert why in assert_problem(response, 400, "invalid_json")["detail"]


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "GZIP"])
async def test_a_compressed_body_is_415(client: httpx.AsyncClient, coding: str) -> None:
    body = gzip.compress(json.dumps(ORDER).encode())
    headers = {"content-type": "application/json", "content-encoding": coding}
    response = await client.post("/v1/generate", content=body, headers=headers)
    problem = assert_problem(response, 415, "unsupported_media_type")
    assert "Content-Encoding" in problem["detail"]


async def silence(
    app: FastAPI, method: str, path: str, sent: bytes = b""
) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer to a body of which no more than `sent` comes."""
    answer: list[dict[str, Any]] = []
    answered = asyncio.Event()
    pieces = [{"type": "http.request", "body": sent, "more_body": True}] if sent else []

    async def receive() -> dict[str, Any]:
        return pieces.pop() if pieces else await asyncio.Future[dict[str, Any]]()

    async def send(message: Any) -> None:
        answer.append(message)
        if message["type"] == "http.response.body":
            answered.set()

    headers = [
        (b"host", b"localhost"),
        (b"content-type", b"application/json"),
        (b"transfer-encoding", b"chunked"),
    ]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    asked = {**scope, "query_string": b"", "root_path": ""}
    asking = asyncio.create_task(app(asked, receive, send))
    async with asyncio.timeout(WAIT_S):
        await answered.wait()
    asking.cancel()
    named = {name.decode(): value.decode() for name, value in answer[0]["headers"]}
    return answer[0]["status"], named


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/healthz", 405),
        ("POST", "/output/x.png", 405),
        ("POST", "/docs", 405),
        ("POST", "/docs/static/swagger-ui.css", 405),
        ("POST", f"/v1/jobs/{JOB_ID}", 405),
        ("PUT", "/v1/generate", 405),
        ("POST", "/nowhere", 404),
    ],
)
async def test_no_body_is_waited_for_where_none_belongs(
    app: FastAPI, method: str, path: str, status: int
) -> None:
    assert (await silence(app, method, path))[0] == status


@pytest.mark.parametrize("sent", [b"", b'{"prompt": '])
async def test_a_body_that_comes_too_slowly_is_408(transport: LocalTransport, sent: bytes) -> None:
    app = make_app(transport, body_timeout_s=0.01)
    status, headers = await silence(app, "POST", "/v1/generate", sent)
    assert (status, headers["content-type"]) == (408, "application/problem+json")
    assert headers["connection"] == "close"


# ---- replies ----


async def test_every_answer_is_hardened_and_named(client: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/nowhere", "/v1/styles", "/output/x.png"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-request-id"]


async def test_a_named_request_keeps_its_name(client: httpx.AsyncClient) -> None:
    """Ray's proxy names requests and sends the name back itself: a second header would be one too
    many."""
    response = await client.get("/healthz", headers={"X-Request-Id": "from-the-proxy"})
    assert "x-request-id" not in response.headers
