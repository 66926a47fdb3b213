"""Every route that makes a job reads the headers of an order: for whom, how long held, how long it lives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.api.harness import ORDER, assert_problem
from tests.api.studio import drawn, sprite
from tests.jobs.harness import World

Ordering = Callable[[httpx.AsyncClient, World], Awaitable[tuple[str, dict[str, Any]]]]
"""Path and body of an order, with the jobs that it needs."""


async def generate(client: httpx.AsyncClient, world: World) -> tuple[str, dict[str, Any]]:
    return "/v1/generate", ORDER


async def retry(client: httpx.AsyncClient, world: World) -> tuple[str, dict[str, Any]]:
    return f"/v1/jobs/{await drawn(world, client, sprite())}/retry", {}


async def derive(client: httpx.AsyncClient, world: World) -> tuple[str, dict[str, Any]]:
    job_id = await drawn(world, client, sprite())
    return f"/v1/jobs/{job_id}/derive", {"effects": [{"op": "trim"}]}


async def sheet(client: httpx.AsyncClient, world: World) -> tuple[str, dict[str, Any]]:
    return "/v1/sheets", {"items": [{"job_id": await drawn(world, client, sprite())}]}


ALL = pytest.mark.parametrize("ordering", [generate, retry, derive, sheet])


@ALL
async def test_a_wait_is_granted(
    client: httpx.AsyncClient, world: World, ordering: Ordering
) -> None:
    path, body = await ordering(client, world)
    reply = await client.post(path, json=body, headers={"Prefer": "wait=0"})
    assert (reply.status_code, reply.headers["preference-applied"]) == (202, "wait=0")


@ALL
async def test_a_deadline_counts_from_the_order(
    client: httpx.AsyncClient, world: World, ordering: Ordering
) -> None:
    path, body = await ordering(client, world)
    job = (await client.post(path, json=body, headers={"Cancel-After": "1h30m"})).json()
    created, deadline = (datetime.fromisoformat(job[name]) for name in ("created_at", "deadline"))
    assert (deadline - created).total_seconds() == pytest.approx(5400, abs=1e-3)
    wrong = await client.post(path, json=body, headers={"Cancel-After": "soon"})
    assert_problem(wrong, 422, "invalid_field")


@pytest.mark.parametrize("ordering", [generate, derive, sheet])
async def test_it_counts_for_who_orders(
    client: httpx.AsyncClient, world: World, ordering: Ordering
) -> None:
    """A retry counts for whom the job counted that it repeats."""
    path, body = await ordering(client, world)
    reply = await client.post(path, json=body, headers={"X-Client-Id": "editor"})
    assert (await world.look(reply.json()["job_id"]))["labels"]["client"] == "editor"


@ALL
async def test_a_wrong_name_is_refused(
    client: httpx.AsyncClient, world: World, ordering: Ordering
) -> None:
    path, body = await ordering(client, world)
    reply = await client.post(path, json=body, headers={"X-Client-Id": "not a name"})
    assert_problem(reply, 422, "invalid_field")
