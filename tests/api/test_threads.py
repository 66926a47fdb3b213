"""A thread outlives the request that began it: what it used is closed after it, never under it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import closing

import anyio
import pytest

from serve_app.api.threads import in_thread_to_its_end


class Slow:
    """A generator that waits in its thread until it may go on, as a read of a slow disk does."""

    def __init__(self) -> None:
        self.began, self.may_end = threading.Event(), threading.Event()
        self.closed = False

    def pieces(self) -> Generator[bytes]:
        try:
            self.began.set()
            assert self.may_end.wait(20)
            yield b"a piece"
        finally:
            self.closed = True

    async def use(self) -> bytes:
        with closing(self.pieces()) as pieces:
            return await in_thread_to_its_end(next, pieces)


async def test_what_it_finds_is_returned() -> None:
    slow = Slow()
    slow.may_end.set()
    assert await slow.use() == b"a piece"
    assert slow.closed


async def test_a_cancelled_task_waits_for_it() -> None:
    """Twice, as Serve and Starlette both do when a client goes."""
    slow = Slow()
    task = asyncio.create_task(slow.use())
    await asyncio.to_thread(slow.began.wait, 20)
    for _ in range(2):
        task.cancel()
        await asyncio.wait({task}, timeout=0.01)
        assert not task.done()
    slow.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert slow.closed


async def test_so_does_a_cancelled_scope() -> None:
    slow = Slow()
    async with anyio.create_task_group() as group:
        group.start_soon(slow.use)
        await asyncio.to_thread(slow.began.wait, 20)
        threading.Timer(0.05, slow.may_end.set).start()
        group.cancel_scope.cancel()
    assert slow.closed
