"""What runs in the background belongs to no caller, is held until it ends, and says when it fails."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging

import pytest

from serve_app.jobs.background import Background

from .harness import turns

CALLER = contextvars.ContextVar("CALLER", default="nobody")


async def test_what_is_spawned_runs_although_nobody_holds_it() -> None:
    """The event loop holds tasks weakly only."""
    background, done, go = Background(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go.wait()
        done.set()

    background.spawn(work())
    await turns()
    gc.collect()
    go.set()
    await asyncio.wait_for(done.wait(), 5)


async def test_it_runs_in_nobody_s_context() -> None:
    """Ray cancels what runs in the context of a call that is cancelled."""
    background, heard = Background(), list[str]()
    CALLER.set("a call")

    async def work() -> str:
        heard.append(CALLER.get())
        return CALLER.get()

    async def note() -> None:
        await work()

    background.spawn(note())
    assert await background.complete(work()) == "nobody"
    assert heard == ["nobody", "nobody"]


async def test_what_must_complete_outlives_its_caller() -> None:
    background, go, done = Background(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go.wait()
        done.set()

    call = asyncio.create_task(background.complete(work()))
    await turns()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go.set()
    await asyncio.wait_for(done.wait(), 5)


async def test_the_caller_gets_the_error_of_what_it_waits_for() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Background().complete(work())


async def test_an_error_that_nobody_waits_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    background = Background()

    async def work() -> None:
        raise ValueError("unheard of")

    with caplog.at_level(logging.ERROR, "assets.registry"):
        background.spawn(work())
        await turns()
        await background.close()
    assert "unheard of" in caplog.text


async def test_close_ends_everything_and_waits_for_it() -> None:
    background, ended = Background(), list[str]()

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    background.spawn(work("spawned"))
    call = asyncio.create_task(background.complete(work("asked for")))
    await turns()
    await background.close()
    assert sorted(ended) == ["asked for", "spawned"]
    with pytest.raises(asyncio.CancelledError):
        await call
