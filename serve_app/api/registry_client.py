"""RegistryClient: what the HTTP side asks of the one owner of all jobs.

Does not know that the registry is a Ray actor: `Transport` carries the calls.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from serve_app.messages import (
    BatchFilter,
    BatchPage,
    BatchPlan,
    BatchReply,
    BatchRetry,
    BatchRowView,
    BatchSubmission,
    BatchView,
    ChangeReply,
    ChangesReply,
    Delivery,
    DeliveryFilter,
    DeliveryPage,
    JobChanges,
    JobFilter,
    JobPage,
    JobView,
    PoolState,
    Submission,
    SubmitReply,
    Tombstone,
    Usage,
    WatchReply,
)

CALL_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 15.0
"""Longer than the submit deadline: whoever waits so long for a submit knows that it was refused."""


CANCEL_TIMEOUT_S = 60.0
"""Of a batch: ten thousand jobs end."""


class Transport(Protocol):
    """Reaches the registry. Every method raises `errors.Unavailable` when it does not answer."""

    async def call(self, method: str, *args: Any, timeout_s: float) -> Any: ...

    async def introduce(self) -> None:
        """Send the current settings. A registry that was restarted still has those of its creation."""
        ...

    async def readiness(self) -> str | None:
        """None: jobs would be served, of one pool at least. Otherwise the reason why not, fit to be shown to
        anyone."""
        ...

    async def pools(self) -> list[PoolState]:
        """How each pool is."""
        ...


class RegistryClient:
    """The verbs of `jobs.registry.JobRegistry`, with their types. Each raises `errors.Unavailable`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._call = transport.call
        self._epoch = 0  # of the registry that knows our settings
        self._ahead = 0.0  # seconds that the clock of the registry's host is before ours

    async def readiness(self, model: str | None = None) -> str | None:
        """None: a job would be served, of this model or of any. Otherwise the reason why not, fit to be shown
        to anyone."""
        reason = await self._transport.readiness()
        if reason is not None or model is None:
            return reason
        states = (pool for pool in await self.pools() if pool["model"] == model)
        return next((pool["reason"] for pool in states), None)

    async def pools(self) -> list[PoolState]:
        """How each pool is."""
        return await self._transport.pools()

    async def submit(self, submission: Submission) -> SubmitReply:
        """Durable when it returns. Idempotent on `job_id`; refused after its deadline, which is given by the
        clock of this host."""
        submission = {**submission, "deadline": submission["deadline"] + self._ahead}
        return await self._call("submit", submission, timeout_s=WRITE_TIMEOUT_S)

    async def known(self, owner: str, key: str, body_hash: str) -> SubmitReply | None:
        """The job that was ordered under this idempotency key; None: there is none."""
        return await self._call("known", owner, key, body_hash, timeout_s=CALL_TIMEOUT_S)

    async def get(self, job_id: str) -> JobView | Tombstone | None:
        """The job as it is now, or its tombstone; None: no job has that id."""
        return await self._call("get", job_id, timeout_s=CALL_TIMEOUT_S)

    async def cancel(self, job_id: str, owner: str) -> JobView | Tombstone | None:
        """The job, which has ended by now. None: no job of this owner has that id."""
        return await self._call("cancel", job_id, owner, timeout_s=WRITE_TIMEOUT_S)

    async def change(self, job_id: str, owner: str, changes: JobChanges) -> ChangeReply:
        """The job, changed, or why not."""
        return await self._call("change", job_id, owner, changes, timeout_s=WRITE_TIMEOUT_S)

    async def delete(self, job_id: str, owner: str) -> Tombstone | None:
        """Row and files are gone when it returns. None: no job of this owner has that id."""
        return await self._call("delete", job_id, owner, timeout_s=WRITE_TIMEOUT_S)

    async def page(
        self, owner: str, wanted: JobFilter, limit: int, before: int | None, after: int | None
    ) -> JobPage:
        """Newest first: jobs numbered below `before`, or above `after`, or the newest of all."""
        return await self._call(
            "page", owner, wanted, limit, before, after, timeout_s=CALL_TIMEOUT_S
        )

    async def estimate(self, work: float, client: str, model: str) -> float | None:
        """Seconds that a job of `work` megapixel steps of this model would take if it were submitted now, its
        time in the line included; None: unknown."""
        return await self._call("estimate", work, client, model, timeout_s=CALL_TIMEOUT_S)

    async def submit_batch(self, submission: BatchSubmission) -> BatchReply:
        """As `submit`, of a batch with all its jobs."""
        submission = {**submission, "deadline": submission["deadline"] + self._ahead}
        return await self._call("submit_batch", submission, timeout_s=WRITE_TIMEOUT_S)

    async def known_batch(self, owner: str, key: str, body_hash: str) -> BatchReply | None:
        """The batch that was ordered with this body under this idempotency key; None: there is none."""
        return await self._call("known_batch", owner, key, body_hash, timeout_s=CALL_TIMEOUT_S)

    async def retry_batch(self, again: BatchRetry) -> BatchReply:
        """New jobs stand for these rows when it returns; a row that was ordered again before stays."""
        again = {**again, "deadline": again["deadline"] + self._ahead}
        return await self._call("retry_batch", again, timeout_s=WRITE_TIMEOUT_S)

    async def cancel_batch(self, batch_id: str, owner: str) -> BatchView | Tombstone | None:
        """The batch, which has ended. None: no batch of this owner has that id."""
        return await self._call("cancel_batch", batch_id, owner, timeout_s=CANCEL_TIMEOUT_S)

    async def plan_batch(
        self, owner: str, name: str, keys: list[bytes], loads: dict[str, tuple[int, float]]
    ) -> BatchPlan:
        """What a batch of rows with these keys would do now. `loads`: by model, its rows and their work."""
        return await self._call("plan_batch", owner, name, keys, loads, timeout_s=WRITE_TIMEOUT_S)

    async def batch(self, batch_id: str, owner: str) -> BatchView | Tombstone | None:
        """The batch as it is now, or its tombstone; None: no batch of this owner has that id."""
        return await self._call("batch", batch_id, owner, timeout_s=CALL_TIMEOUT_S)

    async def batches(
        self, owner: str, wanted: BatchFilter, limit: int, before: int | None, after: int | None
    ) -> BatchPage:
        """As `page`, of batches."""
        return await self._call(
            "batches", owner, wanted, limit, before, after, timeout_s=CALL_TIMEOUT_S
        )

    async def batch_rows(
        self, batch_id: str, owner: str, after: int, limit: int, *, lost: bool = False
    ) -> list[BatchRowView]:
        """Rows after this one, in their order; `lost`: those whose jobs ended without pictures."""
        return await self._call(
            "batch_rows", batch_id, owner, after, limit, lost, timeout_s=CALL_TIMEOUT_S
        )

    async def deliveries(
        self, owner: str, wanted: DeliveryFilter, limit: int, before: int | None
    ) -> DeliveryPage:
        """Newest first: deliveries numbered below `before`, or the newest of all."""
        return await self._call(
            "deliveries", owner, wanted, limit, before, timeout_s=CALL_TIMEOUT_S
        )

    async def redeliver(self, id: str, owner: str) -> Delivery | None:
        """It will be sent once more. None: no delivery of this owner has that id."""
        return await self._call("redeliver", id, owner, timeout_s=WRITE_TIMEOUT_S)

    async def test_webhook(self, owner: str, url: str) -> Delivery:
        """A call of this URL, which will be made once."""
        return await self._call("test_webhook", owner, url, timeout_s=WRITE_TIMEOUT_S)

    async def usage(self, owner: str) -> Usage:
        """What this owner has and uses, of what quotas bound."""
        return await self._call("usage", owner, timeout_s=CALL_TIMEOUT_S)

    async def send_previews(self, job_id: str) -> None:
        """From now on the job's views carry previews, until it ends."""
        await self._call("send_previews", job_id, timeout_s=CALL_TIMEOUT_S)

    async def changes(self, owner: str, epoch: int, seq: int) -> ChangesReply:
        """What changed of the owner's jobs after the cursor; it answers at once."""
        return await self._call("changes", owner, epoch, seq, timeout_s=CALL_TIMEOUT_S)

    async def watch(self, epoch: int, seq: int, wait_s: float) -> WatchReply:
        """What changed after the cursor. Answers at once if something did, otherwise after `wait_s`."""
        asked = time.time()
        reply = await self._call("watch", epoch, seq, wait_s, timeout_s=CALL_TIMEOUT_S)
        self._compare_clocks(asked, reply["now"], time.time())
        if reply["epoch"] != self._epoch:
            await self._transport.introduce()
            self._epoch = reply["epoch"]
        return reply

    def _compare_clocks(self, asked: float, now: float, answered: float) -> None:
        """The registry read `now` at some moment between our question and its answer, so the true difference
        lies between `now - answered` and `now - asked`. The known one changes only if it lies outside."""
        self._ahead = min(max(self._ahead, now - answered), now - asked)
