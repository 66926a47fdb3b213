"""PATCH /v1/jobs/{id}: marks, tags and the priority of a job that waits; and lists that find by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.api.changes import ChangeRequest
from tests.api.harness import (
    LocalTransport,
    assert_problem,
    get,
    keys_of,
    limit,
    make_app,
    ordered,
    serving,
)
from tests.api.routes.test_derive import BODY, drawn
from tests.jobs.harness import World

STAR = {"images": [{"index": 0, "starred": True}]}


async def patch(client: httpx.AsyncClient, job_id: str, body: Any) -> dict[str, Any]:
    response = await client.patch(f"/v1/jobs/{job_id}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def listed(client: httpx.AsyncClient, **query: Any) -> list[str]:
    response = await client.get("/v1/jobs", params=query)
    assert response.status_code == 200, response.text
    return [job["job_id"] for job in response.json()["results"]]


async def test_marks_stay_with_the_images_and_find_them(
    world: World, client: httpx.AsyncClient
) -> None:
    job_id, other = await drawn(client, world), await drawn(client, world)
    before = await client.get(f"/v1/jobs/{job_id}")
    marked = [{"index": 1, "starred": True, "rating": 4}, {"index": 0, "rejected": True}]
    said = await client.patch(f"/v1/jobs/{job_id}", json={"images": marked})
    assert said.headers["etag"] != before.headers["etag"]
    shown = said.json()["images"]
    marks = [(one["starred"], one["rejected"], one["rating"]) for one in shown]
    assert marks == [(False, True, 0), (True, False, 4)]
    assert (await get(client, f"/v1/jobs/{job_id}"))["images"] == shown
    await patch(client, job_id, {"images": [{"index": 1, "rating": 5, "starred": None}]})
    assert await listed(client, starred="true", rating=5) == [job_id]
    assert await listed(client, starred="true", rejected="true") == []
    assert await listed(client, starred="false") == [other, job_id]
    page = await get(client, "/v1/jobs?rejected=false&limit=1")
    assert page["results"][0]["job_id"] == other
    assert (await get(client, page["next"]))["results"][0]["job_id"] == job_id


async def test_what_is_made_again_of_a_marked_job_has_no_marks(
    world: World, client: httpx.AsyncClient
) -> None:
    job_id = await drawn(client, world)
    await patch(client, job_id, STAR)
    for way, body in (("derive", BODY), ("retry", None), ("reproduce", None)):
        made = (await client.post(f"/v1/jobs/{job_id}/{way}", json=body)).json()
        assert "marks" not in (await world.look(made["job_id"]))["labels"], way


async def test_a_list_is_searched_by_words(world: World, client: httpx.AsyncClient) -> None:
    job_id = await drawn(client, world, prompt="A Crème-coloured potion")
    child = (await client.post(f"/v1/jobs/{job_id}/derive", json=BODY)).json()["job_id"]
    await ordered(client, prompt="a sword")
    assert await listed(client, q="creme POT") == [child, job_id]
    assert await listed(client, q="creme sword") == []
    assert await listed(client, q="potion", status="SUCCESS", tag="t") == [job_id]
    for nothing in ("", " - ", '"*'):
        response = await client.get("/v1/jobs", params={"q": nothing})
        (error,) = assert_problem(response, 422, "invalid_field")["errors"]
        assert error["field"] == "q"


async def test_a_priority_changes_only_in_line(world: World, client: httpx.AsyncClient) -> None:
    limit(world, max_in_flight=1)
    running, first, second = [(await ordered(client))["job_id"] for _ in range(3)]
    await world.started(running)
    moved = await patch(client, second, {"priority": "high"})
    assert (moved["priority"], moved["queue_position"]) == ("high", 1)
    assert (await patch(client, first, {"priority": "low"}))["queue_position"] == 2
    refused = await client.patch(f"/v1/jobs/{running}", json={"priority": "high", "tags": ["a"]})
    problem = assert_problem(refused, 409, "not_waiting")
    assert "STARTED" in problem["detail"]
    assert (await get(client, f"/v1/jobs/{running}"))["tags"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"images": []}, "body"),
        ({"tags": ["no good tag"]}, "tags.0"),
        ({"tags": ["a"] * 17}, "tags"),
        ({"priority": "urgent"}, "priority"),
        ({"prompt": "another"}, "prompt"),
        ({"images": [{"starred": True}]}, "images.0.index"),
        ({"images": [{"index": 9, "starred": True}]}, "images.0.index"),
        ({"images": [{"index": 0}, {"index": 0}]}, "images.1.index"),
        ({"images": [{"index": 0, "rating": 6}]}, "images.0.rating"),
        ({"images": [{"index": 0, "starred": "yes"}]}, "images.0.starred"),
    ],
)
async def test_what_cannot_be_said_of_a_job_is_named(
    world: World, client: httpx.AsyncClient, body: Any, field: str
) -> None:
    job_id = await drawn(client, world)
    before = await world.look(job_id)
    response = await client.patch(f"/v1/jobs/{job_id}", json=body)
    (error,) = assert_problem(response, 422, "invalid_field")["errors"]
    assert error["field"] == field
    assert await world.look(job_id) == before


async def test_a_stranger_can_neither_mark_nor_find(
    transport: LocalTransport, world: World, tmp_path: Path
) -> None:
    keys = keys_of(tmp_path / "keys", "ann", "bob")
    async with serving(make_app(transport, api_keys_file=tmp_path / "keys")) as client:
        client.headers.update(keys[0])
        job_id = await drawn(client, world)
        await patch(client, job_id, STAR)
        client.headers.update(keys[1])
        assert_problem(await client.patch(f"/v1/jobs/{job_id}", json=STAR), 404, "not_found")
        assert await listed(client, starred="true") == []
        assert await listed(client, q="red") == []
        client.headers.update(keys[0])
        assert await listed(client, starred="true") == [job_id]
        assert (await client.delete(f"/v1/jobs/{job_id}")).status_code == 204
        assert_problem(await client.patch(f"/v1/jobs/{job_id}", json=STAR), 410, "deleted")


def test_a_tag_said_twice_is_one() -> None:
    assert ChangeRequest(tags=["a", "b", "a"]).tags == ["a", "b"]
