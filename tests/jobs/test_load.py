"""What is in flight before a job is what a walk over all jobs in flight finds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.jobs.job import Job, Status
from serve_app.jobs.load import Load
from serve_app.priorities import PATIENCE_OF
from tests.factories import job, labels, summary

NOW = 1000.0


@dataclass(frozen=True)
class Flying:
    number: int
    started: bool
    work: int
    done: float
    priority: str


FLYING = st.builds(
    Flying,
    number=st.integers(1, 20),
    started=st.booleans(),
    work=st.integers(1, 8),
    done=st.sampled_from([0.0, 0.25, 1.0]),
    priority=st.sampled_from(sorted(PATIENCE_OF)),
)


def made(flying: Flying) -> Job:
    return job(
        labelled=labels(priority=flying.priority),
        job_id=f"j{flying.number}",
        number=flying.number,
        summary=summary(work=float(flying.work)),
        status=Status.STARTED if flying.started else Status.RETRY,
        started_at=NOW - flying.number if flying.started else None,
        progress={"value": flying.done},
    )


@given(st.lists(FLYING, max_size=12), FLYING, st.sampled_from([0.0, 0.5, 3.0]), st.booleans())
def test_it_is_what_a_walk_finds(
    all_flying: list[Flying], one: Flying, rate: float, any_due: bool
) -> None:
    load, held = Load(), {flying.number: made(flying) for flying in all_flying}
    for flying in all_flying:
        load.put(made(flying))
    asks = made(one)
    due = math.inf if any_due else NOW + PATIENCE_OF[asks.priority] * rate * asks.work
    waiting, left = 0, 0.0
    for other in held.values():
        waiting += other.status.waiting and (asks.number not in held or other.number < asks.number)
        if other.number == asks.number or (other.started_at is None and other.number > asks.number):
            continue
        if (other.started_at or NOW) + PATIENCE_OF[other.priority] * rate * other.work <= due:
            left += other.work * (1 - (other.progress or {})["value"])
    assert load.launched_before(asks) == waiting
    assert load.before(due, NOW, rate, asks) == pytest.approx(left)


def test_a_job_that_left_counts_no_more() -> None:
    load = Load()
    load.put(made(Flying(1, started=True, work=4, done=0.0, priority="normal")))
    assert load.before(math.inf, NOW, 1.0, None) == 4.0
    load.drop("j1")
    load.drop("j1")
    assert load.before(math.inf, NOW, 1.0, None) == 0.0
