"""The HTTP side on the real registry and its store, without Ray: the two speak the same words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.api.app import create_app
from serve_app.config import Settings
from serve_app.messages import (
    JobFilter,
    JobPage,
    JobView,
    SubmitOrder,
    SubmitReply,
    Tombstone,
    WatchReply,
)
from tests.api.harness import MODELS, ORDER, STYLES, assert_problem, serving
from tests.jobs.harness import World


class InProcessRegistry:
    """RegistryPort over the registry of a World, whichever lives."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def submit(self, order: SubmitOrder) -> SubmitReply:
        return await self.world.registry.submit(order)

    async def get(self, job_id: str) -> JobView | Tombstone | None:
        return await self.world.registry.get(job_id)

    async def cancel(self, job_id: str, owner: str) -> JobView | Tombstone | None:
        return await self.world.registry.cancel(job_id, owner)

    async def delete(self, job_id: str, owner: str) -> Tombstone | None:
        return await self.world.registry.delete(job_id, owner)

    async def page(
        self, owner: str, wanted: JobFilter, limit: int, before: int | None, after: int | None
    ) -> JobPage:
        return await self.world.registry.page(owner, wanted, limit, before, after)

    async def estimate(self, params: dict[str, Any], client: str) -> float | None:
        return self.world.registry.estimate(params, client)

    async def show(self, job_id: str) -> None:
        await self.world.registry.show(job_id)

    async def watch(self, epoch: int, seq: int, timeout_s: float) -> WatchReply:
        return await self.world.registry.watch(epoch, seq, timeout_s)

    async def readiness(self) -> str | None:
        return None


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    async with World(tmp_path, {"max_pending": 5}) as world:
        yield world


@pytest.fixture
async def client(world: World) -> AsyncGenerator[httpx.AsyncClient]:
    given = {"output_dir": world.files.root, "state_dir": world.directory / "state"}
    app = create_app(
        Settings.model_validate(given),
        InProcessRegistry(world),
        styles=STYLES,
        models=MODELS,
        active="tiny",
        revision_of=lambda name: f"{name}-weights",
    )
    async with serving(app) as client:
        yield client


async def order(client: httpx.AsyncClient, **headers: str) -> dict[str, Any]:
    response = await client.post("/v1/generate", json=ORDER, headers=headers)
    assert response.status_code == 202, response.text
    return response.json()


async def until(
    client: httpx.AsyncClient, world: World, job: dict[str, Any], status: str
) -> dict[str, Any]:
    """Poll whenever the registry says that something changed."""
    seq = 0
    async with asyncio.timeout(10):
        while (shown := (await client.get(job["urls"]["self"])).json())["status"] != status:
            seq = (await world.registry.watch(world.registry.epoch, seq, 0.05))["seq"]
    return shown


async def test_an_order_becomes_a_file(client: httpx.AsyncClient, world: World) -> None:
    """Order, poll, fetch."""
    job = await order(client)
    await world.draw(job["job_id"])
    done = await until(client, world, job, "SUCCESS")
    (url,) = done["result_urls"]
    response = await client.get(url)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert len(response.content) == done["images"][0]["size_bytes"]
    assert done["metrics"]["execution_ms"] is not None


async def test_a_key_is_kept_by_the_store(client: httpx.AsyncClient, world: World) -> None:
    """Also by the next life of the registry."""
    job = await order(client, **{"Idempotency-Key": "one"})
    await world.die_and_rise()
    again = await order(client, **{"Idempotency-Key": "one"})
    assert again["job_id"] == job["job_id"]
    other = {"Idempotency-Key": "one"}
    response = await client.post("/v1/generate", json=ORDER | {"n": 2}, headers=other)
    assert_problem(response, 422, "idempotency_key_reuse")


async def test_a_full_line_is_429(client: httpx.AsyncClient) -> None:
    replies = [await client.post("/v1/generate", json=ORDER) for _ in range(20)]
    assert replies[0].status_code == 202
    assert_problem(replies[-1], 429, "queue_full")


async def test_a_restarted_registry_is_followed(client: httpx.AsyncClient, world: World) -> None:
    """The view starts over with the new epoch; the job is there, and goes on."""
    job = await order(client)
    await world.started(job["job_id"])
    await until(client, world, job, "STARTED")
    await world.die_and_rise()
    await world.draw(job["job_id"], fence=2)
    done = await until(client, world, job, "SUCCESS")
    assert len(done["result_urls"]) == 1
