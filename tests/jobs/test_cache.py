"""The registry's memory: bounded, and whoever watches it misses nothing without being told so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.jobs import cache as cache_module
from serve_app.jobs.cache import JobCache
from serve_app.jobs.job import Job, Status
from tests import factories


def job(name: str, **changes: Any) -> Job:
    return factories.job(job_id=name, **changes)


def names(jobs: list[Job]) -> list[str]:
    return [one.job_id for one in jobs]


# ---- what is held ----


def test_running_jobs_are_held_and_of_the_others_the_newest() -> None:
    cache = JobCache(2)
    for name in "abcd":
        cache.hold(job(name), running=name == "a")
    assert [name for name in "abcd" if cache.get(name)] == ["a", "c", "d"]
    cache.hold(job("c"), running=False)  # changed again
    cache.hold(job("e"), running=False)
    assert [name for name in "abcde" if cache.get(name)] == ["a", "c", "e"]
    cache.no_longer_runs("a")
    assert [name for name in "abcde" if cache.get(name)] == ["a", "e"]
    assert cache.sizes()["cached"] == 2


def test_a_job_that_no_longer_runs_has_not_changed() -> None:
    cache = JobCache(5)
    held = cache.hold(job("a"), running=True)
    cache.no_longer_runs("a")
    cache.no_longer_runs("unknown")
    assert (cache.get("a"), cache.running, cache.seq) == (held, {}, 1)


def test_jobs_that_ended_are_told_apart() -> None:
    cache = JobCache(5)
    cache.hold(job("a", status=Status.SUCCESS), running=False)
    cache.hold(job("b", status=Status.RETRY), running=False)
    cache.hold(job("c", status=Status.STARTED), running=True)
    assert names(cache.final()) == ["a"]


# ---- revisions ----


def test_revisions_of_a_job_never_go_back() -> None:
    """Neither when it is read from its row again, nor when it changes after that."""
    cache = JobCache(1)
    first = cache.hold(job("a"), running=False)
    cache.hold(job("b"), running=False)
    assert cache.get("a") is None
    read = cache.newest(job("a"))
    assert read.seq >= first.seq
    assert cache.hold(read, running=True).seq > read.seq
    assert cache.newest(job("a")) == cache.get("a")


def test_a_watcher_hears_each_change_once_and_in_order() -> None:
    cache = JobCache(5)
    for name in ("a", "b", "a", "c"):
        cache.hold(job(name), running=False)
    jobs, cursor = cache.after(0)
    assert (names(jobs), cursor) == (["b", "a", "c"], 4)
    assert cache.after(3) == ([cache.get("c")], 4)
    assert cache.after(4) == ([], 4)


def test_a_reply_is_bounded_and_the_next_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "CHANGES_PER_REPLY", 2)
    cache = JobCache(5)
    for name in "abcde":
        cache.hold(job(name), running=False)
    jobs, cursor = cache.after(0)
    assert (names(jobs), cursor) == (["a", "b"], 2)
    jobs, cursor = cache.after(cursor)
    assert (names(jobs), cursor) == (["c", "d"], 4)
    assert cache.after(cursor) == ([cache.get("e")], 5)


def test_deleted_jobs_are_told_of_and_those_too_are_bounded() -> None:
    cache = JobCache(2)
    for name in "abc":
        cache.hold(job(name), running=False)
        cache.forget(name)
    assert cache.get("a") is None
    assert cache.gone_after(2) == ["c", "b"]
    assert cache.gone_after(6) == []
    assert cache.lost_track(1), "the deletion of a is forgotten"
    assert not cache.lost_track(2)


HAPPENINGS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from(["run", "rest", "delete", "ask"])),
    max_size=200,
)


@settings(deadline=None)
@given(HAPPENINGS, st.integers(1, 4))
def test_who_watches_knows_as_much_as_the_cache_or_is_told_to_start_over(
    happenings: list[tuple[str, str]], cached: int
) -> None:
    """The log of changes stays short meanwhile."""
    cache, cursor = JobCache(cached), 0
    held: dict[str, int] = {}  # newest revision, of all jobs that were not deleted
    known: dict[str, int] = {}  # what the watcher has heard
    for name, what in happenings:
        if what == "delete":
            cache.forget(name)
            held.pop(name, None)
        elif what != "ask":
            held[name] = cache.hold(job(name), running=what == "run").seq
        else:
            if cache.lost_track(cursor):
                known = dict(held)  # it asks for everything anew
                cursor = cache.seq
            jobs, next_cursor = cache.after(cursor)
            known |= {one.job_id: one.seq for one in jobs}
            for gone in cache.gone_after(cursor):
                if gone not in held:
                    known.pop(gone, None)
            cursor = next_cursor
            assert known == held
        sizes = cache.sizes()
        assert sizes["cached"] <= cached
        assert sizes["changes"] <= 64 + 2 * (sizes["cached"] + len(cache.running)) + 1


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from(["run", "rest", "delete"])),
        max_size=60,
    ),
    st.integers(1, 4),
    st.integers(0, 60),
)
def test_of_one_owner_the_same_is_told_as_of_all(
    happenings: list[tuple[str, str]], cached: int, seq: int
) -> None:
    """And nothing is kept of an owner without jobs."""
    cache = JobCache(cached)
    for name, what in happenings:
        if what == "delete":
            cache.forget(name)
        else:
            cache.hold(job(name, owner="xyz"[ord(name) % 3]), running=what == "run")
    jobs, _ = cache.after(seq)
    for owner in "xyz":
        assert cache.after(seq, owner) == ([one for one in jobs if one.owner == owner], cache.seq)
    assert cache.sizes()["owners"] == len({one.owner for one in cache.after(0)[0]})


def test_for_one_owner_no_job_of_another_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page, the oldest change first."""
    monkeypatch.setattr(cache_module, "CHANGES_PER_REPLY", 2)
    cache = JobCache(1000)
    for number in range(500):
        cache.hold(job(f"other {number}", owner="bob"), running=False)
        if number % 100 == 0:
            cache.hold(job(f"{number}"), running=False)
    looked: list[str] = []
    get = cache.get
    monkeypatch.setattr(cache, "get", lambda name: looked.append(name) or get(name))
    told, cursor = list[str](), 0
    while cursor < cache.seq:
        jobs, cursor = cache.after(cursor, "ann")
        assert len(jobs) <= 2
        told += names(jobs)
    assert told == looked == ["0", "100", "200", "300", "400"]
    assert cache.after(0, "cid") == ([], cache.seq)


# ---- waiting ----


async def test_a_change_does_not_swallow_a_cancellation() -> None:
    """Both at once: whoever shuts down must not wait for a waiter that goes on."""
    cache = JobCache(10)
    entered = asyncio.Event()

    async def wait() -> None:
        entered.set()
        await cache.change(60)

    waiting = asyncio.create_task(wait())
    await entered.wait()
    cache.notify()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_change_is_heard_and_a_quiet_time_ends() -> None:
    cache = JobCache(10)
    waiting = asyncio.create_task(cache.change())
    await cache.change(0.001)
    assert not waiting.done()
    cache.hold(job("a"), running=False)
    await waiting
