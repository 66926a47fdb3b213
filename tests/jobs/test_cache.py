"""The registry's memory: what its waiters can rely on."""

from __future__ import annotations

import asyncio

import pytest

from serve_app.jobs.cache import JobCache


async def test_a_change_does_not_swallow_a_cancellation() -> None:
    """Both at once: whoever shuts down must not wait for a waiter that goes on."""
    cache = JobCache(10)
    entered = asyncio.Event()

    async def wait() -> None:
        entered.set()
        await cache.change(60)

    waiting = asyncio.create_task(wait())
    await entered.wait()
    cache.notify()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_change_is_heard_and_a_quiet_time_ends() -> None:
    cache = JobCache(10)
    waiting = asyncio.create_task(cache.change())
    await cache.change(0.001)
    assert not waiting.done()
    cache.notify()
    await waiting
