"""What is said of a job's end comes true where it can be known, and nothing is said where it cannot."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from serve_app.jobs.cache import JobCache
from serve_app.jobs.estimates import Estimates
from serve_app.jobs.job import Job, Status
from serve_app.jobs.line import Entry
from serve_app.jobs.lines import Lines
from tests import factories

from .harness import World

WORK = factories.params().work
SECONDS = 3.0  # that one such job takes alone


@dataclass
class Device:
    """One device that draws in the order of the line, `slots` at once in the time they take one after
    the other, on a clock of its own. `overhead`: seconds it does nothing between jobs."""

    monkeypatch: pytest.MonkeyPatch
    says: bool = True  # the engine knows its costs
    slots: int = 1
    overhead: float = 0.0
    speed: float = 1.0  # jobs in company take this many times less than one after the other
    paused: str | None = None
    now: float = 1000.0
    cache: JobCache = field(default_factory=lambda: JobCache(1000))
    lines: Lines = field(default_factory=Lines)
    submitted: int = 0
    came: dict[str, float] = field(default_factory=dict[str, float])
    running: list[Job] = field(default_factory=list[Job])  # first in, first out

    def __post_init__(self) -> None:
        self.monkeypatch.setattr("serve_app.jobs.estimates.time", self)
        self.estimates = Estimates(
            self.cache, self.lines, lambda _: self.paused, 1, lambda: self.now
        )

    def monotonic(self) -> float:
        return self.now

    def submit(self, client: str = "ann", seconds: float = SECONDS) -> Job:
        self.submitted += 1
        new = factories.job(
            labelled=factories.labels(client=client),
            job_id=f"j{self.submitted}",
            summary=factories.summary(work=WORK * seconds / SECONDS),
            created_at=self.now,
            number=self.submitted,
        )
        self.lines.add(Entry(new.place, new.job_id, new.owner, new.client, new.work))
        held = self.cache.hold(new, running=False)
        self.estimates.promised(self.estimates.view(held))
        return held

    def fill(self) -> None:
        """Launch and admit what the slots take."""
        while (
            len(self.running) < self.slots and (entry := self.lines.pop(lambda _: True)) is not None
        ):
            job = self.cache.get(entry.job_id)
            assert job is not None
            self.estimates.admitted(job, job.work * SECONDS / WORK if self.says else None)
            started = job.evolve(status=Status.STARTED, started_at=self.now, fence=1)
            self.running.append(self.cache.hold(started, running=True))

    def end_first(self, status: Status = Status.SUCCESS, after: float | None = None) -> Job:
        """`after`: seconds until it ends; None: what it takes."""
        job = self.running.pop(0)
        takes = job.work * SECONDS / WORK / self.speed + self.overhead
        seconds = takes if after is None else after
        self.now += seconds
        ended = job.evolve(status=status, completed_at=self.now)
        self.cache.hold(ended, running=False)
        self.estimates.ended(ended, others=len(self.running))
        self.came[job.job_id] = self.now
        return ended

    def draw_all(self) -> None:
        self.fill()
        while self.running:
            self.end_first()
            self.fill()

    def eta(self, job: Job) -> float:
        eta = self.estimates.view(self.cache.get(job.job_id) or job)["eta_seconds"]
        assert eta is not None
        return eta


@pytest.fixture(name="device")
def _device(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Device]:
    return lambda **how: Device(monkeypatch, **how)


Make = Callable[..., Device]


@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("overhead", [0.0, 0.4])
@pytest.mark.parametrize("speed", [0.5, 1.0, 3.0])
def test_a_line_of_equal_jobs_ends_when_it_was_said(
    device: Make, says: bool, slots: int, overhead: float, speed: float
) -> None:
    """Within 15 %, for every job of twenty and at any moment, once a few have run."""
    one = device(says=says, slots=slots, overhead=overhead, speed=speed)
    for _ in range(25):
        one.submit()
    one.draw_all()
    jobs = [one.submit() for _ in range(20)]
    said: list[tuple[Job, float, float]] = []
    one.fill()
    while one.running:
        waiting = [job for job in jobs if job.job_id in one.lines]
        said += [(job, one.now, one.eta(job)) for job in waiting]
        one.end_first()
        one.fill()
    for job, when, seconds in said:
        came = one.came[job.job_id] - when
        assert abs(seconds - came) <= max(0.15 * came, 0.5 * SECONDS * slots / speed), (
            job.job_id,
            came,
        )


def test_what_was_promised_is_compared_with_what_came(device: Make) -> None:
    one = device()
    for _ in range(5):
        one.submit()
    one.draw_all()
    assert one.estimates.stats()["eta_error"]["default"] == {"count": 0}  # nothing could be known
    for _ in range(30):
        one.submit()
    assert one.estimates.stats()["promised"] == 30
    one.draw_all()
    stats = one.estimates.stats()
    errors = stats["eta_error"]["default"]
    assert stats["promised"] == 0
    assert errors["count"] == 30
    assert errors["median"] < 0.05
    assert errors["p95"] < 0.15


def test_before_anything_ran_nothing_is_said(device: Make) -> None:
    one = device()
    job = one.submit()
    assert one.estimates.view(job)["eta_seconds"] is None
    assert one.estimates.view(job)["queue_position"] == 1
    assert one.estimates.of_new(WORK, "ann") is None
    one.fill()
    assert one.eta(job) == pytest.approx(SECONDS)  # its engine said so when it took it
    assert one.estimates.of_new(WORK, "ann") == pytest.approx(2 * SECONDS)


def test_while_nothing_is_launched_nobody_knows_when(device: Make) -> None:
    """A position yes, an end no: the pause may last."""
    one = device()
    one.submit()
    one.draw_all()
    job = one.submit()
    one.paused = "renderer"
    view = one.estimates.view(job)
    assert (view["eta_seconds"], view["queue_position"]) == (None, 1)
    assert view["waiting_for"] == "renderer"
    assert one.estimates.of_new(WORK, "ann") is None
    one.paused = None
    assert one.eta(job) == pytest.approx(SECONDS)


def test_a_running_job_says_what_its_engine_says_and_counts_down(device: Make) -> None:
    one = device()
    job = one.submit()
    one.fill()
    running = one.running[0].evolve(progress={"eta_seconds": 2.0}, reported_at=one.now)
    one.cache.hold(running, running=True)
    one.now += 0.5
    assert one.eta(job) == pytest.approx(1.5)
    one.now += 5
    assert one.eta(job) == 0


def test_work_in_flight_counts_as_far_as_it_is_left(device: Make) -> None:
    one = device()
    one.submit()
    one.draw_all()
    one.submit()
    waiting = one.submit()
    one.fill()
    assert one.eta(waiting) == pytest.approx(2 * SECONDS)
    half = one.running[0].evolve(progress={"value": 0.5})
    one.cache.hold(half, running=True)
    assert one.eta(waiting) == pytest.approx(1.5 * SECONDS)


def test_a_bigger_job_takes_longer_by_its_work(device: Make) -> None:
    one = device()
    one.submit()
    one.draw_all()
    assert one.eta(one.submit(seconds=4 * SECONDS)) == pytest.approx(4 * SECONDS)


def test_a_short_job_does_not_wait_for_a_long_one_that_an_engine_lets_it_pass(device: Make) -> None:
    one = device(slots=2)
    one.submit()
    one.draw_all()
    long = one.submit(seconds=10 * SECONDS)
    one.fill()
    short = one.submit()
    assert one.eta(short) == pytest.approx(SECONDS)
    one.fill()
    another = one.submit(seconds=10 * SECONDS)  # both that run are due before it
    assert one.eta(another) == pytest.approx((10 + 1 + 10) * SECONDS)
    behind = one.submit()  # it enters when those that run now are done; a line counts by its mean
    assert one.eta(behind) == pytest.approx((10 + 1 + 5.5 + 1) * SECONDS)
    assert one.eta(long) == pytest.approx(10 * SECONDS)


def test_a_job_that_runs_again_does_not_wait_for_itself(device: Make) -> None:
    one = device()
    one.submit()
    one.draw_all()
    one.submit(seconds=4 * SECONDS)
    one.fill()
    again = one.running[0].evolve(status=Status.RETRY, started_at=None)
    one.cache.hold(again, running=True)
    assert one.eta(again) == pytest.approx(4 * SECONDS)


@pytest.mark.parametrize("status", [Status.REVOKED, Status.FAILURE, Status.SUCCESS])
def test_a_quiet_time_after_the_last_job_is_no_work(device: Make, status: Status) -> None:
    """Somebody cancels the last job, or sees it end, and goes home: tomorrow's forecasts are not a night
    long."""
    one = device()
    for _ in range(5):
        one.submit()
    one.draw_all()
    one.submit()
    one.fill()
    one.end_first(status, after=None if status is Status.SUCCESS else 0.1)
    one.now += 8 * 3600
    one.submit()
    one.draw_all()
    assert one.eta(one.submit()) == pytest.approx(SECONDS, rel=0.15)


@pytest.mark.parametrize("says", [True, False])
def test_jobs_that_fail_at_once_do_not_make_the_others_look_quick(device: Make, says: bool) -> None:
    one = device(says=says)
    for status in (Status.FAILURE, Status.SUCCESS, *[Status.FAILURE] * 20):
        one.submit()
        one.fill()
        one.end_first(status, after=None if status is Status.SUCCESS else 0.0)
    assert one.eta(one.submit()) == pytest.approx(SECONDS, rel=0.15)


def test_a_job_that_was_cut_short_judges_no_forecast(device: Make) -> None:
    one = device()
    one.submit()
    one.draw_all()
    for status in (Status.REVOKED, Status.FAILURE):
        one.submit()
        one.fill()
        one.end_first(status, after=0.1)
    assert one.estimates.stats()["promised"] == 0
    assert one.estimates.stats()["eta_error"]["default"] == {"count": 0}


def test_seconds_per_place_follow_the_jobs_that_wait(device: Make) -> None:
    one = device()
    assert one.estimates.seconds_per_place() == 1.0  # nothing is known
    one.submit()
    one.draw_all()
    for _ in range(4):
        one.submit(seconds=2 * SECONDS)
    assert one.estimates.seconds_per_place() == pytest.approx(2 * SECONDS)


def test_positions_count_those_in_flight_that_no_renderer_has_taken(device: Make) -> None:
    one = device(slots=3)
    jobs = [one.submit() for _ in range(5)]
    one.fill()
    launched = [dataclasses.replace(job, status=Status.PENDING) for job in one.running[1:]]
    for job in launched:
        one.cache.hold(job, running=True)
    places = [one.estimates.view(one.cache.get(j.job_id) or j)["queue_position"] for j in jobs]
    assert places == [None, 1, 2, 3, 4]


async def test_no_end_is_promised_while_nothing_is_launched(tmp_path: Path) -> None:
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        first = await world.submit()
        assert (await world.look(first))["eta_seconds"] is None
        await world.launched(first)
        await world.registry.admitted(first, 1, solo_seconds=10.0)
        second = await world.submit()
        assert (await world.look(second))["eta_seconds"] == pytest.approx(20.0, rel=0.1)
        world.lose_ingress()
        assert (await world.look(second))["eta_seconds"] is None
