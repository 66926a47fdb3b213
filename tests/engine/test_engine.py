"""A running engine: events of a stream, drops, sharing, quarantine, previews, failures, deadlines."""

from __future__ import annotations

import asyncio
import io
import threading
import weakref
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from serve_app.engine.engine import Engine
from serve_app.engine.request import Request
from serve_app.engine.scheduler import Scheduler
from tests.engine import tiny
from tests.engine.harness import Gated, image_of, joined, kinds, render, running, stream, until

# ---- events ----


async def test_a_stream_is_admitted_progress_images() -> None:
    """Admitted comes first and once; every image has its seed; progress ends complete."""
    async with running(Gated()) as engine:
        events = await render(engine, n=3, seed=7)
    assert events[0] == {"kind": "admitted", "solo_seconds": 5.0}
    assert kinds(events).count("admitted") == 1
    images = {e["index"]: e for e in events if e["kind"] == "image"}
    assert {i: e["seed"] for i, e in images.items()} == {0: 7, 1: 8, 2: 9}
    assert Image.open(io.BytesIO(images[0]["data"])).size == (tiny.SIZE, tiny.SIZE)
    last = [e for e in events if e["kind"] == "progress"][-1]
    assert (last["step"], last["steps"], last["image"], last["images"]) == (15, 15, 3, 3)


async def test_progress_is_sent_at_most_once_in_report_every() -> None:
    """Each event passes through two more processes. The first progress and every image always come."""
    async with running(Gated(), report_every=3600) as engine:
        events = await render(engine, n=2, steps=9)
        late = await render(engine, "b")
    assert kinds(events) == ["admitted", "progress", "image", "image"]
    assert kinds(late) == ["admitted", "progress", "image"]


async def test_events_are_plain_values() -> None:
    """Unpickling a subclass of str from torch would make every job task import torch."""
    async with running(Gated()) as engine:
        events = await render(engine, n=2, preview=True)
    assert set(kinds(events)) >= {"admitted", "progress", "preview", "image"}
    values: list[Any] = list(events)
    while values:
        value = values.pop()
        assert type(value) in (dict, list, tuple, str, bytes, int, float, bool, type(None)), value
        values += value.values() if type(value) is dict else ()
        values += value if type(value) in (list, tuple) else ()


async def test_a_slow_reader_gets_the_latest_progress_and_every_image() -> None:
    """Unread progress is replaced by the next one; images are not."""
    async with running(Gated()) as engine:
        reader = stream(engine, n=2, steps=9)
        events = [await anext(reader)]
        await until(engine, lambda: engine.stats()["images"] == 2)
        events += [event async for event in reader]
    assert kinds(events).count("image") == 2
    assert kinds(events).count("progress") <= 4


async def test_progress_says_how_long_it_will_take() -> None:
    """A second per call by this cost table: alone, behind another job, and at the end."""
    runner = Gated()
    runner.gate.clear()
    async with running(runner) as engine:
        first = asyncio.create_task(render(engine, "a", seed=1, steps=8))
        await runner.arrived()
        second = asyncio.create_task(render(engine, "b", seed=2, steps=20))
        await joined(engine, 2)
        assert engine.stats()["gain"] == 1.0
        runner.gate.set()
        etas = [
            [event["eta_seconds"] for event in await task if event["kind"] == "progress"]
            for task in (first, second)
        ]
        assert engine.stats()["gain"] > 1.0
    assert etas[0][0] == pytest.approx(8, abs=0.1)
    assert etas[1][0] == pytest.approx(28, abs=0.1)
    for seconds in etas:
        assert seconds == sorted(seconds, reverse=True)
        assert seconds[-1] == 0.0


# ---- sharing ----


async def test_images_of_a_job_share_one_text_encoding() -> None:
    """Four images have two texts: the prompt and the negative prompt."""
    runner = Gated()
    async with running(runner) as engine:
        await render(engine, n=4)
    assert runner.texts.misses == 2
    assert runner.texts.hits == 6


