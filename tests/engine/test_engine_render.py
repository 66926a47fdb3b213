"""Orders through the whole engine: the events of a stream, images, sharing and failures."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from PIL import Image

from serve_app.engine.engine import Engine
from serve_app.engine.model_runner import ModelRunner
from serve_app.engine.scheduler import Scheduler
from tests.engine import tiny


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine(ModelRunner(tiny.shared_parts()), Scheduler(tiny.sharing_costs()))
    engine.start()
    yield engine
    await engine.close()
    assert engine.stats()["live"] == engine.stats()["waiting"] == engine.stats()["jobs"] == 0


async def events_of(engine: Engine, job_id: str = "a", **changes: Any) -> list[Any]:
    stream = engine.render(tiny.params(**changes), job_id=job_id, epoch=1, fence=1)
    return [event async for event in stream]


async def test_a_stream_is_admitted_progress_images(engine: Engine) -> None:
    """Admitted comes first and once; every image has its seed; progress ends complete."""
    events = await events_of(engine, n=3, seed=7)
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "admitted"
    assert kinds.count("admitted") == 1
    images = {e["index"]: e for e in events if e["kind"] == "image"}
    assert {i: e["seed"] for i, e in images.items()} == {0: 7, 1: 8, 2: 9}
    assert Image.open(io.BytesIO(images[0]["data"])).size == (tiny.SIZE, tiny.SIZE)
    last = [e for e in events if e["kind"] == "progress"][-1]
    assert (last["step"], last["steps"], last["image"], last["images"]) == (15, 15, 3, 3)
