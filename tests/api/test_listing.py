"""GET /v1/jobs: filters, pages, and cursors."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from serve_app.api.listing import JobQuery
from tests.api.harness import (
    ORDER,
    LocalTransport,
    assert_problem,
    get,
    keys_of,
    limit,
    make_app,
    ordered,
    serving,
)
from tests.jobs.harness import World


@pytest.fixture(autouse=True)
def roomy(world: World) -> None:
    """A line that is long enough for a list."""
    limit(world, max_pending=1000)


async def orders(client: httpx.AsyncClient, count: int, **body: Any) -> list[dict[str, Any]]:
    """In the order they came."""
    return [await ordered(client, **body) for _ in range(count)]


def ids(jobs: list[dict[str, Any]]) -> list[str]:
    return [job["job_id"] for job in jobs]


async def walk(client: httpx.AsyncClient, path: str, way: str = "next") -> list[dict[str, Any]]:
    """All jobs of a list, page by page; an empty page may have a next one."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while path:
            page = await get(client, path)
            found += page["results"] if way == "next" else reversed(page["results"])
            path = page[way]
    return found


@pytest.mark.parametrize("name", ["created_after", "created_before"])
@pytest.mark.parametrize("sent", ["0.0", "0", "-1", "1764000000", "1e3", "now", ""])
async def test_a_number_is_no_date(client: httpx.AsyncClient, name: str, sent: str) -> None:
    response = await client.get("/v1/jobs", params={name: sent})
    (error,) = assert_problem(response, 422, "invalid_field")["errors"]
    assert error["field"] == name


# ---- pages ----


async def test_no_jobs_are_a_page_too(client: httpx.AsyncClient) -> None:
    assert await get(client, "/v1/jobs") == {"next": None, "previous": None, "results": []}


async def test_pages_follow_each_other_there_and_back(
    client: httpx.AsyncClient, world: World
) -> None:
    limit(world, max_in_flight=0)
    made = ids(await orders(client, 7))[::-1]
    pages = [await get(client, "/v1/jobs?limit=3")]
    while pages[-1]["next"]:
        pages.append(await get(client, pages[-1]["next"]))
    assert [job_id for page in pages for job_id in ids(page["results"])] == made
    assert [len(page["results"]) for page in pages] == [3, 3, 1]
    assert pages[0]["previous"] is None
    back = await get(client, pages[2]["previous"])
    assert back["results"] == pages[1]["results"]
    first = await get(client, back["previous"])
    assert first["results"] == pages[0]["results"]
    assert first["previous"] is None


@pytest.mark.parametrize("query", ["", "tag=a&", "status=PENDING&status=STARTED&"])
async def test_each_job_comes_once_while_jobs_arrive(client: httpx.AsyncClient, query: str) -> None:
    """Both ways: those of the beginning all, in their order; new ones only on the way back."""
    old = await orders(client, 23, tags=["a"])
    found: list[dict[str, Any]] = []
    new: list[dict[str, Any]] = []
    path, last = f"/v1/jobs?{query}limit=4", None
    while path:
        page = await get(client, path)
        found += page["results"]
        path, last = page["next"], page
        new.append(await ordered(client, tags=["a"]))
    assert ids(found) == ids(old)[::-1]
    assert last is not None
    back = await walk(client, last["previous"], "previous")
    assert ids(last["results"])[::-1] + ids(back) == ids(old + new)


