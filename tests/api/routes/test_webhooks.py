"""Webhooks over HTTP: what may be ordered, what an owner sees of deliveries, once more, and a test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.messages import Handed, Parcel
from serve_app.webhooks.owners import add_secret, set_url
from tests.api.harness import (
    LocalTransport,
    assert_problem,
    get,
    keys_of,
    make_app,
    ordered,
    serving,
)
from tests.jobs.harness import World

URL = "https://build.example/hooks/art"
BAD_URLS = [
    "http://build.example/",
    "https://user:word@build.example/",
    "https://127.0.0.1/",
    "https://2130706433/",
    "https://[::1]/",
    "https://localhost/",
    "https://169.254.169.254/latest",
    f"https://build.example/{'x' * 2048}",
]


class Answers:
    """A courier whose receivers answer with this status."""

    def __init__(self) -> None:
        self.status = 200
        self.sent: list[Parcel] = []
        self.called = asyncio.Event()

    async def deliver(self, parcels: Sequence[Parcel]) -> list[Handed]:
        self.sent += parcels
        self.called.set()
        return [Handed(number=p["number"], status=self.status, error=None, ms=3) for p in parcels]


@pytest.fixture
def courier() -> Answers:
    return Answers()


@pytest.fixture
async def world(tmp_path: Path, courier: Answers) -> AsyncGenerator[World]:
    async with World(tmp_path, courier=courier) as world:
        yield world


@pytest.fixture
async def client(transport: LocalTransport, tmp_path: Path) -> AsyncGenerator[httpx.AsyncClient]:
    add_secret(tmp_path / "hooks.yaml", "local")
    app = make_app(
        transport, webhooks_file=tmp_path / "hooks.yaml", public_url="https://art.example/"
    )
    async with serving(app) as client:
        yield client


async def listed(client: httpx.AsyncClient, count: int, state: str, **query: Any) -> list[Any]:
    """So many deliveries, once the newest is in this state. Each is settled in its own time."""
    async with asyncio.timeout(10):
        while True:
            reply = await client.get("/v1/webhooks/deliveries", params=query)
            assert reply.status_code == 200, reply.text
            found = reply.json()["results"]
            if len(found) == count and found[0]["state"] == state:
                return found


async def test_a_job_that_ends_is_told_and_the_owner_sees_it(
    client: httpx.AsyncClient, world: World, courier: Answers
) -> None:
    events = ["queued", "started", "output", "completed"]
    job = await ordered(client, webhook=URL, webhook_events_filter=events)
    await world.draw(job["job_id"])
    found = await listed(client, 4, "delivered")
    assert [one["event"] for one in found] == events[::-1]
    assert {one["job_id"] for one in found} == {job["job_id"]}
    assert found[0]["delivery_id"] == f"msg_{job['job_id']}_completed"
    assert (found[0]["tries"], found[0]["calls"][0]["status"]) == (1, 200)
    assert found[0]["next_call_at"] is None
    assert [parcel["id"] for parcel in courier.sent] == [one["delivery_id"] for one in found][::-1]
    assert f"https://art.example/v1/jobs/{job['job_id']}" in courier.sent[-1]["body"]
    page = await get(client, "/v1/webhooks/deliveries?limit=3")
    rest = await get(client, page["next"])
    assert [one["event"] for one in page["results"] + rest["results"]] == events[::-1]
    assert rest["next"] is None
    assert await listed(client, 4, "delivered", job_id=job["job_id"])
    assert (await get(client, "/v1/webhooks/deliveries?state=failed"))["results"] == []


async def test_the_end_is_told_unless_somebody_wants_more(
    client: httpx.AsyncClient, world: World
) -> None:
    job = await ordered(client, webhook=URL)
    await client.post(f"/v1/jobs/{job['job_id']}/cancel")
    (found,) = await listed(client, 1, "delivered")
    assert found["event"] == "completed"


async def test_a_retry_calls_the_same_webhook(client: httpx.AsyncClient, world: World) -> None:
    job = await ordered(client, webhook=URL)
    await client.post(f"/v1/jobs/{job['job_id']}/cancel")
    again = (await client.post(f"/v1/jobs/{job['job_id']}/retry")).json()
    await world.draw(again["job_id"])
    found = await listed(client, 2, "delivered")
    assert found[0]["job_id"] == again["job_id"]


async def test_an_owner_may_be_called_for_every_job(
    client: httpx.AsyncClient, world: World, tmp_path: Path, transport: LocalTransport
) -> None:
    set_url(tmp_path / "hooks.yaml", "local", URL, ("queued",))
    app = make_app(transport, webhooks_file=tmp_path / "hooks.yaml")
    async with serving(app) as client:
        first = await ordered(client)
        await listed(client, 1, "delivered")
        other = "https://other.example/"
        await ordered(client, webhook=other, webhook_events_filter=["queued"])
        found = await listed(client, 2, "delivered")
        assert [one["url"] for one in found] == [other, URL]
        assert found[1]["job_id"] == first["job_id"]
        assert (await client.post("/v1/webhooks/test", json={})).json()["url"] == URL


@pytest.mark.parametrize("url", BAD_URLS)
async def test_a_url_that_cannot_be_called_is_refused_at_once(
    client: httpx.AsyncClient, world: World, url: str
) -> None:
    for body in ({"webhook": url}, {"webhook": url, "dry_run": True}):
        reply = await client.post("/v1/generate", json={"prompt": "a key", **body})
        problem = assert_problem(reply, 422, "invalid_field")
        assert problem["errors"][0]["field"] == "webhook"
    reply = await client.post("/v1/webhooks/test", json={"url": url})
    assert assert_problem(reply, 422, "invalid_field")["errors"][0]["field"] == "url"
    assert (await get(client, "/v1/jobs"))["results"] == []
    assert (await get(client, "/v1/webhooks/deliveries"))["results"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"webhook_events_filter": ["completed"]}, "webhook_events_filter"),
        ({"webhook": URL, "webhook_events_filter": []}, "webhook_events_filter"),
        ({"webhook": URL, "webhook_events_filter": ["start"]}, "webhook_events_filter.0"),
        ({"webhook": 7}, "webhook"),
    ],
)
async def test_a_filter_that_filters_nothing_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    reply = await client.post("/v1/generate", json={"prompt": "a key", **body})
    problem = assert_problem(reply, 422, "invalid_field")
    assert problem["errors"][0]["field"] == field


async def test_without_the_setting_or_a_secret_it_is_said_who_can_help(
    transport: LocalTransport, world: World, tmp_path: Path
) -> None:
    async with serving(make_app(transport)) as client:
        reply = await client.post("/v1/generate", json={"prompt": "a key", "webhook": URL})
        assert "webhooks_file" in reply.text
        assert_problem(reply, 422, "invalid_field")
        assert_problem(await client.post("/v1/webhooks/test", json={}), 422, "invalid_field")
    add_secret(tmp_path / "hooks.yaml", "anna")
    anna, ben = keys_of(tmp_path / "keys", "anna", "ben")
    app = make_app(
        transport, api_keys_file=tmp_path / "keys", webhooks_file=tmp_path / "hooks.yaml"
    )
    async with serving(app) as client:
        body = {"prompt": "a key", "style_id": "icon", "webhook": URL}
        refused = await client.post("/v1/generate", json=body, headers=ben)
        assert "assets webhooks add ben" in refused.text
        taken = await client.post("/v1/generate", json=body, headers=anna)
        assert taken.status_code == 202
        await client.post(f"/v1/jobs/{taken.json()['job_id']}/cancel", headers=anna)
        client.headers.update(anna)
        (found,) = await listed(client, 1, "delivered")
        client.headers.update(ben)
        assert (await get(client, "/v1/webhooks/deliveries"))["results"] == []
        reply = await client.post(found["urls"]["redeliver"])
        assert_problem(reply, 404, "not_found")


async def test_what_failed_is_sent_once_more_when_somebody_asks(
    client: httpx.AsyncClient, world: World, courier: Answers
) -> None:
    courier.status = 410
    job = await ordered(client, webhook=URL)
    await client.post(f"/v1/jobs/{job['job_id']}/cancel")
    (found,) = await listed(client, 1, "failed")
    assert "410" in found["reason"]
    courier.status = 200
    again = await client.post(found["urls"]["redeliver"])
    assert again.status_code == 202
    (found,) = await listed(client, 1, "delivered")
    assert [call["status"] for call in found["calls"]] == [410, 200]
    assert len({parcel["id"] for parcel in courier.sent}) == 1
    assert len({parcel["body"] for parcel in courier.sent}) == 1


async def test_a_test_is_a_call_about_no_job(
    client: httpx.AsyncClient, world: World, courier: Answers
) -> None:
    asked = (await client.post("/v1/webhooks/test", json={"url": URL})).json()
    assert (asked["state"], asked["job_id"], asked["event"]) == ("waiting", None, "test")
    assert list(asked["urls"]) == ["redeliver"]
    (found,) = await listed(client, 1, "delivered")
    assert found["delivery_id"] == asked["delivery_id"]
    assert '"type": "test"' in courier.sent[0]["body"]


async def test_the_same_order_with_another_webhook_is_another_order(
    client: httpx.AsyncClient,
) -> None:
    key = {"Idempotency-Key": "once"}
    body = {"prompt": "a key", "style_id": "icon"}
    first = await client.post("/v1/generate", json={**body, "webhook": URL}, headers=key)
    assert first.status_code == 202
    other = await client.post("/v1/generate", json=body, headers=key)
    assert_problem(other, 422, "idempotency_key_reuse")


# ---- batches ----


async def test_a_batch_is_told_once_and_its_jobs_only_where_they_name_a_webhook(
    client: httpx.AsyncClient, world: World, courier: Answers
) -> None:
    orders = [{"prompt": "a red key"}, {"prompt": "a blue key", "webhook": f"{URL}/job"}]
    body = {"defaults": {"style_id": "icon"}, "orders": orders, "webhook": URL}
    made = await client.post("/v1/batches", json=body)
    assert made.status_code == 202, made.text
    for _ in orders:
        await world.draw_next()
    found = await listed(client, 2, "delivered")
    by_url = {one["url"]: one for one in found}
    assert by_url[URL]["batch_id"] == made.json()["batch_id"]
    assert by_url[URL]["job_id"] is None
    assert by_url[URL]["urls"]["batch"] == f"/v1/batches/{made.json()['batch_id']}"
    assert by_url[f"{URL}/job"]["job_id"] is not None


async def test_a_batch_says_what_it_calls_for_in_every_form(
    client: httpx.AsyncClient, world: World, courier: Answers
) -> None:
    """Its events go out in their order."""
    events = ["completed", "queued", "started"]
    said = {"webhook": URL, "webhook_events_filter": events}
    orders = [{"prompt": "a red key", "style_id": "icon"}]
    table, lines = "prompt,style_id\na red key,icon\n", json.dumps(orders[0])
    kinds = (("text/csv", table), ("application/jsonl", lines))
    replies = [
        await client.post("/v1/batches", json={"orders": orders, **said}),
        *[
            await client.post(
                "/v1/batches", content=data, headers={"content-type": kind}, params=said
            )
            for kind, data in kinds
        ],
    ]
    for reply in replies:
        assert reply.status_code == 202, reply.text
        await world.draw_next()
    await listed(client, 9, "delivered")
    for reply in replies:
        batch_id = reply.json()["batch_id"]
        sent = [json.loads(one["body"]) for one in courier.sent if batch_id in one["id"]]
        assert [body["type"] for body in sent] == [
            "batch.queued",
            "batch.started",
            "batch.completed",
        ]
        assert len(await listed(client, 3, "delivered", job_id=batch_id)) == 3


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"webhook": BAD_URLS[0]}, "webhook"),
        ({"webhook": f"https://build.example/{'x' * 10_000}"}, "webhook"),
        ({"webhook": URL, "webhook_events_filter": ["output"]}, "webhook_events_filter"),
        ({"webhook": URL, "webhook_events_filter": ["queued"] * 4}, "webhook_events_filter"),
        ({"webhook_events_filter": ["queued"]}, "webhook_events_filter"),
    ],
)
async def test_what_is_wrong_with_the_webhook_of_a_file_is_told_with_its_parameter(
    client: httpx.AsyncClient, query: dict[str, Any], field: str
) -> None:
    table, kind = "prompt\na key\n", {"content-type": "text/csv"}
    reply = await client.post("/v1/batches", content=table, headers=kind, params=query)
    (error,) = assert_problem(reply, 422, "invalid_field")["errors"]
    assert (error["field"], "pointer" in error) == (field, False)
    body = {"orders": [{"prompt": "a key"}]}
    reply = await client.post("/v1/batches", json=body, params={"webhook": URL})
    assert_problem(reply, 422, "invalid_field")
    reply = await client.post("/v1/batches", json={**body, **query})
    assert assert_problem(reply, 422, "invalid_field")["errors"][0]["field"].startswith(field)
    assert (await get(client, "/v1/jobs"))["results"] == []


@pytest.mark.parametrize("url", BAD_URLS[:3])
async def test_a_bad_url_of_a_batch_or_of_a_row_is_refused_with_its_place(
    client: httpx.AsyncClient, url: str
) -> None:
    orders: list[dict[str, Any]] = [{"prompt": "a key"}, {"prompt": "a key", "webhook": url}]
    reply = await client.post("/v1/batches", json={"orders": orders})
    (error,) = assert_problem(reply, 422, "invalid_field")["errors"]
    assert (error["row"], error["field"]) == (2, "webhook")
    reply = await client.post("/v1/batches", json={"orders": orders[:1], "webhook": url})
    (error,) = assert_problem(reply, 422, "invalid_field")["errors"]
    assert error["field"] == "webhook"
    assert (await get(client, "/v1/jobs"))["results"] == []
