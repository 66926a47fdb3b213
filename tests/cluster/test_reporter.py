"""What a renderer tells the registry of all its attempts: one call at a time, and nothing is waited for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from serve_app.cluster import reporter as reporter_module
from serve_app.cluster.reporter import Reporter
from serve_app.messages import Preview, Progress, Report


class Registry:
    """Stands for the actor. A call is answered when a test says so."""

    def __init__(self) -> None:
        self.reports: asyncio.Queue[Report] = asyncio.Queue()
        self.answers: asyncio.Queue[dict[str, int] | Exception] = asyncio.Queue()
        self.under_way = self.most = 0

    async def call(self, app_name: str, method: str, report: Report) -> dict[str, int]:
        assert method == "report"
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.reports.put_nowait(report)
        answer = await self.answers.get()
        self.under_way -= 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def next(self) -> Report:
        async with asyncio.timeout(5):
            return await self.reports.get()

    def answer(self, answer: dict[str, int] | Exception | None = None) -> None:
        self.answers.put_nowait(answer or {})


class Place:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.dropped: list[dict[str, int]] = []
        self.reporter = Reporter("assets", self.dropped.append)


@pytest.fixture(name="place")
async def _place(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Place]:
    registry = Registry()
    monkeypatch.setattr(reporter_module, "call_registry", registry.call)
    monkeypatch.setattr(reporter_module, "PACE_S", 0.001)
    place = Place(registry)
    yield place
    place.reporter._sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await place.reporter._sending
    assert registry.most <= 1


def progress(step: int) -> Progress:
    return Progress(kind="progress", stage="denoising", step=step, steps=8, image=0, images=1)


def preview(data: bytes) -> Preview:
    return Preview(kind="preview", index=0, data=data)


async def test_what_comes_during_a_call_goes_with_the_next_one(place: Place) -> None:
    """All attempts together; of progress and previews only the newest."""
    place.reporter.admitted("a", 1, 2.5)
    assert (await place.registry.next())["admitted"] == [("a", 1, 2.5)]
    place.reporter.admitted("b", 3, None)
    for step in (1, 2):
        place.reporter.progress("a", 1, progress(step))
        place.reporter.preview("a", 1, preview(bytes([step])))
    place.registry.answer()
    report = await place.registry.next()
    assert report["admitted"] == [("b", 3, None)]
    ((job_id, fence, said),) = report["progress"]
    assert (job_id, fence, said["step"], said["value"]) == ("a", 1, 2, 0.25)
    assert "kind" not in said
    assert report["previews"] == [("a", 1, 0, b"\x02")]


async def test_nothing_is_said_of_what_has_ended(place: Place) -> None:
    """Its result tells the rest; and another attempt at the same job is another one."""
    place.reporter.admitted("a", 1, None)
    await place.registry.next()
    for fence in (1, 2):
        place.reporter.progress("a", fence, progress(fence))
        place.reporter.preview("a", fence, preview(b"x"))
    place.reporter.admitted("c", 1, None)
    place.reporter.forget("a", 1)
    place.reporter.forget("c", 1)
    place.registry.answer()
    report = await place.registry.next()
    assert report["admitted"] == []
    assert [entry[:2] for entry in report["progress"]] == [("a", 2)]
    assert [entry[:2] for entry in report["previews"]] == [("a", 2)]


async def test_without_news_there_is_no_call(place: Place) -> None:
    place.reporter.admitted("a", 1, None)
    place.reporter.forget("a", 1)
    place.reporter.admitted("b", 1, None)
    assert (await place.registry.next())["admitted"] == [("b", 1, None)]
    assert place.registry.reports.empty()


async def test_what_the_registry_has_given_up_is_dropped(place: Place) -> None:
    place.reporter.admitted("a", 1, None)
    await place.registry.next()
    place.registry.answer({"a": 1})
    place.reporter.admitted("b", 1, None)
    await place.registry.next()
    assert place.dropped == [{"a": 1}]


@pytest.mark.parametrize(
    "error",
    [
        ActorUnavailableError("restarting", b"\x01" * 16),
        ValueError("there is no registry"),
        TimeoutError(),
        RuntimeError("what nobody thought of"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_admission_that_was_not_taken_is_said_again(
    place: Place, error: Exception
) -> None:
    """Without it the job would seem to wait while it is drawn, and its death would not count."""
    for job_id in ("a", "b"):
        place.reporter.admitted(job_id, 1, 1.0)
    await place.registry.next()
    place.reporter.forget("b", 1)
    place.registry.answer(error)
    assert (await place.registry.next())["admitted"] == [("a", 1, 1.0)]
    place.registry.answer()
    place.reporter.progress("a", 1, progress(1))
    assert (await place.registry.next())["admitted"] == []


async def test_an_admission_is_noted_when_the_registry_has_answered(place: Place) -> None:
    """Not before, and not by a call that failed. What it gives up is dropped first."""
    noted = asyncio.create_task(place.reporter.noted("a", 2, 1.0))
    assert (await place.registry.next())["admitted"] == [("a", 2, 1.0)]
    place.registry.answer(ValueError("there is no registry"))
    assert (await place.registry.next())["admitted"] == [("a", 2, 1.0)]
    assert not noted.done()
    noted.add_done_callback(lambda _: place.dropped.append({"noted": 1}))
    place.registry.answer({"a": 2})
    assert await noted
    assert place.dropped == [{"a": 2}, {"noted": 1}]


async def test_an_admission_is_not_noted_by_a_registry_that_does_not_answer(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter_module, "NOTED_S", 0.01)
    assert not await place.reporter.noted("a", 1, None)


async def test_nothing_is_held_of_attempts_that_have_ended(place: Place) -> None:
    for number in range(50):
        if number % 2:
            place.reporter.admitted("a", number, None)
        else:
            asyncio.create_task(place.reporter.noted("a", number, None)).cancel()
            await asyncio.sleep(0)
        place.reporter.progress("a", number, progress(1))
        place.reporter.preview("a", number, preview(b"x"))
        place.reporter.forget("a", number)
    held: list[Any] = [
        place.reporter._here,
        place.reporter._admitted,
        place.reporter._progress,
        place.reporter._previews,
        place.reporter._unnoted,
    ]
    assert not any(held)
