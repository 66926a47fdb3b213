"""The scheduler under any sequence of arrivals, drops and failures, and its single decisions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serve_app.engine.costs import CostTable
from serve_app.engine.request import Request, Stage
from serve_app.engine.scheduler import Batch, Scheduler
from tests.factories import params

SIZE = (32, 32)


def request(drawing: int, deadline: float, *, alone: bool = False, **changes: Any) -> Request:
    wanted = params(**{"steps": 4, **changes})
    return Request(wanted, 0, drawing, wanted.guidance_scale > 1, deadline, alone)


def sharing(**changes: Any) -> Scheduler:
    """A scheduler for a device on which sharing is nearly free, so calls are as wide as allowed."""
    return Scheduler(CostTable(SIZE, {1: 1.0, 64: 1.001}), **changes)


def start(scheduler: Scheduler) -> None:
    for r in scheduler.start():
        scheduler.started(r)


def scheduled(scheduler: Scheduler) -> Batch:
    start(scheduler)
    batch = scheduler.schedule()
    assert batch is not None
    return batch


class Machine(RuleBasedStateMachine):
    """Drawings arrive and are dropped; calls succeed, run out of memory or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = sharing(max_rows=6, max_live=5, max_decodes=2)
        self.known: list[Request] = []
        self.late: list[Request] = []  # started, but not encoded yet
        self.drawings = 0
        self.clock = 0.0

    @rule(
        n=st.integers(1, 3),
        steps=st.integers(1, 4),
        width=st.sampled_from([32, 40]),
        guidance=st.sampled_from([1.0, 7.5]),
        stop=st.sampled_from([0.0, 0.5, 1.0]),
        scheduler=st.sampled_from(["euler", "heun", "pndm"]),
        strict=st.booleans(),
        alone=st.booleans(),
        patience=st.floats(0.5, 50),
    )
    def arrive(
        self,
        n: int,
        steps: int,
        width: int,
        guidance: float,
        stop: float,
        scheduler: str,
        strict: bool,
        alone: bool,
        patience: float,
    ) -> None:
        p = params(
            n=n,
            steps=steps,
            width=width,
            guidance_scale=guidance,
            guidance_stop=stop,
            scheduler=scheduler,
            reproducible="strict" if strict else None,
        )
        self.drawings += 1
        for i in range(n):
            new = Request(p, i, self.drawings, guidance > 1, self.clock + patience, alone)
            self.known.append(new)
            self.scheduler.add(new)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        drawing = data.draw(st.sampled_from(self.known)).drawing
        for r in [r for r in self.known if r.drawing == drawing]:
            self.scheduler.drop(r)
            self.known.remove(r)

    @rule(outcome=st.sampled_from(["ok", "ok", "ok", "memory", "error", "one fails"]))
    def call(self, outcome: str) -> None:
        if (batch := self.take()) is None:
            return
        if outcome == "memory":
            self.scheduler.cut(batch)
        elif outcome == "error":
            for r in batch.requests:
                r.suspect = True
        else:
            if outcome == "one fails":
                self.finish(batch.requests[0])
            self.settle(batch)

    def take(self) -> Batch | None:
        """Check what `schedule` returns against everything it promises."""
        self.clock += 1
        self.let_in()
        batch = self.scheduler.schedule()
        if batch is None:
            assert not self.known or self.late
            return None
        head = batch.requests[0]
        assert len(set(batch.requests)) == len(batch.requests)
        assert all(r.stage is batch.stage for r in batch.requests)
        if batch.stage is Stage.DENOISING:
            assert len({r.key for r in batch.requests}) == 1
            assert batch.rows <= max(self.scheduler.cap, head.rows)
        else:
            assert len({r.decode_key for r in batch.requests}) == 1
            assert len(batch.requests) <= self.scheduler.decode_cap
        if any(r.own_call for r in batch.requests):
            assert len(batch.requests) == 1
        if any(r.alone for r in self.scheduler.live):
            assert len({r.drawing for r in self.scheduler.live}) == 1
        return batch

    def let_in(self) -> None:
        under_way = {r.drawing for r in self.scheduler.live}
        for r in self.scheduler.start():
            assert r.stage is Stage.STARTING
            if r.alone and r.drawing not in under_way:
                assert not under_way, "started beside others"
            self.scheduler.started(r)

    @rule()
    def start_and_encode_later(self) -> None:
        """Requests become live, and their prompts are still being encoded."""
        for r in self.scheduler.start():
            self.late.append(r)

    @rule()
    def encoded(self) -> None:
        while self.late:
            self.scheduler.started(self.late.pop())

    def settle(self, batch: Batch) -> None:
        self.scheduler.update(batch)
        for r in batch.requests:
            if r.stage is Stage.ENCODING:
                self.finish(r)

    def finish(self, r: Request) -> None:
        self.scheduler.finish(r)
        if r in self.known:
            self.known.remove(r)

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.scheduler.live) <= self.scheduler.max_live
        assert sorted(map(id, [*self.scheduler.live, *self.scheduler.waiting])) == sorted(
            map(id, self.known)
        )

    def teardown(self) -> None:
        """Everything that is left can be finished, and then both lists are empty."""
        self.encoded()
        work = sum(r.evaluations - r.step + 1 for r in self.known)
        for _ in range(work):
            if (batch := self.take()) is None:
                break
            self.settle(batch)
        assert not self.known
        assert not self.scheduler.live
        assert not self.scheduler.waiting


