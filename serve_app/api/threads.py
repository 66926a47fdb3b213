"""Work in a thread that is waited for even when the request is over, so that what it used can be closed.

Knows nothing of requests or of the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, TypeVarTuple

import anyio

T = TypeVar("T")
Args = TypeVarTuple("Args")


async def in_thread_to_its_end(call: Callable[[*Args], T], *args: *Args) -> T:
    """`asyncio.to_thread`, but the thread is done when this returns or raises, a cancelled task's too.
    For short work on what the caller closes afterwards."""
    # A future, no task: Serve cancels all tasks of a request whose client has gone.
    thread = asyncio.get_running_loop().run_in_executor(None, call, *args)
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):  # Starlette's scope would cancel anew at every await
            while not thread.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({thread})
        if not thread.cancelled():
            thread.exception()  # seen, so that asyncio does not complain of it
        raise
