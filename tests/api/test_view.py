"""LocalView: never back, bounded, and quick about the place in line."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.api.view import TERMINAL, LocalView, follow, rev_of
from serve_app.messages import JobView, WatchReply
from tests.api.harness import MemoryRegistry, job_view, watch_reply

IDS = ["a", "b", "c"]
STATES = ["PENDING", "STARTED", "RETRY", "STARTED", "SUCCESS"]


def line(view: LocalView) -> list[tuple[int, str]]:
    return view._line


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """What one registry says over two lives, in the order in which it says it: replies to watches from
    cursors of any age, and single jobs. A job's state and rev only move on."""
    said: list[tuple[str, Any]] = []
    for epoch in (1, 2):
        jobs: dict[str, JobView] = {}
        for seq in range(1, 1 + draw(st.integers(1, 8))):
            job_id = draw(st.sampled_from(IDS))
            step = jobs[job_id]["fence"] + 1 if job_id in jobs else 0
            if step < len(STATES):
                jobs[job_id] = job_view(
                    job_id, status=STATES[step], rev=f"{epoch}.{seq}", fence=step, order=ord(job_id)
                )
            since = draw(st.integers(0, seq))
            resync = since == 0
            changed = [job for job in jobs.values() if rev_of(job)[1] > since]
            if resync:
                changed = [job for job in changed if job["status"] not in TERMINAL]
            said.append(("watch", watch_reply(changed, seq, epoch=epoch, resync=resync)))
            said += [("get", job) for job in jobs.values()]
    return said


@settings(deadline=None)
@given(history=histories(), data=st.data())
def test_no_interleaving_goes_back(history: list[tuple[str, Any]], data: st.DataObject) -> None:
    """Answers may be late, doubled and out of order: what a job was said to be only moves on."""
    view = LocalView(max_finished=1)
    shown: dict[str, tuple[int, int]] = dict.fromkeys(IDS, (0, 0))
    heard = data.draw(st.lists(st.sampled_from(history), max_size=30))
    for kind, what in heard:
        if kind == "watch":
            view.apply(what)
        else:
            view.remember(what)
        for job_id in IDS:
            if job := view.get(job_id):
                assert rev_of(job) >= shown[job_id]
                shown[job_id] = rev_of(job)
        waiting = [j for j in IDS if (v := view.get(j)) and v["status"] in ("PENDING", "RETRY")]
        assert [job_id for _, job_id in line(view)] == waiting
        assert len(view) <= len(IDS)


def test_revisions_are_compared_as_numbers() -> None:
    view = LocalView()
    view.apply(watch_reply([job_view(rev="1.9")], 9))
    view.apply(watch_reply([job_view(rev="1.10", status="STARTED")], 10))
    held = view.get(job_view()["job_id"])
    assert held is not None
    assert held["status"] == "STARTED"


def test_a_new_epoch_forgets_live_jobs_it_does_not_name() -> None:
    view = LocalView()
    view.apply(watch_reply([job_view("a", rev="1.1"), job_view("b", rev="1.2")], 2))
    view.apply(watch_reply([job_view("b", rev="2.0")], 0, epoch=2, resync=True))
    assert view.get("a") is None
    assert view.cursor == (2, 0)
    assert [job_id for _, job_id in line(view)] == ["b"]


def test_an_older_epoch_says_nothing() -> None:
    view = LocalView()
    assert view.apply(watch_reply([], 1, epoch=2, resync=True))
    assert not view.apply(watch_reply([job_view()], 9, epoch=1, resync=True))
    assert len(view) == 0


def test_finished_jobs_are_bounded() -> None:
    view = LocalView(max_finished=10)
    for n in range(100):
        view.apply(watch_reply([job_view(str(n), rev=f"1.{n}", status="SUCCESS")], n))
    assert len(view) == 10
    assert view.get("99")
    assert view.get("89") is None