async def test_concurrent_jobs_share_calls_and_draw_their_own_images() -> None:
    """Jobs that arrive together run in the same calls; their images are those drawn alone."""
    runner = Gated()
    runner.gate.clear()
    async with running(runner) as engine:
        first = asyncio.create_task(render(engine, "a", seed=1))
        await runner.arrived()
        second = asyncio.create_task(render(engine, "b", seed=2))
        third = asyncio.create_task(render(engine, "c", seed=3, guidance_scale=1.0))
        await joined(engine, 3)
        runner.gate.set()
        drawn = [image_of(await task) for task in (first, second, third)]
        assert max(len(call) for call in runner.calls) == 3
    async with running(Gated()) as engine:
        for seed, guidance, image in zip((1, 2, 3), (5.0, 5.0, 1.0), drawn, strict=True):
            alone = image_of(await render(engine, seed=seed, guidance_scale=guidance))
            assert np.abs(alone.astype(int) - image.astype(int)).max() <= 1


async def test_jobs_that_want_the_same_pixels_share_a_drawing() -> None:
    """Both readers get all events, and the drawing lives until the last of them leaves."""
    runner = Gated()
    runner.gate.clear()
    async with running(runner) as engine:
        tasks = [asyncio.create_task(render(engine, job)) for job in "ab"]
        await runner.arrived()
        leaver = stream(engine, "c")
        assert (await anext(leaver))["kind"] == "admitted"
        await leaver.aclose()
        assert engine.drop(1, {"b": 1}) == 1
        runner.gate.set()
        kept, dropped = await asyncio.gather(*tasks)
        assert (kinds(kept)[0], kinds(dropped)[-1]) == ("admitted", "failed")
        assert image_of(kept).shape == (tiny.SIZE, tiny.SIZE, 3)
        stats = engine.stats()
    assert (stats["images"], stats["coalesced"]) == (1, 2)


# ---- drops ----


async def test_no_step_starts_after_a_drop() -> None:
    """The step that runs when the drop comes is the last one; the other job in the call finishes."""
    runner = Gated()
    runner.gate.clear()
    async with running(runner) as engine:
        dropped = asyncio.create_task(render(engine, "a", fence=3))
        await runner.arrived()
        kept = asyncio.create_task(render(engine, "b", seed=2))
        await joined(engine, 2)
        assert engine.drop(1, {"a": 3, "b": 0}) == 1
        done = len(runner.calls)
        runner.gate.set()
        events = await dropped
        assert events[-1]["code"] == "dropped"
        assert kinds(await kept)[-1] == "progress"
        assert all(r.params.seed == 2 for call in runner.calls[done:] for r in call)
        assert (await render(engine, "a", fence=2))[0]["code"] == "dropped"
        assert "image" in kinds(await render(engine, "a", fence=4))


async def test_a_newer_epoch_ends_every_older_one() -> None:
    """Streams of older epochs end, and later ones are refused at once."""
    runner = Gated()
    runner.gate.clear()
    async with running(runner) as engine:
        old = asyncio.create_task(render(engine, "a", epoch=1))
        await runner.arrived()
        assert engine.drop(2, {}) == 1
        runner.gate.set()
        assert (await old)[-1]["code"] == "dropped"
        assert kinds(await render(engine, "b", epoch=1)) == ["failed"]
        assert "image" in kinds(await render(engine, "b", epoch=2))


async def test_closing_the_iterator_drops_the_drawing() -> None:
    """A reader that leaves ends the work for it."""
    runner = Gated()
    async with running(runner) as engine:
        async with aclosing(stream(engine, steps=40)) as reader:
            await anext(reader)
        assert engine.stats()["jobs"] == 0
    assert len(runner.calls) < 40


