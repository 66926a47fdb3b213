"""The text thread: admission first, then the request with the earliest deadline, failures to the engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from serve_app.engine import texts
from serve_app.engine.drawing import Listener
from serve_app.engine.drawings import Drawings
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.request import Request, Stage
from serve_app.engine.scheduler import Scheduler
from serve_app.engine.texts import TextThread
from tests.engine import tiny
from tests.factories import params, ticket


class Slow(ModelRunner):
    """Encodes nothing while `go` is not set, and fails for one seed."""

    def __init__(self) -> None:
        super().__init__(tiny.shared_parts())
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.started: list[int] = []

    def start(self, request: Request) -> None:
        self.begun.release()
        assert self.go.wait(30)
        self.started.append(request.seed)
        if request.seed == 13:
            raise ValueError("this prompt cannot be encoded")
        super().start(request)


class Bench:
    """The text thread with what it works on, and without an engine's loop."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.runner = Slow()
        self.scheduler = Scheduler(tiny.SharingCosts())
        self.drawings = Drawings(self.scheduler, 0.0, self.changed.notify_all)
        self.failures: list[tuple[int, Exception]] = []
        self.texts = TextThread(
            self.runner,
            self.scheduler,
            self.drawings,
            self.changed,
            lambda request, error: self.failures.append((request.seed, error)),
        )

    def ask(self, seed: int, priority: str = "normal", *, alone: bool = False) -> Listener:
        """A job that joins, and is queued for the text thread. Nobody reads its events yet."""
        wanted = params(seed=seed)
        asked = ticket(wanted, job_id=str(seed), priority=priority, alone=alone)
        listener = Listener(asked, self._wake)
        with self.changed:
            self.drawings.join(listener, wanted, guided=True)
            self.texts.start(self.scheduler.start())
        return listener

    def _wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def stages(self) -> dict[int, Stage]:
        return {request.seed: request.stage for request in self.scheduler.live}


@asynccontextmanager
async def bench() -> AsyncGenerator[Bench]:
    made = Bench()
    try:
        yield made
    finally:
        made.runner.go.set()
        await asyncio.to_thread(made.texts.close)


async def test_the_earliest_deadline_is_encoded_first() -> None:
    """Among the requests that wait when the thread is free, not in the sequence of their arrival."""
    async with bench() as made:
        made.ask(1)
        assert await asyncio.to_thread(made.runner.begun.acquire, timeout=30)
        made.ask(2, "low")
        made.ask(3, "high")
        made.runner.go.set()
        await asyncio.to_thread(made.texts.close)
        assert made.runner.started == [1, 3, 2]
        assert set(made.stages().values()) == {Stage.DENOISING}
        assert all(request.state is not None for request in made.scheduler.live)


async def test_a_drawing_is_admitted_before_anything_is_done_for_it() -> None:
    """If encoding killed the process, the registry would know whom to suspect."""
    async with bench() as made:
        listener = made.ask(1)
        event = await anext(listener.events())
        assert event["kind"] == "admitted"
        assert made.runner.started == []


async def test_a_drawing_alone_begins_when_its_reader_has_noted_that_it_is_admitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long that takes: only then would the registry know whom to blame. One in company does not wait,
    and one that is dropped is not waited for."""
    monkeypatch.setattr(texts, "ADMISSION_SECONDS", 0.0)
    async with bench() as made:
        made.runner.go.set()
        dropped = made.ask(1, alone=True)
        assert (await anext(dropped.events()))["kind"] == "admitted"
        with made.changed:
            made.drawings.leave(dropped)
        noted = made.ask(2, alone=True)
        events = noted.events()
        assert (await anext(events))["kind"] == "admitted"
        assert made.runner.started == []
        assert made.stages() == {2: Stage.STARTING}
        await anext(events)  # its reader comes back for the next event
        assert await asyncio.to_thread(made.runner.begun.acquire, timeout=30)
        with made.changed:
            made.drawings.leave(noted)
        made.ask(3)
        await asyncio.to_thread(made.texts.close)
        assert made.runner.started == [2, 3]


async def test_a_request_that_was_dropped_while_it_waited_is_not_encoded() -> None:
    """Its turn comes, and it is gone."""
    async with bench() as made:
        made.ask(1)
        assert await asyncio.to_thread(made.runner.begun.acquire, timeout=30)
        dropped = made.ask(2)
        with made.changed:
            made.drawings.leave(dropped)
        made.runner.go.set()
        await asyncio.to_thread(made.texts.close)
        assert made.runner.started == [1]


async def test_a_request_that_cannot_be_encoded_is_handed_to_the_engine() -> None:
    """The thread goes on with the next one."""
    async with bench() as made:
        made.runner.go.set()
        made.ask(13)
        made.ask(1)
        await asyncio.to_thread(made.texts.close)
        ((seed, error),) = made.failures
        assert (seed, type(error)) == (13, ValueError)
        assert made.stages()[1] is Stage.DENOISING
