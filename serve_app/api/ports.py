"""RegistryPort: the four questions the HTTP side asks of the one owner of all jobs.

Does not know that the registry is a Ray actor: `app.py` wraps it, the tests hold one in memory.
"""

from __future__ import annotations

from typing import Protocol

from serve_app.messages import JobView, SubmitOrder, SubmitReply, WatchReply


class RegistryPort(Protocol):
    """Each method raises `errors.Unavailable` when the registry does not answer."""

    async def submit(self, order: SubmitOrder) -> SubmitReply:
        """Durable when it returns. Idempotent on `job_id`; refuses an order past its deadline."""
        ...

    async def get(self, job_id: str) -> JobView | None:
        """The job as it is now; None if there is none of that id."""
        ...

    async def watch(self, epoch: int, seq: int, timeout_s: float) -> WatchReply:
        """What changed after the cursor: at once if something did, otherwise at the timeout."""
        ...

    async def readiness(self) -> str | None:
        """None: a job would be served. Otherwise the reason why not, fit to be shown to anyone."""
        ...