async def test_the_engine_says_for_whom_it_works() -> None:
    """Job id -> newest attempt, so that a renderer can ask the registry about each."""
    runner = Gated()
    runner.gate.clear()
    async with running(runner) as engine:
        tasks = [
            asyncio.create_task(render(engine, "a", fence=fence, seed=fence)) for fence in (2, 3)
        ]
        await until(engine, lambda: engine.stats()["jobs"] == 2)
        assert engine.holders() == {"a": 3}
        runner.gate.set()
        await asyncio.gather(*tasks)
        assert engine.holders() == {}


# ---- quarantine ----


async def test_a_job_under_quarantine_is_the_only_suspect() -> None:
    """It is admitted when no other job is under way, and none is admitted until it has ended."""
    runner = Gated()
    runner.gate.clear()
    under_way: set[str] = set()
    seen: list[set[str]] = []

    async def read(job: str, seed: int, *, alone: bool = False) -> None:
        async for event in stream(engine, job, seed=seed, alone=alone):
            if event["kind"] == "admitted":
                under_way.add(job)
                seen.append(set(under_way))
        under_way.discard(job)

    async with running(runner) as engine:
        tasks = [asyncio.create_task(read("before", 1))]
        await runner.arrived()
        tasks += [asyncio.create_task(read(job, 2, alone=True)) for job in ("poison", "twin")]
        tasks += [asyncio.create_task(read("after", 3))]
        await until(engine, lambda: engine.stats()["jobs"] == 4)
        runner.gate.set()
        await asyncio.gather(*tasks)
    assert seen == [{"before"}, {"poison"}, {"twin"}, {"after"}]


# ---- failures ----


async def test_nan_fails_one_request_and_no_other() -> None:
    """The other request in the same calls gets its image, equal to the one drawn alone."""
    runner = Gated()

    def poison(requests: list[Request]) -> None:
        for request in requests:
            if request.seed == 2 and request.step == 2:
                request.state.latents.fill_(float("nan"))

    runner.before_call = torch.inference_mode()(poison)
    runner.gate.clear()
    async with running(runner) as engine:
        good = asyncio.create_task(render(engine, "a", seed=1))
        await runner.arrived()
        bad = asyncio.create_task(render(engine, "b", seed=2))
        await joined(engine, 2)
        runner.gate.set()
        assert (await bad)[-1]["code"] == "non_finite"
        drawn = image_of(await good)
        alone = image_of(await render(engine, "c", seed=1))
    assert np.abs(drawn.astype(int) - alone.astype(int)).max() <= 1
    assert any(len(call) == 2 for call in runner.calls)


