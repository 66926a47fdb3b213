"""Drawings and their listeners: what a reader gets, which jobs share a drawing, what progress says."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from serve_app.engine.drawing import Drawing, Listener, drawing_key, failed
from serve_app.engine.request import RECORDED, Request, Stage
from serve_app.engine.runner import Stopped
from serve_app.errors import NonFinite
from serve_app.messages import Admitted, Preview, Progress
from serve_app.params import GenerationParams
from serve_app.priorities import PATIENCE_OF
from tests.factories import params, rendered_image, ticket

ADMITTED = Admitted(kind="admitted")


def progress(step: int) -> Progress:
    return Progress(kind="progress", stage="denoising", step=step, steps=9, image=0, images=2)


def preview(index: int, data: bytes) -> Preview:
    return Preview(kind="preview", index=index, data=data)


def drawing_of(n: int = 2, **changes: Any) -> Drawing:
    wanted = params(n=n, **changes)
    drawing = Drawing(0, drawing_key(wanted, None), wanted, alone=False)
    drawing.requests = [Request(wanted, i, 0, guided=True) for i in range(n)]
    return drawing


async def read(listener: Listener) -> list[Any]:
    return [event async for event in listener.events()]


# ---- listeners ----


async def test_a_listener_takes_its_attempt_from_the_ticket() -> None:
    """Priority becomes patience, in solo times."""
    listener = Listener(
        ticket(job_id="a", epoch=2, fence=3, alone=True, priority="high", preview=True),
        lambda: None,
    )
    assert (listener.job_id, listener.epoch, listener.fence) == ("a", 2, 3)
    assert (listener.alone, listener.wants_previews) == (True, True)
    assert listener.patience == PATIENCE_OF["high"]


async def test_unread_progress_and_previews_are_replaced_and_images_are_not() -> None:
    """Only by the next event of the same kind, and a preview only by one of the same image."""
    listener = Listener(ticket(), lambda: None)
    listener.post(ADMITTED, progress(1), progress(2), preview(0, b"old"), preview(0, b"new"))
    listener.post(
        preview(1, b"other"), rendered_image(index=0), rendered_image(index=1), progress(9), None
    )
    events = await read(listener)
    assert [event["kind"] for event in events] == [
        *("admitted", "progress", "preview", "preview", "image", "image", "progress")
    ]
    assert [event["step"] for event in events if event["kind"] == "progress"] == [2, 9]
    assert [event["data"] for event in events if event["kind"] == "preview"] == [b"new", b"other"]


async def test_events_come_from_any_thread_to_a_reader_that_waits() -> None:
    """The engine posts from its own threads."""
    listener = Listener(ticket(), lambda: None)
    reader = asyncio.create_task(read(listener))
    thread = threading.Thread(target=listener.post, args=(ADMITTED, rendered_image(index=0), None))
    thread.start()
    events = await reader
    thread.join()
    assert [event["kind"] for event in events] == ["admitted", "image"]


async def test_a_reader_acknowledges_by_asking_for_the_second_event() -> None:
    """Then it has handled the first one, which is "admitted". It is told once."""
    told: list[bool] = []
    listener = Listener(ticket(), lambda: told.append(True))
    listener.post(ADMITTED, progress(1), rendered_image(index=0), None)
    events = listener.events()
    assert (await anext(events))["kind"] == "admitted"
    assert (listener.acknowledged, told) == (False, [])
    assert (await anext(events))["kind"] == "progress"
    assert (listener.acknowledged, told) == (True, [True])
    assert [event["kind"] async for event in events] == ["image"]
    assert told == [True]


def test_events_for_a_closed_event_loop_are_dropped() -> None:
    """A replica that shuts down may close its loop before the engine has ended."""

    async def listen() -> Listener:
        return Listener(ticket(), lambda: None)

    asyncio.run(listen()).post(rendered_image(index=0), None)


# ---- drawings ----


def test_progress_counts_all_images_and_tells_the_stage_of_the_last_one() -> None:
    """queued, encoding, denoising, decoding: from admission to the last pixels."""
    drawing = drawing_of(steps=4)

    def stage() -> str:
        return drawing.progress(0.0)["stage"]

    assert stage() == "queued"
    drawing.admitted_at = 0.0
    for request in drawing.requests:
        request.stage = Stage.STARTING
    assert stage() == "encoding"
    first, second = drawing.requests
    first.stage, first.step = Stage.DENOISING, 3
    assert stage() == "denoising"
    first.stage, second.stage = Stage.ENCODING, Stage.DENOISING
    drawing.images[0] = rendered_image(index=0)
    assert stage() == "denoising"
    second.stage, second.step = Stage.DECODING, 4
    assert drawing.progress(1.234) == {
        **{"kind": "progress", "stage": "decoding", "eta_seconds": 1.23},
        **{"step": 7, "steps": 8, "image": 1, "images": 2},
    }
    assert not drawing.complete
    drawing.images[1] = rendered_image(index=1)
    assert drawing.complete


async def test_a_drawing_has_been_acknowledged_when_all_of_its_listeners_have() -> None:
    """And it draws previews as soon as one of them wants some."""
    drawing = drawing_of()
    drawing.listeners = [Listener(ticket(job_id=job), lambda: None) for job in "ab"]
    drawing.listeners[0].acknowledged = True
    assert not drawing.acknowledged
    assert not drawing.wants_previews
    drawing.listeners[1].acknowledged = drawing.listeners[1].wants_previews = True
    assert drawing.acknowledged
    assert drawing.wants_previews


CHANGED: dict[str, Any] = {
    "prompt": "a blue shield",
    "negative_prompt": "blurry",
    "seed": 2,
    "n": 2,
    "width": 40,
    "height": 40,
    "steps": 6,
    "guidance_scale": 6.0,
    "guidance_rescale": 0.5,
    "guidance_stop": 0.5,
    "decoder": "tiny",
    "tile": "x",
    "prompt_syntax": "weighted",
    "clip_skip": 2,
    "loras": [{"name": "ink"}],
    "embeddings": [{"name": "fox"}],
    "init_image": {"upload_id": "a", "sha256": "3" * 64, "given": {"upload_id": "a"}},
    "strength": 0.5,
    "mask_image": {"upload_id": "b", "sha256": "4" * 64, "given": {"upload_id": "b"}},
    "control": [{"type": "canny", "image": {"upload_id": "b", "sha256": "4" * 64, "given": {}}}],
    "reference": {"image": {"upload_id": "b", "sha256": "4" * 64, "given": {}}},
    "scheduler": "ddim",
    "timesteps": (800, 400, 300, 200, 100),
    "reproducible": "strict",
    "model": "other",
    "model_revision": "1" * 12,
    "quality": "draft",
    "style_id": "icon",
    "style_revision": "2" * 12,
    "subject": "sword",
    "subject_negative": "text",
    "finishing": {"redraws": 1},
    "not_taught": "This model was not taught “katana”.",
}


@pytest.mark.parametrize("field", GenerationParams.model_fields)
def test_jobs_share_a_drawing_exactly_if_their_pixels_are_equal(field: str) -> None:
    """Every parameter separates them, apart from those that are only recorded."""
    equal = drawing_key(params(), None) == drawing_key(params(**{field: CHANGED[field]}), None)
    assert equal is (field in RECORDED)


def test_of_a_source_picture_only_its_pixels_count() -> None:
    """Not under which id they were brought, nor from which job they are."""
    one = {"upload_id": "a", "sha256": "3" * 64, "given": {"upload_id": "a"}}
    other = {"upload_id": "b", "sha256": "3" * 64, "given": {"job_id": "c", "index": 1}}
    keys = {
        drawing_key(
            params(
                init_image=x,
                mask_image=x,
                control=[{"type": "canny", "image": x}],
                reference={"image": x},
            ),
            None,
        )
        for x in (one, other)
    }
    assert len(keys) == 1


def test_a_job_under_quarantine_shares_with_no_other() -> None:
    """Not even with another job under quarantine that wants the same pixels."""
    keys = [drawing_key(params(), alone_for) for alone_for in (None, "a", "b")]
    assert len(set(keys)) == 3
    assert drawing_key(params(), "a") == keys[1]


def test_an_error_becomes_an_event_that_says_whether_to_try_again() -> None:
    """Code, title and detail are those of the error."""
    event = failed(NonFinite())
    assert (event["kind"], event["code"], event["retryable"]) == ("failed", "non_finite", False)
    assert failed(Stopped())["retryable"]
