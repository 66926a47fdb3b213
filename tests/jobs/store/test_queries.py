"""Lists of jobs: what a page holds, and that a walk from page to page misses and repeats nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from serve_app.jobs.store import sqlite
from serve_app.messages import JobFilter, JobPage
from tests.factories import labels, params
from tests.jobs.harness import World
from tests.jobs.store.opens import Opens


class Studio:
    """A world with jobs of every kind, and what is known of each."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.jobs: list[dict[str, Any]] = []  # oldest first

    async def fill(self, number: int = 24) -> None:
        for i in range(number):
            style, tag, model = f"s{i % 3}", f"t{i % 4}", f"m{i % 5}"
            order, said = params(style_id=style, model=model), labels(tags=["all", tag])
            job_id = await self.world.submit(order, said)
            self.jobs.append({"job_id": job_id, "style_id": style, "tag": tag, "model": model})
            await self.world.submit(order, said, owner="bob")
            if i % 2:
                await self.world.registry.cancel(job_id, "ann")
        for job in self.jobs:
            view = await self.world.look(job["job_id"])
            job["status"], job["created_at"] = view["status"], view["created_at"]

    def expected(self, wanted: JobFilter) -> list[str]:
        """Newest first."""
        return [
            job["job_id"]
            for job in reversed(self.jobs)
            if job["status"] in (wanted.get("statuses") or [job["status"]])
            and job["style_id"] == wanted.get("style_id", job["style_id"])
            and job["model"] == wanted.get("model", job["model"])
            and wanted.get("tag", "all") in ("all", job["tag"])
            and wanted.get("created_after", 0) <= job["created_at"]
            and job["created_at"] < wanted.get("created_before", 1e12)
        ]

    async def page(self, wanted: JobFilter, limit: int, **where: int | None) -> JobPage:
        place = {"before": None, "after": None, **where}
        return await self.world.registry.page("ann", wanted, limit, **place)

    async def walk_down(self, wanted: JobFilter, limit: int) -> list[str]:
        """From the newest page to the last."""
        found: list[str] = []
        before = None
        while True:
            page = await self.page(wanted, limit, before=before)
            assert len(page["jobs"]) <= limit
            found += ids(page)
            if (older := page["older"]) is None:
                return found
            assert before is None or older < before, "it goes on"
            before = older

    async def walk_up(self, wanted: JobFilter, limit: int) -> list[str]:
        """From before the oldest job to the newest one, shown newest first."""
        found: list[str] = []
        after = 1
        while True:
            page = await self.page(wanted, limit, after=after)
            assert len(page["jobs"]) <= limit
            found = ids(page) + found
            if (newer := page["newer"]) is None:
                return found
            assert newer > after, "it goes on"
            after = newer


def ids(page: JobPage) -> list[str]:
    return [job["job_id"] for job in page["jobs"]]


@asynccontextmanager
async def studio(tmp_path: Path, open_store: Opens) -> AsyncGenerator[Studio]:
    """Nothing is launched: the jobs stay as they are."""
    async with World(tmp_path, {"cached_jobs": 5}, opens=open_store) as world:
        world.lose_ingress()
        filled = Studio(world)
        await filled.fill()
        yield filled


FILTERS: list[JobFilter] = [
    {},
    {"statuses": ["REVOKED"]},
    {"statuses": ["PENDING", "REVOKED"]},
    {"statuses": ["STARTED"]},
    {"style_id": "s1"},
    {"style_id": "s1", "statuses": ["PENDING"]},
    {"tag": "t2"},
    {"tag": "all", "statuses": ["PENDING"], "style_id": "s2"},
    {"tag": "none"},
    {"model": "m1"},
    {"model": "m1", "statuses": ["PENDING", "REVOKED"]},
    {"model": "m1", "tag": "all"},
    {"model": "m1", "style_id": "s1", "statuses": ["PENDING"]},
    {"model": "none"},
]


@pytest.mark.parametrize("scanned", [5000, 2])
async def test_walks_in_both_directions_show_each_job_once(
    tmp_path: Path, open_store: Opens, monkeypatch: pytest.MonkeyPatch, scanned: int
) -> None:
    """Whatever the filter, the size of the page and the rows one page may look at."""
    monkeypatch.setattr(sqlite, "SCANNED", scanned)
    async with studio(tmp_path, open_store) as filled:
        for wanted in FILTERS:
            for limit in (1, 3, 24, 100):
                expected = filled.expected(wanted)
                assert await filled.walk_down(wanted, limit) == expected, wanted
                assert await filled.walk_up(wanted, limit) == expected, wanted


