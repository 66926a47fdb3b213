"""Probes: the process answers, or a job would be served."""

from __future__ import annotations

import httpx

from tests.api.harness import LocalTransport, assert_problem


async def test_readiness_tells_the_reason(
    client: httpx.AsyncClient, transport: LocalTransport
) -> None:
    assert (await client.get("/readyz")).json() == {"status": "ok"}
    transport.reason = "No renderer is up."
    body = assert_problem(await client.get("/readyz"), 503, "unavailable")
    assert body["detail"] == "No renderer is up."
    transport.down = True
    body = assert_problem(await client.get("/readyz"), 503, "unavailable")
    assert "registry" in body["detail"]


async def test_a_process_answers_also_without_a_registry(
    client: httpx.AsyncClient, transport: LocalTransport
) -> None:
    transport.down = True
    assert (await client.get("/healthz")).json() == {"status": "ok"}
