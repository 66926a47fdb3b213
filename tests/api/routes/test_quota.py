"""Everybody sees what their key may do and what they use; an order beyond it is a problem that says which."""

from __future__ import annotations

from pathlib import Path

from serve_app.api.keys import add_key
from tests.api.harness import ORDER, LocalTransport, assert_problem, limit, make_app, serving
from tests.jobs.harness import World

GRANT = "scopes=read,order rate=1000/s waiting_jobs=1 kept_bytes=5MB"


async def test_what_is_used_stands_beside_what_is_allowed(
    world: World, transport: LocalTransport, tmp_path: Path
) -> None:
    limit(world, max_in_flight=0)
    headers = {"X-API-Key": add_key(tmp_path / "keys", "anna", GRANT)}
    async with serving(make_app(transport, api_keys_file=tmp_path / "keys")) as client:
        client.headers.update(headers)
        assert (await client.post("/v1/generate", json=ORDER)).status_code == 202
        told = (await client.get("/v1/quota")).json()
        ends = told.pop("day_ends_at")
        assert ends.endswith("T00:00:00Z")
        assert told == {
            "owner": "anna",
            "scopes": ["read", "order"],
            "rate": "1000/s",
            "waiting_jobs": {"used": 1, "limit": 1},
            "device_seconds": {"used": 0, "limit": None},
            "kept_bytes": {"used": 0, "limit": 5_000_000},
        }
        reply = await client.post("/v1/generate", json=ORDER)
        problem = assert_problem(reply, 429, "quota_waiting_jobs")
        assert problem["errors"][0]["field"] == "waiting_jobs"
        batch = {"orders": [ORDER] * 2}
        assert_problem(await client.post("/v1/batches", json=batch), 403, "quota_waiting_jobs")


async def test_a_quota_of_zero_is_forbidden_and_so_it_says(
    transport: LocalTransport, tmp_path: Path
) -> None:
    headers = {"X-API-Key": add_key(tmp_path / "keys", "anna", "device_seconds=0")}
    async with serving(make_app(transport, api_keys_file=tmp_path / "keys")) as client:
        reply = await client.post("/v1/generate", json=ORDER, headers=headers)
        problem = assert_problem(reply, 403, "quota_device_seconds")
        assert problem["errors"] == [
            {
                "field": "device_seconds",
                "detail": "device_seconds is 0: nothing may be ordered with your key.",
            }
        ]


async def test_without_keys_nothing_is_bounded(transport: LocalTransport) -> None:
    async with serving(make_app(transport)) as client:
        told = (await client.get("/v1/quota")).json()
    assert (told["owner"], told["scopes"]) == ("local", ["read", "order", "admin"])
    assert told["waiting_jobs"]["limit"] is None
