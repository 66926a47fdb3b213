"""RegistryPort: what the HTTP side asks of the one owner of all jobs.

Does not know that the registry is a Ray actor: `app.py` wraps it, the tests hold one in memory.
"""

from __future__ import annotations

from typing import Any, Protocol

from serve_app.messages import (
    JobFilter,
    JobPage,
    JobView,
    SubmitOrder,
    SubmitReply,
    Tombstone,
    WatchReply,
)


class RegistryPort(Protocol):
    """Each method raises `errors.Unavailable` when the registry does not answer."""

    async def submit(self, order: SubmitOrder) -> SubmitReply:
        """Durable when it returns. Idempotent on `job_id`; refuses an order past its deadline."""
        ...

    async def get(self, job_id: str) -> JobView | Tombstone | None:
        """The job as it is now, or what is left of it; None if there is none of that id."""
        ...

    async def cancel(self, job_id: str, owner: str) -> JobView | Tombstone | None:
        """The job, which has ended now. None: this owner has none of that id."""
        ...

    async def delete(self, job_id: str, owner: str) -> Tombstone | None:
        """Record and files are gone when it returns. None: this owner has none of that id."""
        ...

    async def page(
        self, owner: str, wanted: JobFilter, limit: int, before: int | None, after: int | None
    ) -> JobPage:
        """Newest first: jobs numbered below `before`, or above `after`, or the newest of all."""
        ...

    async def estimate(self, params: dict[str, Any], client: str) -> float | None:
        """Seconds until an order would be done that came now; None: unknown."""
        ...

    async def show(self, job_id: str) -> None:
        """Previews of it from here on, until it ends."""
        ...

    async def watch(self, epoch: int, seq: int, timeout_s: float) -> WatchReply:
        """What changed after the cursor: at once if something did, otherwise at the timeout."""
        ...

    async def readiness(self) -> str | None:
        """None: a job would be served. Otherwise the reason why not, fit to be shown to anyone."""
        ...
