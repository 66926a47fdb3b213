"""submit: send an order to the registry, to its end even if the client hangs up meanwhile.

Knows nothing of HTTP or of what was ordered.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, TypeVar

from serve_app.api.registry_client import RegistryClient
from serve_app.errors import Unavailable
from serve_app.messages import Submission, SubmitReply

GRACE_S = 1.0
"""Extra wait for the answer: a submission that arrived just before its deadline may still be committed."""

T = TypeVar("T")
_running: set[asyncio.Task[Any]] = set()  # asyncio itself holds tasks only weakly


async def submit(registry: RegistryClient, submission: Submission, timeout_s: float) -> SubmitReply:
    """Raises Unavailable when no answer comes; by then the registry refuses the submission as late."""
    return await to_its_end(registry.submit(submission), timeout_s)


async def to_its_end(call: Coroutine[Any, Any, T], timeout_s: float) -> T:
    """What the registry answers to this call, whose deadline is in `timeout_s`. Raises Unavailable."""
    # When a client hangs up, Serve cancels every task whose context belongs to the request. A task with
    # an empty context belongs to none. The shield keeps our own cancellation from reaching the call.
    task = asyncio.get_running_loop().create_task(call, context=contextvars.Context())
    _running.add(task)
    task.add_done_callback(_running.discard)
    try:
        async with asyncio.timeout(timeout_s + GRACE_S):
            return await asyncio.shield(task)
    except TimeoutError:
        raise Unavailable(
            "The registry did not answer in time. The same Idempotency-Key makes it safe to try again."
        ) from None