async def test_a_rare_combination_makes_short_pages_and_a_way_back(
    tmp_path: Path, open_store: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty page in the middle still leads on in both directions."""
    monkeypatch.setattr(sqlite, "SCANNED", 2)
    async with studio(tmp_path, open_store) as filled:
        wanted: JobFilter = {"tag": "all", "style_id": "s0", "statuses": ["REVOKED"]}
        first = await filled.page(wanted, 10)
        assert len(first["jobs"]) <= 2
        assert first["newer"] is None
        before = first["older"]
        while (empty := await filled.page(wanted, 10, before=before))["jobs"]:
            before = empty["older"]
        assert before is not None
        assert empty["older"] is not None
        back = await filled.page({}, 1, after=empty["newer"])
        assert back["older"] == before, "it begins with the job at which the empty page began"

        up = await filled.page(wanted, 10, after=1)
        while up["jobs"]:
            up = await filled.page(wanted, 10, after=up["newer"])
        assert up["older"] is not None
        seen = await filled.walk_down(wanted, 10)
        assert seen == filled.expected(wanted)


async def test_times_bound_a_list_from_then_on_and_until_before(
    tmp_path: Path, open_store: Opens
) -> None:
    async with studio(tmp_path, open_store) as filled:
        times = [job["created_at"] for job in filled.jobs]
        for low, high in ((0, 10), (3, 4), (7, 23)):
            wanted: JobFilter = {"created_after": times[low], "created_before": times[high]}
            assert len(filled.expected(wanted)) == high - low
            assert await filled.walk_down(wanted, 4) == filled.expected(wanted)
            assert await filled.walk_up(wanted, 4) == filled.expected(wanted)
        assert ids(await filled.page({"created_before": times[0]}, 10)) == []
        assert ids(await filled.page({"created_after": times[-1] + 1}, 10)) == []
        nothing: JobFilter = {"created_after": times[5], "created_before": times[5]}
        assert ids(await filled.page(nothing, 10)) == []


async def test_a_cursor_holds_while_jobs_come_and_go(tmp_path: Path, open_store: Opens) -> None:
    """What was there at the first page is shown once; what came later is found above it; deleted jobs
    are not missed."""
    async with studio(tmp_path, open_store) as filled:
        world = filled.world
        expected = filled.expected({})
        first = await filled.page({}, 5)
        assert first["newer"] is None
        found, before, number = ids(first), first["older"], 0
        came: list[str] = []
        gone: list[str] = []
        while before is not None:
            came.append(await world.submit())
            if number % 2 == 0:
                gone.append(found[-1])  # the very job the cursor was made of
                await world.registry.delete(found[-1], "ann")
            number += 1
            page = await filled.page({}, 5, before=before)
            found, before = found + ids(page), page["older"]
        assert found == expected
        top = await filled.page({}, 5, before=None)
        assert ids(top)[: len(came)] == came[::-1]
        second = await world.registry._store.get(found[1])
        assert second is not None
        newer = await filled.page({}, 100, after=second.number)
        assert ids(newer) == [*came[::-1], found[0]]
        assert gone


async def test_a_page_tells_where_its_neighbours_begin(tmp_path: Path, open_store: Opens) -> None:
    async with studio(tmp_path, open_store) as filled:
        expected = filled.expected({})
        first = await filled.page({}, 6)
        second = await filled.page({}, 6, before=first["older"])
        assert ids(second) == expected[6:12]
        back = await filled.page({}, 6, after=second["newer"])
        assert ids(back) == expected[:6]
        assert back["newer"] is None
        forth = await filled.page({}, 6, before=back["older"])
        assert ids(forth) == expected[6:12]


async def test_nobody_is_shown_the_jobs_of_others(tmp_path: Path, open_store: Opens) -> None:
    async with studio(tmp_path, open_store) as filled:
        for wanted in FILTERS:
            page = await filled.world.registry.page("cyd", wanted, 100, None, None)
            assert page == {"jobs": [], "older": None, "newer": None}
            for owner in ("ann", "bob"):
                page = await filled.world.registry.page(owner, wanted, 100, None, None)
                assert {job["owner"] for job in page["jobs"]} <= {owner}


async def test_a_list_shows_jobs_as_they_are_now(tmp_path: Path, open_store: Opens) -> None:
    """Progress is in memory only, and places are the line's to say."""
    async with World(tmp_path, {"max_in_flight": 1}, opens=open_store) as world:
        running, waiting = await world.submit(), await world.submit()
        await world.started(running)
        await world.progress(running, 1, {"step": 2})
        views = (await world.registry.page("ann", {}, 10, None, None))["jobs"]
        assert [view["job_id"] for view in views] == [waiting, running]
        assert views[0]["queue_position"] == 1
        assert views[1]["progress"] == {"step": 2}
        assert views == [await world.look(waiting), await world.look(running)]


async def test_lists_while_everything_changes(tmp_path: Path, open_store: Opens) -> None:
    """Pages read beside writes: each is of one moment, newest first, without repetition."""
    async with World(tmp_path, {"max_in_flight": 2}, opens=open_store) as world:
        jobs = [await world.submit() for _ in range(12)]

        async def draw_all() -> None:
            for job_id in jobs:
                await world.draw(job_id)

        drawing = asyncio.create_task(draw_all())
        while not drawing.done():
            page = await world.registry.page(
                "ann", {"statuses": ["PENDING", "STARTED", "SUCCESS"]}, 100, None, None
            )
            assert ids(page) == jobs[::-1]
        await drawing
