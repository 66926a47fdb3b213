"""The encoders: pixels become files beside the loop, and failures go to the engine."""

from __future__ import annotations

import asyncio
import functools
import io
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from PIL import Image

from serve_app.engine.drawing import Listener
from serve_app.engine.drawings import Drawings
from serve_app.engine.encoders import Encoders
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.request import Request
from serve_app.engine.scheduler import Scheduler
from serve_app.errors import Flagged, NonFinite
from serve_app.messages import RenderedImage
from tests.engine import tiny
from tests.factories import params, ticket

PIXELS = np.arange(8 * 4 * 3, dtype=np.uint8).reshape(8, 4, 3)


class Strict(ModelRunner):
    """Its safety checker refuses pictures that are entirely black."""

    def check(self, request: Request, pixels: Any) -> None:
        if not pixels.any():
            raise Flagged()


class Bench:
    """The encoders with what they work on, and without an engine's loop."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.scheduler = Scheduler(tiny.SharingCosts())
        self.drawings = Drawings(self.scheduler, 0.0, self.changed.notify_all)
        self.finished: list[tuple[Request, RenderedImage]] = []
        self.failures: list[tuple[Request, Exception]] = []
        self.encoders = Encoders(
            Strict(tiny.shared_parts()),
            self.drawings,
            self.changed,
            lambda request, image: self.finished.append((request, image)),
            lambda request, error: self.failures.append((request, error)),
            workers=2,
        )

    def ask(self, job_id: str = "a", *, preview: bool = False) -> tuple[Request, Listener]:
        wanted = params(seed=7)
        listener = Listener(ticket(wanted, job_id=job_id, preview=preview), lambda: None)
        with self.changed:
            self.drawings.join(listener, wanted, guided=True)
        return self.scheduler.waiting[0], listener


@asynccontextmanager
async def bench() -> AsyncGenerator[Bench]:
    made = Bench()
    try:
        yield made
    finally:
        await asyncio.to_thread(made.encoders.close)


async def test_pixels_become_a_png_with_what_is_known_of_them() -> None:
    """Seed, size, notes, what drew it, and the seconds since its drawing was admitted."""
    async with bench() as made:
        request, _ = made.ask()
        with made.changed:
            made.drawings.admit(next(iter(made.drawings)))
        made.encoders.finish(request, lambda: PIXELS, ["a note"])
        await asyncio.to_thread(made.encoders.close)
        ((of, image),) = made.finished
    assert of is request
    assert (image["index"], image["seed"], image["notes"]) == (0, 7, ["a note"])
    assert (image["width"], image["height"], image["has_alpha"]) == (4, 8, False)
    assert image["made_by"] == {"model": "tiny"}
    assert image["render_seconds"] > 0
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(image["data"]))), PIXELS)


async def test_an_image_of_a_drawing_that_has_ended_took_no_time() -> None:
    """The engine then ignores it; its encoder must not fail on it."""
    async with bench() as made:
        request, listener = made.ask()
        with made.changed:
            made.drawings.leave(listener)
        made.encoders.finish(request, lambda: PIXELS, [])
        await asyncio.to_thread(made.encoders.close)
        assert [image["render_seconds"] for _, image in made.finished] == [0.0]


async def test_what_goes_wrong_is_handed_to_the_engine() -> None:
    """Pixels that never arrive, pixels that the safety checker refuses, pixels that are no picture."""

    def not_finite() -> Any:
        raise NonFinite

    async with bench() as made:
        request, _ = made.ask()
        made.encoders.finish(request, not_finite, [])
        made.encoders.finish(request, lambda: np.zeros_like(PIXELS), [])
        made.encoders.finish(request, lambda: PIXELS.astype(np.float64), [])
        await asyncio.to_thread(made.encoders.close)
        assert {type(error) for _, error in made.failures} == {NonFinite, Flagged, TypeError}
        assert made.finished == []


async def test_a_preview_goes_to_the_listeners_that_want_one() -> None:
    """Of the two jobs that share the drawing, one watches."""
    async with bench() as made:
        request, watching = made.ask("a", preview=True)
        _, other = made.ask("b")
        made.encoders.preview(request, lambda: PIXELS)
        await asyncio.to_thread(made.encoders.close)
    for listener in (watching, other):
        listener.post(None)
    (event,) = [event async for event in watching.events()]
    assert event["kind"] == "preview"
    assert Image.open(io.BytesIO(event["data"])).format == "JPEG"
    assert [event async for event in other.events()] == []


async def test_a_preview_never_holds_up_a_finished_picture() -> None:
    """On a busy GPU a preview waits behind the calls that are queued there: it has a thread of its own, and
    of an image only its newest is drawn."""
    async with bench() as made:
        request, watching = made.ask("a", preview=True)
        waits, go, drawn = threading.Event(), threading.Event(), list[int]()

        def draw(number: int) -> Any:
            drawn.append(number)
            waits.set()
            assert go.wait(30)
            return PIXELS

        for number in range(3):
            made.encoders.preview(request, functools.partial(draw, number))
            assert waits.wait(30)  # the first one is being drawn from here on
        finished = threading.Event()
        made.encoders._finished = lambda request, image: finished.set()
        made.encoders.finish(request, lambda: PIXELS, [])
        assert await asyncio.to_thread(finished.wait, 30)
        go.set()
        await asyncio.to_thread(made.encoders.close)
    assert drawn == [0, 2]
    watching.post(None)
    assert [event["kind"] async for event in watching.events()] == ["preview"]


async def test_no_preview_is_drawn_of_an_image_that_is_done() -> None:
    """It would cost the device time that nobody asked for; one that fails harms nobody."""
    async with bench() as made:
        request, listener = made.ask("a", preview=True)
        drawn = list[int]()
        with made.changed:
            made.drawings.leave(listener)
        made.encoders.preview(request, lambda: drawn.append(1))
        other, _ = made.ask("b", preview=True)

        def fail() -> Any:
            raise RuntimeError("a device error")

        made.encoders.preview(other, fail)
        made.encoders.preview(other, lambda: PIXELS)
        await asyncio.to_thread(made.encoders.close)
    assert drawn == []
    assert made.failures == []
