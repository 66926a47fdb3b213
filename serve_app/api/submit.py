"""submit: hand an order to the registry so that a client who hangs up neither loses nor doubles it.

Knows nothing of HTTP or of what is ordered.
"""

from __future__ import annotations

import asyncio
import contextvars

from serve_app.api.registry_client import RegistryClient
from serve_app.errors import Unavailable
from serve_app.messages import Submission, SubmitReply

GRACE_S = 1.0
"""An order that reached the registry just before its deadline may still be committed: wait for it."""

_running: set[asyncio.Task[SubmitReply]] = set()  # asyncio itself holds tasks only weakly


async def submit(registry: RegistryClient, order: Submission, timeout_s: float) -> SubmitReply:
    """Raises Unavailable when no answer comes; by then the registry refuses the order as late."""
    # Serve cancels what the request of a gone client spawned and finds it by context: an empty one
    # belongs to no request. The shield keeps our own cancellation from reaching the call.
    task = asyncio.get_running_loop().create_task(
        registry.submit(order), context=contextvars.Context()
    )
    _running.add(task)
    task.add_done_callback(_running.discard)
    try:
        async with asyncio.timeout(timeout_s + GRACE_S):
            return await asyncio.shield(task)
    except TimeoutError:
        raise Unavailable(
            "The registry did not answer in time. The same Idempotency-Key makes it safe to try again."
        ) from None