async def test_a_listed_job_is_the_job(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    job = await ordered(client)
    await world.draw(job["job_id"])
    await transport.caught_up()
    (listed,) = (await get(client, "/v1/jobs"))["results"]
    assert listed == await get(client, job["urls"]["self"])


@pytest.mark.parametrize("limit", [1, 100])
async def test_limits_are_inclusive(client: httpx.AsyncClient, limit: int) -> None:
    await get(client, f"/v1/jobs?limit={limit}")


async def test_without_a_registry_a_list_is_503(
    client: httpx.AsyncClient, transport: LocalTransport
) -> None:
    transport.down = True
    assert_problem(await client.get("/v1/jobs"), 503, "unavailable")


# ---- filters ----


async def test_filters_find_what_they_say(client: httpx.AsyncClient, world: World) -> None:
    plain = await ordered(client, tags=["a"])
    styled = await ordered(client, tags=["a", "b"], style_id="none")
    last = await ordered(client)
    await client.post(plain["urls"]["cancel"])
    await world.draw(last["job_id"])
    newest_first = [last, styled, plain]
    for query, found in {
        "": newest_first,
        "status=REVOKED": [plain],
        "status=REVOKED&status=SUCCESS": [last, plain],
        "status=FAILURE": [],
        "style_id=icon": [last, plain],
        "style_id=nope": [],
        "model=tiny": newest_first,
        "model=tiny&status=SUCCESS": [last],
        "model=other": [],
        "tag=a": [styled, plain],
        "tag=b": [styled],
        "tag=a&style_id=icon&status=REVOKED": [plain],
        "tag=a&status=SUCCESS": [],
        "created_before=2000-01-01T00:00:00Z": [],
        "created_after=2000-01-01T00:00:00Z": newest_first,
    }.items():
        assert ids(await walk(client, f"/v1/jobs?limit=2&{query}")) == ids(found), query


async def test_a_jobs_own_time_is_where_a_list_begins(client: httpx.AsyncClient) -> None:
    """To the microsecond: `created_after` includes it, `created_before` does not."""
    jobs = await orders(client, 40)
    for at, job in enumerate(jobs):
        after = await walk(client, f"/v1/jobs?created_after={job['created_at']}")
        before = await walk(client, f"/v1/jobs?created_before={job['created_at']}")
        assert ids(after) == ids(jobs[at:])[::-1]
        assert ids(before) == ids(jobs[:at])[::-1]


def test_statuses_are_asked_for_once_each() -> None:
    query = JobQuery(status=["SUCCESS", "PENDING", "SUCCESS"], style_id="icon", tag="a/b:c")
    assert query.filter() == {
        "statuses": ["PENDING", "SUCCESS"],
        "style_id": "icon",
        "tag": "a/b:c",
    }


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        ("2026-01-01T00:00:00Z", 1767225600),
        ("2026-01-01T00:00:00", 1767225600),
        ("2026-01-01T01:00:00+01:00", 1767225600),
        ("2026-01-01T01:00:00 01:00", 1767225600),  # a plus that was not written as %2B
        ("2025-12-31T23:30:00-00:30", 1767225600),
        ("2026-01-01T00:00:00.000001Z", 1767225600.000001),
    ],
)
def test_a_time_without_a_zone_is_utc(sent: str, seconds: float) -> None:
    query = TypeAdapter(JobQuery).validate_python({"created_after": sent, "created_before": sent})
    assert query.filter() == {"created_after": seconds, "created_before": seconds}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.5", "limit"),
        ("limit=", "limit"),
        ("status=DONE", "status"),
        ("status=success", "status"),
        ("tag=a%20b", "tag"),
        ("tag=" + "x" * 65, "tag"),
        ("style_id=" + "x" * 101, "style_id"),
        ("model=" + "x" * 101, "model"),
        ("created_after=yesterday", "created_after"),
        ("created_after=2026-13-01T00:00:00Z", "created_after"),
        ("created_before=1e300", "created_before"),
        ("owner=somebody", "owner"),
        ("offset=3", "offset"),
        ("cursor=" + "x" * 201, "cursor"),
    ],
)
async def test_a_wrong_query_is_named(client: httpx.AsyncClient, query: str, field: str) -> None:
    """And there is no pointer: it is not in a body."""
    body = assert_problem(await client.get(f"/v1/jobs?{query}"), 422, "invalid_field")
    assert [error["field"] for error in body["errors"]] == [field]
    assert "pointer" not in body["errors"][0]


# ---- cursors ----


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "A",
        "x",
        "%00",
        "%ff",
        "é",
        "AAAA",
        "Yg",
        "YgAAAAAAAAAB",
        "....",
        "YgAAAAAAAAABAAAAAAAAAAAA",
    ],
)
async def test_a_forged_cursor_is_422(client: httpx.AsyncClient, cursor: str) -> None:
    body = assert_problem(await client.get(f"/v1/jobs?cursor={cursor}"), 422, "invalid_field")
    assert body["errors"][0]["field"] == "cursor"


async def test_a_cursor_that_was_bent_is_422(client: httpx.AsyncClient) -> None:
    """Whichever of its bytes."""
    await orders(client, 3)
    path: str = (await get(client, "/v1/jobs?limit=1"))["next"]
    head, _, cursor = path.rpartition("cursor=")
    data = base64.urlsafe_b64decode(cursor + "==")
    assert len(data) == 18
    for place in range(len(data)):
        bent = bytes(b ^ (at == place) for at, b in enumerate(data))
        text = base64.urlsafe_b64encode(bent).decode()
        assert_problem(await client.get(f"{head}cursor={text}"), 422, "invalid_field")


async def test_a_cursor_goes_with_its_filters(client: httpx.AsyncClient) -> None:
    """A page of another list would skip jobs or show them twice. The limit may change."""
    made = ids(await orders(client, 4))[::-1]
    path: str = (await get(client, "/v1/jobs?limit=1&style_id=icon"))["next"]
    second = await get(client, path.replace("limit=1", "limit=2"))
    assert ids(second["results"]) == made[1:3]
    for other in (path.replace("icon", "none"), path + "&status=SUCCESS", path + "&tag=a"):
        assert_problem(await client.get(other), 422, "invalid_field")


async def test_each_owner_has_a_list_and_cursors(transport: LocalTransport, tmp_path: Path) -> None:
    ours, theirs = keys_of(tmp_path / "keys", "ours", "theirs")
    async with serving(make_app(transport, api_keys_file=tmp_path / "keys")) as client:
        for _ in range(3):
            await client.post("/v1/generate", json=ORDER, headers=ours)
        page = (await client.get("/v1/jobs?limit=1", headers=ours)).json()
        other = (await client.get("/v1/jobs", headers=theirs)).json()
        assert other["results"] == []
        assert_problem(await client.get(page["next"], headers=theirs), 422, "invalid_field")
        assert_problem(await client.get("/v1/jobs"), 401, "unauthorized")
