"""Stream: which events the changes of a job make for one reader."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from serve_app.api.streams.stream import Stream
from serve_app.api.view import LocalView
from serve_app.errors import Unavailable
from serve_app.messages import JobView, PreviewImage
from tests.api.harness import STEP
from tests.factories import TERMINAL, image_file, job_view


class Reader:
    """One reader's stream, and the jobs whose previews it asked for."""

    def __init__(self, *, preview: bool = False, away: bool = False) -> None:
        self.asked: list[str] = []
        self._away = away
        self.stream = Stream(LocalView(), preview, self._send_previews)

    async def _send_previews(self, job_id: str) -> None:
        self.asked.append(job_id)
        if self._away:
            raise Unavailable

    async def reads(self, *jobs: JobView) -> list[tuple[str | None, str | None, dict[str, Any]]]:
        """Kind, id and data of the events that these changes make."""
        for job in jobs:
            self.stream.take(job)
        return [
            (event.event, event.id, json.loads(str(event.data)))
            async for event in self.stream.changes()
        ]


def kinds(events: list[tuple[str | None, str | None, dict[str, Any]]]) -> list[str | None]:
    return [kind for kind, _, _ in events]


async def test_the_first_event_of_a_job_is_its_whole_status() -> None:
    ((kind, rev, data),) = await Reader().reads(job_view(rev="1.4", status="STARTED"))
    assert (kind, rev, data["status"]) == ("status", "1.4", "STARTED")
    assert data["request"]["prompt"] == "a red sword"


async def test_a_step_is_progress_and_nothing_new_is_no_event() -> None:
    reader = Reader()
    await reader.reads(job_view(rev="1.1", status="STARTED"))
    step = job_view(rev="1.2", status="STARTED", progress=STEP)
    ((kind, _, data),) = await reader.reads(step)
    assert (kind, data["progress"]) == ("progress", STEP)
    assert await reader.reads(step) == []
    assert await reader.reads() == []


async def test_a_success_tells_its_files_first() -> None:
    reader = Reader()
    await reader.reads(job_view(rev="1.1", status="STARTED"))
    done = job_view(rev="1.2", status="SUCCESS", images=[image_file(), image_file(index=1)])
    events = await reader.reads(done)
    assert kinds(events) == ["output", "output", "status"]
    assert [data["index"] for _, _, data in events[:2]] == [0, 1]
    assert [rev for _, rev, _ in events] == [None, None, "1.2"]


async def test_a_success_that_is_the_first_event_is_its_status_only() -> None:
    """The status holds the files."""
    done = job_view(status="SUCCESS", images=[image_file()])
    assert kinds(await Reader().reads(done)) == ["status"]


@pytest.mark.parametrize("status", sorted(TERMINAL))
async def test_after_its_end_a_job_is_forgotten(status: str) -> None:
    reader = Reader()
    await reader.reads(job_view("a", rev="1.1"))
    assert (reader.stream.live, reader.stream.ended) == ({"a"}, False)
    await reader.reads(job_view("a", rev="1.2", status=status))
    assert (reader.stream.live, reader.stream.ended) == (set(), True)


async def test_ids_grow_whatever_the_order_of_the_changes() -> None:
    """A reader that is cut off in the middle has read all that is older than its last `id`."""
    jobs = [job_view(job_id, rev=f"1.{n}") for job_id, n in (("a", 12), ("b", 9), ("c", 10))]
    events = await Reader().reads(*jobs)
    assert [rev for _, rev, _ in events] == ["1.9", "1.10", "1.12"]


async def test_a_long_tale_leaves_turns_to_others() -> None:
    """A stream may begin with a thousand jobs. The process answers meanwhile, and hears who has left."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(others())
    told = await Reader().reads(*(job_view(str(n), rev=f"1.{n}") for n in range(100)))
    running.cancel()
    assert len(told) == 100
    assert turns >= 100


async def test_of_many_changes_of_a_job_the_newest_is_told() -> None:
    jobs = [job_view(rev=f"1.{n}", progress=STEP | {"step": n}) for n in (1, 3, 2)]
    ((_, rev, data),) = await Reader().reads(*jobs)
    assert (rev, data["progress"]["step"]) == ("1.3", 3)


async def test_a_waiting_jobs_eta_is_progress_and_a_running_ones_is_not() -> None:
    """The ETA of a running job changes all the time, and a fraction of a second is no news."""
    reader = Reader()
    await reader.reads(job_view("w", eta_seconds=20.0), job_view("r", status="STARTED"))
    assert await reader.reads(job_view("w", eta_seconds=19.8)) == []
    assert kinds(await reader.reads(job_view("w", eta_seconds=18.0))) == ["progress"]
    assert await reader.reads(job_view("r", status="STARTED", eta_seconds=3.0)) == []


def look(number: int) -> PreviewImage:
    return PreviewImage(index=0, number=number, data=b"jpeg %d" % number)


async def test_each_preview_is_sent_once() -> None:
    """Also the one that is there already. They are asked for once per job."""
    reader = Reader(preview=True)
    first = await reader.reads(job_view("a", rev="1.1", status="STARTED", preview=look(1)))
    same = job_view("a", rev="1.2", status="STARTED", preview=look(1), progress=STEP)
    second = await reader.reads(same)
    third = await reader.reads(job_view("a", rev="1.3", status="STARTED", preview=look(2)))
    assert kinds(first) == ["status", "preview"]
    assert kinds(second) == ["progress"]
    assert kinds(third) == ["progress", "preview"]
    _, _, data = third[-1]
    assert base64.b64decode(data.pop("data")) == b"jpeg 2"
    assert data == {"job_id": "a", "index": 0, "content_type": "image/jpeg"}
    assert reader.asked == ["a"]


async def test_a_reader_that_did_not_ask_gets_no_previews() -> None:
    reader = Reader()
    job = job_view(status="STARTED", preview=look(1))
    assert kinds(await reader.reads(job)) == ["status"]
    assert reader.asked == []


async def test_previews_that_cannot_be_asked_for_end_no_stream() -> None:
    reader = Reader(preview=True, away=True)
    assert kinds(await reader.reads(job_view("a"))) == ["status"]
    assert reader.asked == ["a"]


async def test_a_change_that_was_missed_wakes_the_stream_but_is_no_event() -> None:
    reader = Reader()
    reader.stream.take(None)
    assert not await reader.stream.changed(1)
    assert reader.stream.may_lack_changes
    reader.stream.take(job_view())
    assert await reader.stream.changed(1)
