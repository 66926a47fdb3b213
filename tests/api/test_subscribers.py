"""Subscribers: each hears of its own job or owner, and of nothing else."""

from __future__ import annotations

from serve_app.api.subscribers import Subscribers
from serve_app.messages import JobView
from tests.factories import job_view


def test_a_change_is_told_to_those_whom_it_concerns() -> None:
    subscribers = Subscribers()
    heard: dict[str, list[str | None]] = {"a": [], "b": [], "ann": [], "bob": []}

    def hears(name: str, job: JobView | None) -> None:
        heard[name].append(job and job["job_id"])

    for name in ("a", "b"):
        subscribers.of_job(name, lambda job, name=name: hears(name, job))
    for name in ("ann", "bob"):
        subscribers.of_owner(name, lambda job, name=name: hears(name, job))
    subscribers.tell(job_view("a", owner="ann"))
    subscribers.tell(job_view("c", owner="bob"))
    subscribers.tell(job_view("bob", owner="cid"))  # no owner of this name is meant
    assert heard == {"a": ["a"], "b": [], "ann": ["a"], "bob": ["c"]}
    subscribers.tell_all_that_changes_may_lack()
    assert [events[-1] for events in heard.values()] == [None] * 4


def test_whom_a_change_does_not_concern_costs_nothing() -> None:
    """However many they are: only one function is called."""
    subscribers, calls = Subscribers(), 0

    def count(job: JobView | None) -> None:
        nonlocal calls
        calls += 1

    for number in range(2500):
        subscribers.of_job(str(number), lambda job: count(job))
    subscribers.tell(job_view("7"))
    assert calls == 1


def test_who_has_left_hears_nothing_and_leaves_nothing() -> None:
    """Also one that leaves twice, or while it is told."""
    subscribers = Subscribers()
    heard: list[JobView | None] = []

    def once(job: JobView | None) -> None:
        heard.append(job)
        stop()

    stop = subscribers.of_job("a", once)
    others = [subscribers.of_owner("ann", heard.append) for _ in range(2)]
    for _ in range(2):
        subscribers.tell(job_view("a", owner="ann"))
    for leave in (*others, stop):
        leave()
    assert len(subscribers) == 0
    assert not subscribers._of_job
    assert not subscribers._of_owner
    assert len(heard) == 3