def test_a_live_job_asked_for_directly_is_not_kept() -> None:
    """Nothing would ever remove it, had the watch gone past it already."""
    view = LocalView()
    assert view.remember(job_view())["status"] == "PENDING"
    assert len(view) == 0


def test_the_place_in_line_follows_order() -> None:
    view = LocalView()
    jobs = [job_view(str(n), rev=f"1.{n}", order=n) for n in range(5)]
    view.apply(watch_reply(jobs, 5))
    view.apply(watch_reply([job_view("1", rev="1.6", order=1, status="STARTED")], 6))
    assert [view.queue_position(job) for job in jobs if job["job_id"] != "1"] == [1, 2, 3, 4]
    assert view.queue_position(job_view("new", order=9)) == 5
    assert view.queue_position(job_view("1", status="STARTED")) is None


def test_ten_thousand_wait_and_each_place_is_quick() -> None:
    """Far from a scan: 10,000 questions, changes in between, well under the time of one scan each."""
    view = LocalView()
    jobs = [job_view(str(n), rev=f"1.{n}", order=n) for n in range(10_000)]
    view.apply(watch_reply(jobs, 10_000))
    began = time.process_time()
    for n, job in enumerate(jobs):
        assert view.queue_position(job) == 1
        started = job_view(job["job_id"], rev=f"1.{10_001 + n}", order=n, status="STARTED")
        view.apply(watch_reply([started], 10_001 + n))
    assert time.process_time() - began < 5


def test_eta_counts_slots_and_those_ahead() -> None:
    view = LocalView()
    jobs = [job_view(str(n), rev=f"1.{n}", order=n) for n in range(6)]
    jobs[0]["status"] = jobs[1]["status"] = "STARTED"
    jobs[0]["started_at"] = jobs[1]["started_at"] = 100.0
    view.apply(watch_reply(jobs, 6, slots=2, seconds_per_job=10.0))
    assert view.eta_seconds(jobs[0], now=104.0) == 6
    assert view.eta_seconds(jobs[0], now=900.0) == 0
    assert [view.eta_seconds(job, now=104.0) for job in jobs[2:]] == [15, 20, 25, 30]
    assert view.eta_seconds(job_view(status="SUCCESS"), now=104.0) is None


def test_eta_is_unknown_without_a_pace_or_a_start() -> None:
    view = LocalView()
    view.apply(watch_reply([], 1, slots=2))
    assert view.eta_seconds(job_view(), now=0) is None
    view.apply(watch_reply([], 2, slots=2, seconds_per_job=1.0, paused="no renderer"))
    assert view.eta_seconds(job_view(), now=0) is None
    assert view.waiting_for(job_view()) == "no renderer"
    assert view.waiting_for(job_view(waiting_for="retry")) == "retry"
    assert view.waiting_for(job_view(status="STARTED")) is None


def test_a_view_is_fresh_for_a_second() -> None:
    now = 10.0
    view = LocalView(clock=lambda: now)
    assert not view.fresh
    view.apply(watch_reply([], 1))
    assert view.fresh
    now = 11.1
    assert not view.fresh


class FlakyRegistry(MemoryRegistry):
    """Is away for the first two watches, and counts the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.watches = 0
        self.seen = asyncio.Event()

    async def watch(self, epoch: int, seq: int, timeout_s: float) -> WatchReply:
        self.watches += 1
        self.down = self.watches <= 2
        if epoch == 1:
            self.seen.set()
        return await super().watch(epoch, seq, timeout_s)


async def test_follow_comes_back_to_a_registry_that_was_away() -> None:
    registry, view = FlakyRegistry(), LocalView()
    registry.jobs["a"] = job_view("a")
    registry.change("a", status="STARTED")
    following = asyncio.create_task(follow(registry, view))
    await asyncio.wait_for(registry.seen.wait(), 10)
    following.cancel()
    await asyncio.wait([following])
    held = view.get("a")
    assert held is not None
    assert held["status"] == "STARTED"
    assert view.fresh
