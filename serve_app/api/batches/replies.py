"""Bodies of replies about batches: the roll-up, a dry run's plan, a page of a list.

Knows their fields and how a BatchView becomes one; asks nobody.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Self

from pydantic import BaseModel, Field

from serve_app.api.replies import JOB_ID, Status
from serve_app.messages import TERMINAL, BatchRowView, BatchView

BATCH_ID = "019aab42-7c1e-7d30-9f6a-2b54c1f0a3df"


class BatchCounts(BaseModel):
    """Orders by the status of their jobs; they are exact, and add up to `size`."""

    PENDING: int = Field(description="Wait for their first run.", examples=[120])
    STARTED: int = Field(description="Run.", examples=[4])
    RETRY: int = Field(description="Wait to run again.", examples=[0])
    SUCCESS: int = Field(description="Have their files.", examples=[875])
    FAILURE: int = Field(description="Failed.", examples=[1])
    REVOKED: int = Field(description="Were cancelled, or passed their deadline.", examples=[0])
    DELETED: int = Field(description="Are not there any more.", examples=[0])


class BatchProgress(BaseModel):
    value: float = Field(
        description="0 to 1: the share of orders that are final.", examples=[0.876]
    )
    done: int = Field(description="Orders that are final.", examples=[876])
    total: int = Field(description="Orders.", examples=[1000])


class ReusedReply(BaseModel):
    """Orders that a batch of the same name had made, or was making: nothing was ordered for them."""

    count: int = Field(description="How many.", examples=[3])
    rows: list[list[int]] = Field(
        description="Which: first and last of each run of rows; row 1 is the first order.",
        examples=[[[1, 2], [7, 7]]],
    )


class FailedRowReply(BaseModel):
    row: int = Field(description="1 is the first order.", examples=[17])
    job_id: str = Field(description="Its job.", examples=[JOB_ID])
    code: str = Field(description="For programs.", examples=["out_of_memory"])
    title: str = Field(description="For people.", examples=["The device ran out of memory"])
    detail: str = Field(description="This case.", examples=["The device ran out of memory"])
    retryable: bool = Field(description="Ordering it again may help.", examples=[True])


class BatchUrls(BaseModel):
    """Where to go on."""

    self: str = Field(description="This batch.", examples=[f"/v1/batches/{BATCH_ID}"])
    jobs: str = Field(description="Its jobs.", examples=[f"/v1/jobs?batch_id={BATCH_ID}"])
    rows: str = Field(
        description="What stands for each of its orders.", examples=[f"/v1/batches/{BATCH_ID}/rows"]
    )
    events: str = Field(
        description="What happens to it, as a stream.", examples=[f"/v1/batches/{BATCH_ID}/events"]
    )
    cancel: str = Field(description="Stop it (POST).", examples=[f"/v1/batches/{BATCH_ID}/cancel"])
    retry: str = Field(
        description="Order again what has no pictures, once it is final (POST).",
        examples=[f"/v1/batches/{BATCH_ID}/retry"],
    )
    archive: str = Field(
        description="All its files as one ZIP, once it is final.",
        examples=[f"/v1/batches/{BATCH_ID}/archive"],
    )


class BatchResponse(BaseModel):
    """A batch: how far its orders are. Times are RFC 3339, UTC."""

    batch_id: str = Field(description="UUIDv7: sorts by time of order.", examples=[BATCH_ID])
    name: str | None = Field(description="As it was given.", examples=["potions"])
    status: Status = Field(
        description="PENDING: none of its jobs has begun; STARTED; then, when all are final, SUCCESS, "
        "FAILURE (at least one failed) or REVOKED (at least one was, and none failed).",
        examples=["STARTED"],
    )
    size: int = Field(description="Orders.", examples=[1000])
    counts: BatchCounts = Field(description="By status.")
    progress: BatchProgress = Field(description="How far it is.")
    eta_seconds: float | None = Field(
        description="Until its last job is done; null: unknown, or it is.", examples=[640.0]
    )
    reused: ReusedReply = Field(description="What was there already.")
    failed: list[FailedRowReply] = Field(
        description="Orders that failed, the first 100 of them; a retry takes them off.",
        examples=[[]],
    )
    created_at: datetime = Field(description="Accepted.", examples=["2026-11-22T16:00:00.250000Z"])
    completed_at: datetime | None = Field(description="Became final.", examples=[None])
    urls: BatchUrls = Field(description="Its routes.")

    @classmethod
    def of(cls, batch: BatchView, root: str = "") -> Self:
        """`root`: prefix of every link."""
        own, counts = f"{root}/v1/batches/{batch['batch_id']}", batch["counts"]
        live = counts["PENDING"] + counts["STARTED"] + counts["RETRY"]
        done, eta = batch["size"] - live, batch["eta_seconds"]
        return cls(
            batch_id=batch["batch_id"],
            name=batch["name"] or None,
            status=batch["status"],  # pyright: ignore[reportArgumentType]
            size=batch["size"],
            counts=BatchCounts.model_validate(counts),
            progress=BatchProgress(
                value=round(done / batch["size"], 4), done=done, total=batch["size"]
            ),
            eta_seconds=None if eta is None else round(eta, 1),
            reused=ReusedReply(
                count=batch["reused"], rows=[[*run] for run in batch["reused_rows"]]
            ),
            failed=[
                FailedRowReply(row=failed["row"], job_id=failed["job_id"], **failed["error"])
                for failed in batch["failed"]
            ],
            created_at=datetime.fromtimestamp(batch["created_at"], UTC),
            completed_at=(
                None
                if batch["completed_at"] is None
                else datetime.fromtimestamp(batch["completed_at"], UTC)
            ),
            urls=BatchUrls(
                self=own,
                jobs=f"{root}/v1/jobs?batch_id={batch['batch_id']}",
                rows=f"{own}/rows",
                events=f"{own}/events",
                cancel=f"{own}/cancel",
                retry=f"{own}/retry",
                archive=f"{own}/archive",
            ),
        )


class BatchRowReply(BaseModel):
    """What stands for one order of a batch."""

    row: int = Field(description="1 is the first order.", examples=[1])
    name: str | None = Field(description="As the order has it.", examples=["potion_red"])
    status: str = Field(
        description="Of its job, or DELETED; REVOKED too where the batch was cancelled and the job goes on "
        "for another one.",
        examples=["SUCCESS"],
    )
    job_id: str | None = Field(description="Null: it was deleted.", examples=[JOB_ID])
    reused: bool = Field(description="The job was ordered by an earlier batch.", examples=[False])

    @classmethod
    def of(cls, row: BatchRowView) -> Self:
        job = row["job"]
        return cls(
            row=row["row"],
            name=row["name"],
            status=row["status"],
            job_id=None if job is None else job["job_id"],
            reused=row["reused"],
        )


class BatchRows(BaseModel):
    """A page, in the order in which they were sent."""

    next: str | None = Field(
        description="Path of the page with later rows; null: this is the last.",
        examples=[f"/v1/batches/{BATCH_ID}/rows?after=200"],
    )
    results: list[BatchRowReply] = Field(description="Orders, and what stands for them.")


class BatchEstimate(BaseModel):
    """What a batch would be; nothing was ordered."""

    size: int = Field(description="Orders.", examples=[1000])
    images: int = Field(description="Pictures of all orders.", examples=[1000])
    reused: ReusedReply = Field(description="What is there already.")
    to_make: int = Field(description="Jobs that would be ordered.", examples=[997])
    estimated_seconds: float | None = Field(
        description="Until all would be done, ordered now; null: nothing has run yet to judge by.",
        examples=[640.0],
    )
    possible: bool = Field(description="It would be accepted, and served.", examples=[True])
    reason: str | None = Field(description="Why it would not.", examples=[None])


class BatchList(BaseModel):
    """A page, newest first. A page may be short although there are more: go on while there is a `next`."""

    next: str | None = Field(
        description="Path of the page with older batches; null: this is the last.",
        examples=["/v1/batches?cursor=YgAGQx1uZ2F0aW9u"],
    )
    previous: str | None = Field(description="Path of the page with newer ones.", examples=[None])
    results: list[BatchResponse] = Field(description="Batches, as each is shown alone.")


def is_final(batch: BatchView) -> bool:
    return batch["status"] in TERMINAL
