"""For tests of a running engine: a runner with a gate, an engine that must end empty, streams of events."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from PIL import Image

from serve_app.engine.engine import Engine
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.request import Request
from serve_app.engine.scheduler import Scheduler
from serve_app.messages import RenderEvent
from tests.engine import tiny
from tests.factories import params, ticket

PATIENCE_S = 30.0  # of a test that waits for an event which should come within milliseconds


class Gated(ModelRunner):
    """Waits before a denoising call while its gate is closed, and records every call."""

    def __init__(self) -> None:
        super().__init__(tiny.shared_parts())
        self.gate = threading.Event()
        self.gate.set()
        self.at_gate = threading.Semaphore(0)
        self.calls: list[list[Request]] = []
        self.previewed: list[tuple[int, int]] = []  # seed, step
        self.before_call: Callable[[list[Request]], None] = lambda requests: None

    def denoise(self, requests: Sequence[Request]) -> dict[Request, Exception]:
        self.calls.append(list(requests))
        if not self.gate.is_set():
            self.at_gate.release()
            assert self.gate.wait(PATIENCE_S)
        self.before_call(list(requests))
        return super().denoise(requests)

    def preview(self, request: Request) -> Callable[[], Any]:
        self.previewed.append((request.seed, request.step))
        return super().preview(request)

    async def arrived(self) -> None:
        """Returns when a call waits at the closed gate."""
        assert await asyncio.to_thread(self.at_gate.acquire, timeout=PATIENCE_S)


@asynccontextmanager
async def running(
    runner: ModelRunner, on_fault: Callable[[], object] = lambda: None, report_every: float = 0.0
) -> AsyncGenerator[Engine]:
    """An engine that must hold no drawing and no request at the end."""
    scheduler = Scheduler(tiny.SharingCosts())
    engine = Engine(runner, scheduler, on_fault=on_fault, report_every=report_every)
    engine.start()
    try:
        yield engine
    finally:
        if isinstance(runner, Gated):
            runner.gate.set()
        await engine.close()
    stats = engine.stats()
    assert (stats["jobs"], stats["live"], stats["waiting"]) == (0, 0, 0)
    assert not engine._drawings._by_key


def stream(engine: Engine, job_id: str = "a", **changes: Any) -> AsyncGenerator[RenderEvent]:
    """One attempt; `changes` are fields of its ticket or of its params."""
    fields = ("epoch", "fence", "alone", "priority", "preview")
    of_ticket = {name: changes.pop(name) for name in fields if name in changes}
    wanted = params(**changes)
    return engine.render(wanted, ticket(wanted, job_id=job_id, **of_ticket))


async def render(engine: Engine, job_id: str = "a", **changes: Any) -> list[Any]:
    """All events of one attempt."""
    return [event async for event in stream(engine, job_id, **changes)]


async def until(engine: Engine, condition: Callable[[], bool]) -> None:
    """Returns when the engine's state meets `condition`, which is checked at each of its changes."""

    def wait() -> None:
        with engine._changed:
            assert engine._changed.wait_for(condition, PATIENCE_S)

    await asyncio.to_thread(wait)


async def joined(engine: Engine, count: int) -> None:
    """Returns when `count` jobs of one image each are in the engine, and their prompts are encoded."""

    def met() -> bool:
        stats = engine.stats()
        return stats["jobs"] == stats["live"] == count and stats["starting"] == 0

    await until(engine, met)


def kinds(events: Sequence[Any]) -> list[str]:
    return [event["kind"] for event in events]


def image_of(events: Sequence[Any]) -> np.ndarray[Any, Any]:
    """The pixels of the only image."""
    (data,) = [event["data"] for event in events if event["kind"] == "image"]
    return np.asarray(Image.open(io.BytesIO(data)))
