"""The scheduler under any order of arrivals, drops and failures, and its single decisions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serve_app.engine.costs import CostTable
from serve_app.engine.request import Request, Stage
from serve_app.engine.scheduler import Batch, Scheduler
from serve_app.params import GenerationParams

SIZE = (64, 64)


def params(**changes: Any) -> GenerationParams:
    order: dict[str, Any] = {
        "prompt": "",
        "seed": 0,
        "width": 64,
        "height": 64,
        "steps": 4,
        "guidance_scale": 5.0,
        "scheduler": "euler",
        "model": "m",
        "model_revision": "r",
    }
    return GenerationParams.model_validate(order | changes)


def request(order: int, deadline: float, *, alone: bool = False, **changes: Any) -> Request:
    p = params(**changes)
    return Request(p, 0, order, p.guidance_scale > 1, deadline=deadline, alone=alone)


def sharing(**changes: Any) -> Scheduler:
    """Sharing is nearly free here, so calls are as wide as they may be."""
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
    """Orders arrive and are dropped; calls succeed, run out of memory or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = sharing(max_rows=6, max_live=5, max_decodes=2)
        self.known: list[Request] = []
        self.late: list[Request] = []
        self.orders = 0
        self.clock = 0.0

    @rule(
        n=st.integers(1, 3),
        steps=st.integers(1, 4),
        width=st.sampled_from([64, 72]),
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
        self.orders += 1
        for i in range(n):
            new = Request(p, i, self.orders, guidance > 1, self.clock + patience, alone)
            self.known.append(new)
            self.scheduler.add(new)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        order = data.draw(st.sampled_from(self.known)).order
        for r in [r for r in self.known if r.order == order]:
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
        """What `schedule` returns is checked here against everything it promises."""
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
            assert len({r.order for r in self.scheduler.live}) == 1
        return batch

    def let_in(self) -> None:
        under_way = {r.order for r in self.scheduler.live}
        for r in self.scheduler.start():
            assert r.stage is Stage.STARTING
            if r.alone and r.order not in under_way:
                assert not under_way, "started beside others"
            self.scheduler.started(r)

    @rule()
    def start_and_encode_later(self) -> None:
        """Requests are let in, and nothing says yet that they are encoded."""
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
        """Whatever happened, everything still known ends, and nothing is left behind."""
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


def test_an_urgent_order_starts_before_the_rest_of_others_under_way() -> None:
    """Though they have begun, their other images wait for their turn like everybody."""
    scheduler = Scheduler(CostTable(SIZE, {1: 1.0}), max_live=4)
    for _ in range(8):
        scheduler.add(request(1, 10.0))
    assert len(scheduler.start()) == 4
    scheduler.add(request(2, 1.0))
    scheduler.finish(scheduler.live[0])
    (started,) = scheduler.start()
    assert started.order == 2


def test_an_order_under_quarantine_waits_and_holds_back() -> None:
    """It starts when the others have ended, and what comes after it starts later."""
    scheduler = sharing()
    before, suspect, after = request(1, 1.0), request(2, 2.0, alone=True), request(3, 3.0)
    for r in (before, suspect, after):
        scheduler.add(r)
    order_of_work: list[int] = []
    while scheduler.waiting or scheduler.live:
        batch = scheduled(scheduler)
        assert len(batch.requests) == 1
        order_of_work.append(batch.requests[0].order)
        scheduler.update(batch)
        if batch.requests[0].stage is Stage.ENCODING:
            scheduler.finish(batch.requests[0])
    assert order_of_work == sorted(order_of_work)
    assert set(order_of_work) == {1, 2, 3}


def test_memory_lost_is_won_back() -> None:
    """The cap is halved by a call that was too large, and doubled after many that were not."""
    scheduler = sharing(max_rows=8)
    scheduler.cut(Batch(Stage.DENOISING, [request(i, i) for i in range(4)]))
    assert scheduler.cap == 4
    for _ in range(200):
        scheduler.update(Batch(Stage.DENOISING, []))
    assert scheduler.cap == 8


def test_narrow_calls_for_a_short_line_wide_calls_for_a_long_one() -> None:
    """Where sharing gains 1.2 at best, two requests take turns and many share."""
    costs = CostTable(SIZE, {1: 1.0, 2: 1.7, 4: 3.0, 8: 5.7})
    assert costs.worth_sharing(SIZE, [2, 2], 16) == 1
    assert costs.worth_sharing(SIZE, [2] * 16, 16) >= 2


def test_a_short_request_does_not_wait_for_long_ones_unless_the_line_is_long() -> None:
    """Four evaluations beside thirty: alone while few wait, shared when the device must hurry."""
    costs = CostTable(SIZE, {1: 35.0, 2: 49.0, 4: 71.0, 8: 113.0, 16: 204.0})
    assert costs.worth_sharing(SIZE, [1, 2, 2], 16, [4, 30, 30]) == 1
    assert costs.worth_sharing(SIZE, [1, 1, 1, 1, 2], 16, [4, 4, 4, 4, 30]) == 4
    assert costs.worth_sharing(SIZE, [1] + [2] * 6, 16, [4] + [30] * 6) == 1
    assert costs.worth_sharing(SIZE, [1] + [2] * 8, 16, [4] + [30] * 8) > 1


def test_where_sharing_gains_nothing_requests_take_turns() -> None:
    """The floor: with c(n) = n x c(1), every call holds one request, whatever waits."""
    costs = CostTable(SIZE, {1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0})
    for waiting in (1, 4, 32):
        assert costs.worth_sharing(SIZE, [2] * waiting, 16) == 1


def test_the_cap_bounds_a_call_but_never_its_first_request() -> None:
    """A cap below the rows of one request still lets it run."""
    costs = CostTable(SIZE, {1: 1.0, 64: 1.001})
    assert costs.worth_sharing(SIZE, [2, 2, 1, 2], 5) == 3
    assert costs.worth_sharing(SIZE, [2, 1], 1) == 1


def test_costs_learn_but_ignore_a_hiccup() -> None:
    """A disturbed call does not move the table; a steady change moves every row count."""
    costs = CostTable(SIZE, {1: 1.0, 2: 1.5})
    costs.observe(SIZE, 1, 10.0)
    assert costs.seconds(SIZE, 1) == 1.0
    for _ in range(50):
        costs.observe(SIZE, 1, 2.0)
    assert costs.seconds(SIZE, 1) == pytest.approx(2.0, abs=0.01)
    assert costs.seconds(SIZE, 2) > 1.7


def test_a_device_that_becomes_much_slower_is_believed_in_the_end() -> None:
    costs = CostTable(SIZE, {1: 1.0, 2: 1.5})
    for _ in range(60):
        costs.observe(SIZE, 1, 10.0)
    assert costs.seconds(SIZE, 1) == pytest.approx(10.0, rel=0.05)


def test_a_bad_measurement_at_warm_up_is_outgrown() -> None:
    """Counts that looked dear are tried again, so sharing starts where it pays after all."""
    costs = CostTable(SIZE, {1: 1.0, 2: 1.3, 4: 40.0})
    line = [2] * 8
    assert costs.worth_sharing(SIZE, line, 4) == 1
    for _ in range(8000):
        rows = 2 * costs.worth_sharing(SIZE, line, 4)
        costs.observe(SIZE, rows, {2: 1.3, 4: 1.8}[rows])
    assert costs.worth_sharing(SIZE, line, 4) == 2


def test_an_unmeasured_size_starts_from_the_native_one() -> None:
    """Costs scale with pixels until the size has been seen."""
    costs = CostTable(SIZE, {1: 1.0, 2: 1.5})
    wide = (128, 64)
    assert costs.seconds(wide, 2) == pytest.approx(3.0)
    for _ in range(100):
        costs.observe(wide, 1, 4.0)
    assert costs.seconds(wide, 1) == pytest.approx(4.0, abs=0.01)
    assert costs.seconds(SIZE, 1) == 1.0
