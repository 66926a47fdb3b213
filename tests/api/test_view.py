"""LocalView: answers never go back, memory is bounded, and a place in line is at most a second old."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.api.registry_client import RegistryClient
from serve_app.api.view import LocalView, follow, rev_of
from serve_app.messages import JobView
from tests.api.harness import LocalTransport
from tests.factories import JOB_ID, TERMINAL, job_view, watch_reply
from tests.jobs.harness import World

IDS = ["a", "b", "c"]
STATES = ["PENDING", "STARTED", "RETRY", "STARTED", "SUCCESS"]


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """What one registry answers over two lives, in order: replies to watches from cursors of any age, and
    single jobs. A job's status and revision only move on."""
    said: list[tuple[str, Any]] = []
    for epoch in (1, 2):
        jobs: dict[str, JobView] = {}
        for seq in range(1, 1 + draw(st.integers(1, 8))):
            job_id = draw(st.sampled_from(IDS))
            step = jobs[job_id]["fence"] + 1 if job_id in jobs else 0
            if step < len(STATES):
                jobs[job_id] = job_view(
                    job_id, status=STATES[step], rev=f"{epoch}.{seq}", fence=step
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
    """Answers may be late, doubled and out of order: what the view shows of a job only moves on."""
    view = LocalView(max_others=3)
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
        assert len(view) <= len(IDS)


def test_revisions_are_compared_as_numbers() -> None:
    view = LocalView()
    view.apply(watch_reply([job_view(rev="1.9")], 9))
    view.apply(watch_reply([job_view(rev="1.10", status="STARTED")], 10))
    held = view.get(job_view()["job_id"])
    assert held is not None
    assert held["status"] == "STARTED"


def test_a_new_epoch_is_asked_for_jobs_it_does_not_name() -> None:
    view = LocalView()
    view.apply(watch_reply([job_view("a", rev="1.1"), job_view("b", rev="1.2")], 2))
    view.apply(watch_reply([job_view("b", rev="2.0")], 0, epoch=2, resync=True))
    a, b = view.get("a"), view.get("b")
    assert view.cursor == (2, 0)
    assert b
    assert view.good_enough(b)
    assert a
    assert not view.good_enough(a)


def test_an_older_epoch_is_ignored() -> None:
    view = LocalView()
    assert view.apply(watch_reply([], 1, epoch=2, resync=True))
    assert not view.apply(watch_reply([job_view()], 9, epoch=1, resync=True))
    assert len(view) == 0


def test_finished_jobs_are_bounded() -> None:
    view = LocalView(max_others=10)
    for n in range(100):
        view.apply(watch_reply([job_view(str(n), rev=f"1.{n}", status="SUCCESS")], n))
    assert len(view) == 10
    assert view.get("99")
    assert view.get("89") is None


def test_a_live_job_that_the_watch_has_passed_is_not_kept() -> None:
    """Its end may have been evicted already, and then nothing would ever remove it."""
    view = LocalView()
    view.apply(watch_reply([], 7))
    assert view.remember(job_view(rev="1.7", status="STARTED"))["status"] == "STARTED"
    assert len(view) == 0
    view.remember(job_view(rev="1.8", status="STARTED"))
    assert len(view) == 1


def test_waiting_jobs_are_bounded_and_running_ones_are_all_held() -> None:
    view = LocalView(max_others=10)
    running = [job_view(f"r{n}", rev=f"1.{n}", status="STARTED") for n in range(20)]
    waiting = [job_view(f"w{n}", rev=f"1.{20 + n}") for n in range(100)]
    view.apply(watch_reply([*running, *waiting], 120))
    assert len(view) == 30


def test_a_deleted_job_is_forgotten() -> None:
    view = LocalView()
    view.apply(watch_reply([job_view("a", rev="1.1", status="SUCCESS")], 1))
    view.apply(watch_reply([], 2, gone=["a"]))
    assert len(view) == 0


def test_a_waiting_job_is_good_enough_for_a_second_and_a_running_one_while_fed() -> None:
    """A place in line changes without a change of the job."""
    now = 10.0
    view = LocalView(clock=lambda: now)
    waiting, running = job_view("w", rev="1.1"), job_view("r", rev="1.2", status="STARTED")
    view.apply(watch_reply([waiting, running], 2))
    assert view.good_enough(waiting)
    now = 11.1
    view.apply(watch_reply([], 2))
    assert not view.good_enough(waiting)
    assert view.good_enough(running)
    now = 13.0
    assert not view.good_enough(running)
    assert view.good_enough(job_view(status="SUCCESS"))


def test_subscribers_hear_what_changed_and_when_they_may_have_missed_something() -> None:
    view = LocalView()
    heard: list[str | None] = []
    stop = view.subscribers.of_job(JOB_ID, lambda job: heard.append(job and job["rev"]))
    view.apply(watch_reply([job_view(rev="1.1")], 1))
    view.remember(job_view(rev="1.1"))
    view.apply(watch_reply([job_view(rev="2.1")], 1, epoch=2, resync=True))
    stop()
    view.apply(watch_reply([job_view(rev="2.2")], 2, epoch=2))
    assert heard == ["1.1", "2.1", None]


def test_a_view_is_fresh_for_a_second() -> None:
    now = 10.0
    view = LocalView(clock=lambda: now)
    assert not view.fresh
    view.apply(watch_reply([], 1))
    assert view.fresh
    now = 11.1
    assert not view.fresh


async def test_follow_comes_back_to_a_registry_that_was_away(
    world: World, transport: LocalTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not answer, then fails as nobody expected, and then it was restarted."""
    monkeypatch.setattr("serve_app.api.view.BACKOFF_S", (0.01, 0.02))
    view = LocalView()
    job_id = await world.submit()
    await world.started(job_id)
    transport.down = True
    following = asyncio.create_task(follow(RegistryClient(transport), view))
    await transport.missed.wait()
    transport.failures["watch"] = RuntimeError("nobody expected this")
    transport.down = False
    transport.missed.clear()
    await transport.missed.wait()
    assert len(view) == 0
    transport.failures.clear()
    await transport.caught_up()
    held = view.get(job_id)
    assert held is not None
    assert (held["status"], view.fresh) == ("STARTED", True)
    await transport.restart()
    await world.started(job_id, fence=2)
    await transport.caught_up()
    assert view.cursor[0] == world.registry.epoch
    following.cancel()
    await asyncio.wait([following])


def test_an_old_job_that_somebody_asks_for_is_no_news() -> None:
    view = LocalView()
    view.apply(watch_reply([], 7))
    heard: list[str | None] = []
    view.subscribers.of_owner("ann", lambda job: heard.append(job and job["rev"]))
    view.remember(job_view("a", rev="1.7", status="SUCCESS"))
    view.remember(job_view("b", rev="1.8", status="SUCCESS"))
    assert heard == ["1.8"]


def test_who_watches_a_live_job_hears_that_it_is_deleted() -> None:
    view = LocalView()
    jobs = [job_view("a", rev="1.1"), job_view("b", rev="1.2", status="REVOKED")]
    view.apply(watch_reply(jobs, 2))
    heard: list[JobView | None] = []
    view.subscribers.of_owner("ann", heard.append)
    view.apply(watch_reply([], 3, gone=["b", "c"]))
    assert heard == []
    view.apply(watch_reply([], 4, gone=["a"]))
    assert heard == [None]


def test_successors_are_counted_from_the_first_reply_on() -> None:
    """A restarted registry counts from none again."""
    view = LocalView()
    counts: list[int] = []
    for seq, (epoch, deployment) in enumerate([(1, 3), (1, 3), (1, 4), (2, 0), (2, 1)]):
        view.apply(watch_reply([], seq, epoch=epoch, deployment=deployment))
        counts.append(view.successors)
    assert counts == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("status", ["PENDING", "STARTED", "RETRY", "SUCCESS"])
def test_what_a_new_start_does_not_name_is_not_good_enough(status: str) -> None:
    """A job that ran may have ended: then it is not among those that run, and no change reports it."""
    view = LocalView()
    view.apply(watch_reply([job_view("a", rev="1.1", status=status)], 1))
    view.apply(watch_reply([], 5, epoch=2, resync=True))
    view.apply(watch_reply([], 6, epoch=2))
    held = view.get("a")
    assert held is not None
    assert not view.good_enough(held)
