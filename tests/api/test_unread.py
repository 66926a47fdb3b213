"""Answers that come before a body was read: who sends all of it first reads them too. Over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.api import unread
from tests.api.harness import LocalTransport, keys_of, make_app
from tests.factories import JOB_ID
from tests.serving import WAIT_S, listening

LARGE = 40_000_000
JSON = "Content-Type: application/json"
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def connected(client: httpx.AsyncClient) -> AsyncGenerator[Stream]:
    url = client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        async with asyncio.timeout(WAIT_S):
            yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def head(ask: str, *headers: str) -> bytes:
    """The server closes a connection that was asked for with `close` as soon as it has answered."""
    lines = (f"{ask} HTTP/1.1", "Host: localhost", "Connection: close", *headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    """Status and problem of an answer that is read to its end."""
    top, _, body = (await reader.read()).partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(body)


def chunked(size: int) -> bytes:
    piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    return piece * (size // 0x10000) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("ask", "kind", "status"),
    [
        ("POST /v1/inspect", "Content-Type: image/png", 413),
        ("POST /v1/generate", JSON, 413),
        ("POST /v1/sheets", JSON, 413),
        (f"POST /v1/jobs/{JOB_ID}/derive", JSON, 413),
        ("POST /v1/generate", "Content-Type: text/plain", 415),
        ("PUT /v1/generate", JSON, 405),
        ("POST /nowhere", JSON, 404),
        (f"GET /v1/jobs/{JOB_ID}", JSON, 404),
        ("GET /output/x.png", JSON, 404),
    ],
)
@pytest.mark.parametrize("announced", [True, False])
async def test_who_sends_all_of_a_body_first_reads_the_answer(
    transport: LocalTransport, ask: str, kind: str, status: int, announced: bool
) -> None:
    """With its length, and in chunks."""
    if announced:
        request = head(ask, kind, f"Content-Length: {LARGE}") + bytes(LARGE)
    else:
        request = head(ask, kind, "Transfer-Encoding: chunked") + chunked(LARGE)
    async with (
        listening(make_app(transport)) as client,
        connected(client) as (reader, writer),
    ):
        writer.write(request)
        await writer.drain()
        assert writer.transport.get_write_buffer_size() < LARGE // 2
        told, problem = await answer(reader)
    assert (told, problem["status"]) == (status, status)


async def test_a_wrong_key_is_told_to_who_sends_first(
    transport: LocalTransport, tmp_path: Path
) -> None:
    keys_of(tmp_path / "keys", "studio")
    app = make_app(transport, api_keys_file=tmp_path / "keys")
    async with listening(app) as client, connected(client) as (reader, writer):
        request = head("POST /v1/inspect", "Content-Type: image/png", f"Content-Length: {LARGE}")
        writer.write(request + bytes(LARGE))
        assert (await answer(reader))[1]["code"] == "unauthorized"


async def test_the_answer_does_not_wait_for_the_rest(
    transport: LocalTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads while it sends may stop. Who was told to wait for `100 Continue` is not told to go on."""
    monkeypatch.setattr(unread, "IDLE_S", WAIT_S)
    length = f"Content-Length: {LARGE}"
    asked = head("POST /v1/inspect", "Content-Type: image/png", length, "Expect: 100-continue")
    async with listening(make_app(transport)) as client, connected(client) as (reader, writer):
        writer.write(asked)
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        assert json.loads((await reader.readuntil(b"}")).partition(b"\r\n\r\n")[2])["status"] == 413


@pytest.mark.parametrize("limit", ["IDLE_S", "MOST_S", "MOST_BYTES", "MOST_AT_ONCE"])
async def test_the_rest_is_waited_for_within_limits(
    transport: LocalTransport, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Each of them ends the connection of a client that sends a little and stays."""
    for name in ("IDLE_S", "MOST_S"):
        monkeypatch.setattr(unread, name, 10 * WAIT_S)
    monkeypatch.setattr(unread, limit, 0)
    asked = head("POST /nowhere", JSON, f"Content-Length: {LARGE}")
    async with listening(make_app(transport)) as client, connected(client) as (reader, writer):
        writer.write(asked + bytes(10))
        assert (await answer(reader))[0] == 404  # read to its end: the server has closed


async def test_an_answer_to_all_of_a_body_is_not_held(
    transport: LocalTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the connection goes on."""
    monkeypatch.setattr(unread, "_read_on", None)
    wrong = b'{"prompt": "a castle", "colour": "red"}'
    asked = head("POST /v1/generate", JSON, f"Content-Length: {len(wrong)}")
    asked = asked.replace(b"Connection: close\r\n", b"")
    async with listening(make_app(transport)) as client, connected(client) as (reader, writer):
        for _ in range(2):
            writer.write(asked + wrong)
            top = await reader.readuntil(b"\r\n\r\n")
            assert top.startswith(b"HTTP/1.1 422 ")
            (length,) = (x for x in top.splitlines() if x.startswith(b"content-length"))
            await reader.readexactly(int(length.split()[1]))