Machine.TestCase.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
TestScheduler = Machine.TestCase


def test_the_earliest_deadline_pre_empts_at_the_next_step() -> None:
    """A running request is paused for a later arrival that is due earlier."""
    scheduler = Scheduler(CostTable(SIZE, {1: 1.0, 2: 2.0}))  # sharing gains nothing
    long, short = request(1, 100.0), request(2, 10.0)
    scheduler.add(long)
    batch = scheduled(scheduler)
    assert batch.requests == [long]
    scheduler.update(batch)
    scheduler.add(short)
    batch = scheduled(scheduler)
    assert batch.requests == [short]
    assert long in scheduler.live


def test_later_arrivals_cannot_starve_a_request() -> None:
    """Deadlines are fixed at arrival, so a stream of short requests overtakes only for a while."""
    scheduler = Scheduler(CostTable(SIZE, {1: 1.0, 2: 2.0}))
    long = request(0, 30.0)
    scheduler.add(long)
    for now in range(100):
        scheduler.add(request(now + 1, now + 5.0, steps=1, guidance_scale=1.0))
        scheduler.update(scheduled(scheduler))
        if long.step:
            return
    pytest.fail("the long request never ran")


@pytest.mark.parametrize("reproducible", [None, "strict"])
def test_guided_and_plain_requests_share_a_call_unless_strict(reproducible: str | None) -> None:
    """Rows are packed flat: two for guidance, one without."""
    scheduler = sharing(max_rows=8)
    for i, guidance in enumerate((7.5, 1.0, 3.3)):
        scheduler.add(request(i, i, guidance_scale=guidance, reproducible=reproducible))
    batch = scheduled(scheduler)
    assert batch.rows == (5 if reproducible is None else 2)


def test_an_urgent_drawing_starts_before_the_rest_of_one_under_way() -> None:
    """Requests start by deadline, also those of a drawing that has begun."""
    scheduler = Scheduler(CostTable(SIZE, {1: 1.0}), max_live=4)
    for _ in range(8):
        scheduler.add(request(1, 10.0))
    assert len(scheduler.start()) == 4
    scheduler.add(request(2, 1.0))
    scheduler.finish(scheduler.live[0])
    (started,) = scheduler.start()
    assert started.drawing == 2


def test_a_drawing_under_quarantine_runs_between_the_others() -> None:
    """It starts when the earlier one has ended, and the later one starts after it."""
    scheduler = sharing()
    before, suspect, after = request(1, 1.0), request(2, 2.0, alone=True), request(3, 3.0)
    for r in (before, suspect, after):
        scheduler.add(r)
    worked: list[int] = []
    while scheduler.waiting or scheduler.live:
        batch = scheduled(scheduler)
        assert len(batch.requests) == 1
        worked.append(batch.requests[0].drawing)
        scheduler.update(batch)
        if batch.requests[0].stage is Stage.ENCODING:
            scheduler.finish(batch.requests[0])
    assert worked == sorted(worked)
    assert set(worked) == {1, 2, 3}


def test_the_cap_recovers() -> None:
    """It is halved by a call that runs out of memory, and doubled after many that do not."""
    scheduler = sharing(max_rows=8)
    scheduler.cut(Batch(Stage.DENOISING, [request(i, i) for i in range(4)]))
    assert scheduler.cap == 4
    for _ in range(200):
        scheduler.update(Batch(Stage.DENOISING, []))
    assert scheduler.cap == 8
