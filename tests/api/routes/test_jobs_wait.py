"""`Prefer: wait`, of an order and of a read: the answer is held until the job is final."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI

from tests.api.harness import (
    ORDER,
    LocalTransport,
    ordered,
    service_of,
)
from tests.factories import TERMINAL
from tests.jobs.harness import World


@pytest.mark.parametrize(
    "prefer", ["wait=30", "respond-async, wait=30", 'WAIT="30"', "wait = 30; x=y", "a=b,wait=30"]
)
async def test_an_order_is_held_until_it_is_final(
    client: httpx.AsyncClient, world: World, prefer: str
) -> None:
    held = asyncio.create_task(client.post("/v1/generate", json=ORDER, headers={"Prefer": prefer}))
    await world.until(lambda: world.launcher.running)
    ((job_id, _),) = world.launcher.running
    await world.draw(job_id)
    response = await asyncio.wait_for(held, 20)
    assert (response.status_code, response.json()["status"]) == (200, "SUCCESS")
    assert response.headers["preference-applied"] == "wait=30"
    assert response.headers["location"] == response.json()["urls"]["self"]
    assert "retry-after" not in response.headers
    assert (await client.get(response.json()["result_urls"][0])).status_code == 200


async def test_a_read_is_held_until_the_job_is_final(
    client: httpx.AsyncClient, world: World
) -> None:
    job = await ordered(client)
    held = asyncio.create_task(client.get(job["urls"]["self"], headers={"Prefer": "wait=30"}))
    await world.draw(job["job_id"])
    response = await asyncio.wait_for(held, 20)
    again = await client.get(job["urls"]["self"], headers={"Prefer": "wait=30"})
    assert response.json()["status"] == again.json()["status"] == "SUCCESS"
    assert response.headers["preference-applied"] == "wait=30"


async def test_a_wait_that_was_too_short_answers_with_the_job_as_it_is(
    client: httpx.AsyncClient,
) -> None:
    headers = {"Prefer": "wait=0"}
    new = await client.post("/v1/generate", json=ORDER, headers=headers)
    assert (new.status_code, new.json()["status"]) == (202, "PENDING")
    assert new.headers["preference-applied"] == "wait=0"
    found = await client.get(new.headers["location"], headers=headers)
    assert (found.status_code, found.json()["status"]) == (200, "PENDING")
    assert found.headers["preference-applied"] == "wait=0"


@pytest.mark.parametrize("prefer", ["respond-async", "return=minimal, handling=lenient", "", ","])
async def test_other_preferences_are_ignored(client: httpx.AsyncClient, prefer: str) -> None:
    response = await client.post("/v1/generate", json=ORDER, headers={"Prefer": prefer})
    assert response.status_code == 202
    assert "preference-applied" not in response.headers


async def test_without_a_free_seat_a_wait_is_answered_at_once(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    """It is only a preference: 202, without the header that would grant it."""
    seats = service_of(app).watching.seats
    seats.limit = 0
    waits = client.post("/v1/generate", json=ORDER, headers={"Prefer": "wait=60"})
    response = await asyncio.wait_for(waits, 30)
    assert response.status_code == 202
    assert "preference-applied" not in response.headers
    assert seats.taken == 0


async def test_a_held_order_outlives_a_restart_of_the_registry(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """It was accepted: the answer is no 503, and it comes although the end was never watched."""
    held = asyncio.create_task(
        client.post("/v1/generate", json=ORDER, headers={"Prefer": "wait=60"})
    )
    await world.until(lambda: world.launcher.running)
    ((job_id, _),) = world.launcher.running
    await transport.caught_up()
    transport.down = True
    await world.die_and_rise()
    await world.registry.cancel(job_id, "local")
    transport.down = False
    response = await asyncio.wait_for(held, 30)
    assert response.status_code == 200
    assert response.json()["status"] in TERMINAL
