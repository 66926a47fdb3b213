"""Cors: pages of other origins, which browsers keep out unless the service lets them in."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.api.harness import (
    ORDER,
    LocalTransport,
    assert_problem,
    keys_of,
    make_app,
    serving,
)

EDITOR = {"Origin": "https://editor.example"}
PREFLIGHT = EDITOR | {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, idempotency-key, prefer",
}


async def test_no_page_is_let_in_by_itself(client: httpx.AsyncClient) -> None:
    answers = [
        await client.get("/v1/styles", headers=EDITOR),
        await client.options("/v1/generate", headers=PREFLIGHT),
    ]
    for answer in answers:
        assert not any(name.startswith("access-control") for name in answer.headers)
    assert answers[1].status_code == 405


async def test_a_page_of_an_allowed_origin_may_order_and_read_every_answer(
    transport: LocalTransport, tmp_path: Path
) -> None:
    """Also why it was refused. The preflight has no key, as browsers send it."""
    (key,) = keys_of(tmp_path / "keys", "studio")
    app = make_app(
        transport, api_keys_file=tmp_path / "keys", cors_origins="https://editor.example"
    )
    async with serving(app) as client:
        preflight = await client.options("/v1/generate", headers=PREFLIGHT)
        ordered = await client.post("/v1/generate", json=ORDER, headers=EDITOR | key)
        refused = await client.get("/v1/styles", headers=EDITOR)
        other = await client.get("/v1/styles", headers=key | {"Origin": "https://evil.example"})
    assert preflight.status_code == 200
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert ordered.status_code == 202
    assert "Location" in ordered.headers["access-control-expose-headers"]
    assert_problem(refused, 401, "unauthorized")
    for answer in (preflight, ordered, refused):
        assert answer.headers["access-control-allow-origin"] == "https://editor.example"
        assert "access-control-allow-credentials" not in answer.headers
    assert "access-control-allow-origin" not in other.headers


async def test_a_refused_preflight_is_a_problem(transport: LocalTransport) -> None:
    async with serving(make_app(transport, cors_origins=["https://editor.example"])) as client:
        headers = PREFLIGHT | {"Origin": "https://evil.example"}
        response = await client.options("/v1/generate", headers=headers)
    problem = assert_problem(response, 400, "cors_refused")
    assert "origin" in problem["detail"]
    assert "access-control-allow-origin" not in response.headers
