"""RegistryClient: what the HTTP side asks of the one owner of all jobs.

Does not know that the registry is a Ray actor: `Transport` carries the calls.
"""

from __future__ import annotations

from typing import Any, Protocol

from serve_app.messages import (
    JobFilter,
    JobPage,
    JobView,
    Submission,
    SubmitReply,
    Tombstone,
    WatchReply,
)

CALL_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 15.0
"""Longer than any submit deadline: the registry has then refused it."""


class Transport(Protocol):
    """Reaches the registry. Every method raises `errors.Unavailable` when it does not answer."""

    async def call(self, method: str, *args: Any, timeout_s: float) -> Any: ...

    async def introduce(self) -> None:
        """Tell the registry the settings of now: one that was restarted has those it was born with."""
        ...

    async def readiness(self) -> str | None:
        """None: a job would be served. Otherwise the reason why not, fit to be shown to anyone."""
        ...


class RegistryClient:
    """The verbs of `jobs.registry.JobRegistry`, with their types. Each raises `errors.Unavailable`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._call = transport.call
        self.readiness = transport.readiness
        self._epoch = 0

    async def submit(self, order: Submission) -> SubmitReply:
        """Durable when it returns. Idempotent on `job_id`; refuses an order past its deadline."""
        return await self._call("submit", order, timeout_s=WRITE_TIMEOUT_S)

    async def get(self, job_id: str) -> JobView | Tombstone | None:
        """The job as it is now, or what is left of it; None if there is none of that id."""
        return await self._call("get", job_id, timeout_s=CALL_TIMEOUT_S)

    async def cancel(self, job_id: str, owner: str) -> JobView | Tombstone | None:
        """The job, which has ended now. None: this owner has none of that id."""
        return await self._call("cancel", job_id, owner, timeout_s=WRITE_TIMEOUT_S)

    async def delete(self, job_id: str, owner: str) -> Tombstone | None:
        """Record and files are gone when it returns. None: this owner has none of that id."""
        return await self._call("delete", job_id, owner, timeout_s=WRITE_TIMEOUT_S)

    async def page(
        self, owner: str, wanted: JobFilter, limit: int, before: int | None, after: int | None
    ) -> JobPage:
        """Newest first: jobs numbered below `before`, or above `after`, or the newest of all."""
        return await self._call(
            "page", owner, wanted, limit, before, after, timeout_s=CALL_TIMEOUT_S
        )

    async def estimate(self, work: float, client: str) -> float | None:
        """Seconds until a job of `work` megapixel steps would be done that came now; None: unknown."""
        return await self._call("estimate", work, client, timeout_s=CALL_TIMEOUT_S)

    async def send_previews(self, job_id: str) -> None:
        """Previews of it from here on, until it ends."""
        await self._call("send_previews", job_id, timeout_s=CALL_TIMEOUT_S)

    async def watch(self, epoch: int, seq: int, wait_s: float) -> WatchReply:
        """What changed after the cursor: at once if something did, otherwise after `wait_s`."""
        reply = await self._call("watch", epoch, seq, wait_s, timeout_s=CALL_TIMEOUT_S)
        if reply["epoch"] != self._epoch:
            await self._transport.introduce()
            self._epoch = reply["epoch"]
        return reply