async def test_out_of_memory_makes_calls_smaller() -> None:
    """A call that does not fit is repeated in halves; every job still gets its image."""
    runner = Gated()
    unet, width = runner.unet.network, 4

    def small_device(sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if len(sample) > width:
            raise torch.OutOfMemoryError("no more")
        return unet(sample, *args, **kwargs)

    runner.unet.network = small_device
    async with running(runner) as engine:
        jobs = await asyncio.gather(*(render(engine, f"{i}", seed=i) for i in range(4)))
        stats = engine.stats()
    assert all("image" in kinds(events) for events in jobs)
    assert stats["out_of_memory"] >= 1
    assert stats["cap"] <= width


async def test_the_memory_of_a_failed_call_is_free_before_the_next_one() -> None:
    """Otherwise the smaller call would find no more memory than the one that failed."""
    runner = Gated()
    unet, held = runner.unet.network, list[weakref.ref[torch.Tensor]]()
    alive: list[bool] = []

    def small_device(sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        alive.append(any(reference() is not None for reference in held))
        if len(sample) > 2:
            activations = torch.zeros(64)
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("no more")
        return unet(sample, *args, **kwargs)

    runner.unet.network = small_device
    async with running(runner) as engine:
        await asyncio.gather(*(render(engine, f"{i}", seed=i, steps=2) for i in range(4)))
    assert held
    assert not any(alive)


async def test_a_request_that_fits_in_no_call_fails_alone() -> None:
    """It ends with out_of_memory, the cap stays for other requests, and the next job is drawn."""
    runner = Gated()
    unet = runner.unet.network

    def no_memory(sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if sample.shape[-1] > 8:
            raise torch.OutOfMemoryError("no more")
        return unet(sample, *args, **kwargs)

    runner.unet.network = no_memory
    async with running(runner) as engine:
        large = await render(engine, "a", width=64)
        assert (large[-1]["code"], large[-1]["retryable"]) == ("out_of_memory", True)
        assert "image" in kinds(await render(engine, "b"))
        runner._memory = 1000
        assert kinds(await render(engine, "c")) == ["failed"]
        assert isinstance(engine.scheduler, Scheduler)
        assert engine.stats()["cap"] == engine.scheduler.max_rows


async def test_an_error_in_a_shared_call_fails_only_its_cause() -> None:
    """Each request of a failed call goes on in calls of its own, which shows the one at fault."""
    runner = Gated()

    def crash(requests: list[Request]) -> None:
        if any(r.seed == 2 and r.step == 1 for r in requests):
            raise ValueError("bad row")

    runner.before_call = crash
    runner.gate.clear()
    async with running(runner) as engine:
        tasks = [asyncio.create_task(render(engine, str(seed), seed=seed)) for seed in (1, 2, 3)]
        await runner.arrived()
        runner.gate.set()
        results = await asyncio.gather(*tasks)
    assert ["image" in kinds(events) for events in results] == [True, False, True]
    assert results[1][-1]["code"] == "render_failed"
    assert "bad row" not in results[1][-1]["detail"]


def lost(*args: Any, **kwargs: Any) -> Any:
    raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


async def test_a_lost_device_ends_the_engine() -> None:
    """Every call after a device error would fail. The failure is retryable: another replica may draw."""
    runner = Gated()
    runner.unet.network = lost
    told = threading.Event()
    async with running(runner, on_fault=told.set) as engine:
        events = await render(engine)
        assert (events[-1]["kind"], events[-1]["retryable"]) == ("failed", True)
        assert events[-1]["code"] == "engine_stopped"
        assert not engine.healthy
        assert await asyncio.to_thread(told.wait, 10)
        # This one had no part in it: its attempt does not count.
        assert (await render(engine, "b"))[-1]["code"] == "dropped"


async def test_who_waits_for_a_turn_alone_has_no_part_in_the_end_of_the_engine() -> None:
    """Two jobs under quarantine in one engine: only the one that was under way is blamed."""
    runner = Gated()
    runner.unet.network = lost
    async with running(runner) as engine:
        both = (render(engine, job_id, alone=True) for job_id in "ab")
        first, second = await asyncio.gather(*both)
        assert first[-1]["code"] == "engine_stopped"
        assert [event.get("code") for event in second] == ["dropped"]


async def test_a_device_that_is_lost_while_a_prompt_is_encoded_ends_the_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The text thread meets the error; the loop raises it."""
    runner = Gated()
    monkeypatch.setattr(runner.family, "positive", lost)
    async with running(runner) as engine:
        assert (await render(engine))[-1]["code"] == "engine_stopped"
        assert not engine.healthy
        assert (await render(engine))[0]["code"] == "dropped"


async def test_a_device_that_is_lost_before_the_pixels_arrive_ends_the_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Decoding is only queued in the loop, so its errors are met in the thread that waits for pixels."""
    told = threading.Event()
    runner = Gated()
    monkeypatch.setattr(runner._timer, "mark", lambda: lost)
    async with running(runner, on_fault=told.set) as engine:
        assert (await render(engine))[-1]["code"] == "engine_stopped"
        assert await asyncio.to_thread(told.wait, 30)
        assert not engine.healthy


async def test_health_and_a_shutdown_in_the_middle() -> None:
    """Work without progress is unhealthy; closing ends every stream with an event that says so."""
    runner = Gated()
    runner.gate.clear()
    engine = Engine(runner, Scheduler(tiny.SharingCosts()), stall_seconds=0.0)
    engine.start()
    assert engine.healthy
    reader = asyncio.create_task(render(engine))
    await runner.arrived()
    assert not engine.healthy
    closing = asyncio.create_task(engine.close())
    events = await reader
    runner.gate.set()
    await closing
    assert events[-1]["code"] == "dropped"
    assert kinds(await render(engine)) == ["failed"]


# ---- previews ----


async def test_previews_come_only_when_asked_for() -> None:
    """A preview is a small JPEG; if no listener wants one, none is drawn."""
    async with running(Gated()) as engine:
        silent = await render(engine, "a")
        watched = await render(engine, "b", preview=True, steps=8)
    assert "preview" not in kinds(silent)
    previews = [event for event in watched if event["kind"] == "preview"]
    assert previews
    assert Image.open(io.BytesIO(previews[0]["data"])).format == "JPEG"


async def test_previews_can_be_switched_on_later() -> None:
    """From that step on they are sent to the job that asked, and to no other job of the same drawing."""
    runner = Gated()
    runner.gate.clear()
    async with running(runner) as engine:

        def ask(requests: list[Request]) -> None:
            if any((r.seed, r.step) == (1, 4) for r in requests):
                assert (engine.send_previews("a"), engine.send_previews("nobody")) == (1, 0)

        runner.before_call = ask
        jobs = {"a": 1, "twin": 1, "neighbour": 2}
        tasks = [
            asyncio.create_task(render(engine, job, seed=s, steps=8)) for job, s in jobs.items()
        ]
        await runner.arrived()
        runner.gate.set()
        watched, twin, neighbour = await asyncio.gather(*tasks)
    assert runner.previewed == [(1, step) for step in (5, 6, 7)]
    assert "preview" in kinds(watched)
    assert "preview" not in kinds(twin) + kinds(neighbour)


# ---- deadlines ----


async def test_urgent_jobs_overtake_and_patient_ones_yield() -> None:
    """Of three equal jobs the last one, of high priority, runs next; that of low priority runs last."""
    runner = Gated()
    runner.gate.clear()
    async with running(runner) as engine:
        assert isinstance(engine.scheduler, Scheduler)
        engine.scheduler.max_rows = engine.scheduler.cap = 2  # one guided request per call
        tasks = [asyncio.create_task(render(engine, "a", seed=1, steps=20))]
        await runner.arrived()
        tasks += [
            asyncio.create_task(render(engine, priority, seed=seed, steps=20, priority=priority))
            for seed, priority in ((2, "low"), (3, "high"))
        ]
        await joined(engine, 3)
        runner.gate.set()
        for events in await asyncio.gather(*tasks):
            assert "image" in kinds(events)
    assert [call[0].seed for call in runner.calls] == [1] + [3] * 20 + [1] * 19 + [2] * 20


async def test_a_shared_drawing_is_as_urgent_as_its_most_urgent_job() -> None:
    """A job that joins with a higher priority makes it due earlier; others change nothing."""
    runner = Gated()
    runner.gate.clear()
    async with running(runner) as engine:
        tasks = [asyncio.create_task(render(engine, "first", n=2))]
        await runner.arrived()

        async def deadlines_after(priority: str) -> list[float]:
            jobs = engine.stats()["jobs"]
            tasks.append(asyncio.create_task(render(engine, priority, n=2, priority=priority)))
            await until(engine, lambda: engine.stats()["jobs"] == jobs + 1)
            return sorted(request.deadline for request in engine.scheduler.live)

        at_first = sorted(request.deadline for request in engine.scheduler.live)
        assert await deadlines_after("low") == at_first
        assert await deadlines_after("normal") == at_first
        earlier = await deadlines_after("high")
        assert all(new < old for new, old in zip(earlier, at_first, strict=True))
        runner.gate.set()
        await asyncio.gather(*tasks)
