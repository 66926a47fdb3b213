"""GET /v1/jobs: filters, pages, and cursors that are not ours. What the store finds is in
`test_with_registry`."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.api.keys import add_key
from serve_app.messages import JobFilter, JobPage
from tests.api.harness import ORDER, MemoryRegistry, assert_problem, make_app, serving


async def ordered(client: httpx.AsyncClient, count: int) -> list[str]:
    """Newest first, as a list shows them."""
    jobs = [(await client.post("/v1/generate", json=ORDER)).json() for _ in range(count)]
    return [job["job_id"] for job in reversed(jobs)]


def ids(page: dict[str, Any]) -> list[str]:
    return [job["job_id"] for job in page["results"]]


async def get(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    response = await client.get(path)
    assert response.status_code == 200, response.text
    return response.json()


class Noting(MemoryRegistry):
    """Remembers what it was asked for."""

    wanted = JobFilter()
    limit = 0

    async def page(
        self, owner: str, wanted: JobFilter, limit: int, before: int | None, after: int | None
    ) -> JobPage:
        self.wanted, self.limit = wanted, limit
        return await super().page(owner, wanted, limit, before, after)


async def test_no_jobs_are_a_page_too(client: httpx.AsyncClient) -> None:
    assert await get(client, "/v1/jobs") == {"next": None, "previous": None, "results": []}


async def test_pages_follow_each_other_there_and_back(client: httpx.AsyncClient) -> None:
    made = await ordered(client, 7)
    pages = [await get(client, "/v1/jobs?limit=3")]
    while pages[-1]["next"]:
        pages.append(await get(client, pages[-1]["next"]))
    assert [job for page in pages for job in ids(page)] == made
    assert [len(page["results"]) for page in pages] == [3, 3, 1]
    assert pages[0]["previous"] is None
    back = await get(client, pages[2]["previous"])
    assert back["results"] == pages[1]["results"]
    first = await get(client, back["previous"])
    assert first["results"] == pages[0]["results"]
    assert first["previous"] is None


async def test_a_cursor_stays_where_it_is_while_jobs_arrive(client: httpx.AsyncClient) -> None:
    made = await ordered(client, 4)
    first = await get(client, "/v1/jobs?limit=2")
    later = await ordered(client, 3)
    second = await get(client, first["next"])
    assert ids(second) == made[2:]
    assert ids(await get(client, "/v1/jobs?limit=3")) == later


async def test_a_listed_job_is_the_job(client: httpx.AsyncClient, registry: MemoryRegistry) -> None:
    (job_id,) = await ordered(client, 1)
    registry.finish(job_id)
    await registry.watched()
    (listed,) = (await get(client, "/v1/jobs"))["results"]
    assert listed == await get(client, f"/v1/jobs/{job_id}")


async def test_filters_reach_the_registry_and_stay_with_the_cursor(tmp_path: Path) -> None:
    registry = Noting()
    query = (
        "status=SUCCESS&status=PENDING&status=SUCCESS&style_id=icon&tag=a/b:c&limit=1"
        "&created_after=2026-01-02T03:04:05%2B02:00&created_before=2099-01-01T00:00:00.25Z"
    )
    async with serving(make_app(registry, tmp_path)) as client:
        made = await ordered(client, 2)
        page = await get(client, f"/v1/jobs?{query}")
        asked = registry.wanted
        assert asked == {
            "statuses": ["PENDING", "SUCCESS"],
            "style_id": "icon",
            "tag": "a/b:c",
            "created_after": 1767315845.0,
            "created_before": 4070908800.25,
        }
        assert registry.limit == 1
        page = await get(client, page["next"])
        assert ids(page) == made[1:]
        assert (registry.wanted, registry.limit) == (asked, 1)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("2026-01-01T00:00:00Z", 1767225600),
        ("2026-01-01T00:00:00", 1767225600),
        ("2026-01-01T01:00:00%2B01:00", 1767225600),
        ("2025-12-31T23:30:00-00:30", 1767225600),
        ("2026-01-01T00:00:00.000001Z", 1767225600.000001),
    ],
)
async def test_a_time_without_a_zone_is_utc(tmp_path: Path, said: str, seconds: float) -> None:
    registry = Noting()
    async with serving(make_app(registry, tmp_path)) as client:
        await get(client, f"/v1/jobs?created_after={said}")
    assert registry.wanted == {"created_after": seconds}


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


@pytest.mark.parametrize("limit", [1, 100])
async def test_limits_are_inclusive(client: httpx.AsyncClient, limit: int) -> None:
    await get(client, f"/v1/jobs?limit={limit}")


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
    await ordered(client, 3)
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
    made = await ordered(client, 4)
    path: str = (await get(client, "/v1/jobs?limit=1&style_id=icon"))["next"]
    assert ids(await get(client, path.replace("limit=1", "limit=2"))) == made[1:3]
    for other in (path.replace("icon", "none"), path + "&status=SUCCESS", path + "&tag=a"):
        assert_problem(await client.get(other), 422, "invalid_field")


async def test_each_owner_has_a_list_and_cursors(registry: MemoryRegistry, tmp_path: Path) -> None:
    ours, theirs = (
        {"X-API-Key": add_key(tmp_path / "keys", owner)} for owner in ("ours", "theirs")
    )
    async with serving(make_app(registry, tmp_path, api_keys_file=tmp_path / "keys")) as client:
        for _ in range(3):
            await client.post("/v1/generate", json=ORDER, headers=ours)
        page = (await client.get("/v1/jobs?limit=1", headers=ours)).json()
        other = (await client.get("/v1/jobs", headers=theirs)).json()
        assert other["results"] == []
        assert_problem(await client.get(page["next"], headers=theirs), 422, "invalid_field")
        assert_problem(await client.get("/v1/jobs"), 401, "unauthorized")


async def test_without_a_registry_a_list_is_503(
    client: httpx.AsyncClient, registry: MemoryRegistry
) -> None:
    registry.down = True
    assert_problem(await client.get("/v1/jobs"), 503, "unavailable")
