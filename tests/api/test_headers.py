"""`Prefer`, `Cancel-After`, `X-Client-Id`: what may be said, and what comes of it."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from serve_app.api.events import Seats
from serve_app.api.headers import LONGEST_LIFE_S
from serve_app.api.keys import add_key
from tests.api.harness import ORDER, MemoryRegistry, assert_problem, make_app, serving


async def post(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post("/v1/generate", json=ORDER, headers=named)


class Prompt(MemoryRegistry):
    """Draws whatever is ordered as soon as somebody has watched it arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.drawing: list[asyncio.Task[None]] = []

    def draw(self) -> None:
        async def drawn() -> None:
            await self.watched()
            for job_id, job in list(self.jobs.items()):
                if job["status"] == "PENDING":
                    self.finish(job_id)

        self.drawing.append(asyncio.create_task(drawn()))


# ---- Prefer ----


@pytest.mark.parametrize(
    "prefer", ["wait=30", "respond-async, wait=30", 'WAIT="30"', "wait = 30; x=y", "a=b,wait=30"]
)
async def test_an_order_is_held_until_it_is_final(tmp_path: Path, prefer: str) -> None:
    registry = Prompt()
    async with serving(make_app(registry, tmp_path)) as client:
        registry.draw()
        response = await post(client, Prefer=prefer)
    assert response.status_code == 200
    assert response.json()["status"] == "SUCCESS"
    assert response.headers["preference-applied"] == "wait=30"
    assert response.headers["location"] == response.json()["urls"]["self"]
    assert "retry-after" not in response.headers


async def test_a_job_is_held_until_it_is_final(tmp_path: Path) -> None:
    registry = Prompt()
    async with serving(make_app(registry, tmp_path)) as client:
        job = (await post(client)).json()
        registry.draw()
        response = await client.get(job["urls"]["self"], headers={"Prefer": "wait=30"})
        again = await client.get(job["urls"]["self"], headers={"Prefer": "wait=30"})
    assert response.json()["status"] == again.json()["status"] == "SUCCESS"
    assert response.headers["preference-applied"] == "wait=30"


async def test_a_wait_that_was_too_short_answers_with_the_job_as_it_is(
    client: httpx.AsyncClient,
) -> None:
    ordered = await post(client, Prefer="wait=0")
    assert (ordered.status_code, ordered.json()["status"]) == (202, "PENDING")
    assert ordered.headers["preference-applied"] == "wait=0"
    shown = await client.get(ordered.headers["location"], headers={"Prefer": "wait=0"})
    assert (shown.status_code, shown.json()["status"]) == (200, "PENDING")
    assert shown.headers["preference-applied"] == "wait=0"


@pytest.mark.parametrize("prefer", ["respond-async", "return=minimal, handling=lenient", "", ","])
async def test_other_preferences_are_ignored(client: httpx.AsyncClient, prefer: str) -> None:
    response = await post(client, Prefer=prefer)
    assert response.status_code == 202
    assert "preference-applied" not in response.headers


@pytest.mark.parametrize("prefer", ["wait=-1", "wait=61", "wait=9999", "wait=abc", "wait", "wait="])
async def test_a_wrong_wait_is_named(
    client: httpx.AsyncClient, registry: MemoryRegistry, prefer: str
) -> None:
    error = assert_problem(await post(client, Prefer=prefer), 422, "invalid_field")["errors"][0]
    assert error["field"] == "Prefer"
    assert error["allowed"] == ["wait=0 to wait=60"]
    assert "pointer" not in error
    assert registry.jobs == {}


async def test_beyond_the_seats_a_wait_is_answered_at_once(
    registry: MemoryRegistry, tmp_path: Path
) -> None:
    """It is a preference: 202, and the header does not say that it was granted."""
    app = make_app(registry, tmp_path)
    async with serving(app) as client:
        seats: Seats = app.state.board.watching._seats
        seats.limit = 0
        response = await asyncio.wait_for(post(client, Prefer="wait=60"), 30)
    assert response.status_code == 202
    assert "preference-applied" not in response.headers
    assert seats.taken == 0


async def test_a_held_order_survives_a_registry_that_goes_away(tmp_path: Path) -> None:
    """It was accepted: neither a 503, nor a wait past an end that came meanwhile."""
    registry = Prompt()
    app = make_app(registry, tmp_path)
    async with serving(app) as client:
        arrived = asyncio.Event()
        app.state.board.view.subscribe(lambda job: job and arrived.set())
        held = asyncio.create_task(post(client, Prefer="wait=60"))
        await arrived.wait()
        registry.down = True
        registry.restart()
        for job_id in registry.jobs:  # ended in the new life, before anybody watched it
            registry.jobs[job_id]["status"] = "REVOKED"
        registry.down = False
        response = await asyncio.wait_for(held, 30)
    assert (response.status_code, response.json()["status"]) == (200, "REVOKED")


# ---- Cancel-After ----


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("90", 90), ("90s", 90), ("1h30m", 5400), ("2m5s", 125), (" 15m ", 900), ("720h", 2_592_000)],
)
async def test_a_deadline_counts_from_the_order(
    client: httpx.AsyncClient, said: str, seconds: float
) -> None:
    job = (await post(client, Cancel_After=said)).json()
    created, deadline = (datetime.fromisoformat(job[name]) for name in ("created_at", "deadline"))
    assert (deadline - created).total_seconds() == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize(
    "said",
    ["0", "-5", "abc", "", "1.5", "1h30", "5d", "30m1h", "0h0m", "²", "9" * 40, "721h", "2592001"],
)
async def test_a_wrong_deadline_is_named(
    client: httpx.AsyncClient, registry: MemoryRegistry, said: str
) -> None:
    headers = {b"cancel-after": said.encode()}
    response = await client.post("/v1/generate", json=ORDER, headers=headers)
    error = assert_problem(response, 422, "invalid_field")["errors"][0]
    assert error["field"] == "Cancel-After"
    assert str(LONGEST_LIFE_S) in error["allowed"][0]
    assert "pointer" not in error
    assert registry.jobs == {}


async def test_without_a_deadline_there_is_none(client: httpx.AsyncClient) -> None:
    assert (await post(client)).json()["deadline"] is None


# ---- X-Client-Id ----


async def test_a_client_may_name_itself_where_there_are_no_keys(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    named = (await post(client, X_Client_Id="level-editor")).json()["job_id"]
    other = (await post(client)).json()["job_id"]
    assert registry.jobs[named]["client"] == "level-editor"
    assert registry.jobs[other]["client"] == "local"
    assert registry.jobs[named]["owner"] == "local"


async def test_with_keys_the_owner_is_the_client(registry: MemoryRegistry, tmp_path: Path) -> None:
    """Nobody takes a share by taking a name."""
    key = add_key(tmp_path / "keys", "studio")
    async with serving(make_app(registry, tmp_path, api_keys_file=tmp_path / "keys")) as client:
        for name in ("somebody", "not a name"):
            response = await post(client, X_API_Key=key, X_Client_Id=name)
            assert registry.jobs[response.json()["job_id"]]["client"] == "studio"


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "a" * 65, "a/b", "é"])
async def test_a_wrong_name_is_named(
    client: httpx.AsyncClient, registry: MemoryRegistry, name: str
) -> None:
    headers = {b"x-client-id": name.encode()}
    response = await client.post("/v1/generate", json=ORDER, headers=headers)
    error = assert_problem(response, 422, "invalid_field")["errors"][0]
    assert error["field"] == "X-Client-Id"
    assert error["allowed"]
    assert "pointer" not in error
    assert registry.jobs == {}
