"""What a key may do and what its owner uses, as clients get it.

Knows fields; asks nobody.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Self

from pydantic import BaseModel, Field

from serve_app.api.grants import SCOPES, Grant
from serve_app.messages import Usage


class Bound(BaseModel):
    used: float = Field(description="Now.", examples=[12])
    limit: float | None = Field(description="At most; null: there is none.", examples=[500])


class QuotaReply(BaseModel):
    """What your key may do, and what you use."""

    owner: str = Field(description="Whose jobs they are.", examples=["anna"])
    scopes: list[str] = Field(
        description="What the key may do: `read`, `order`, `admin`.", examples=[["read", "order"]]
    )
    rate: str | None = Field(
        description="Requests it may send, like 10/s, to each process that answers; null: as many as you "
        "like.",
        examples=["10/s"],
    )
    waiting_jobs: Bound = Field(description="Jobs in line.")
    device_seconds: Bound = Field(description="Of devices, today (UTC).")
    kept_bytes: Bound = Field(description="Of published files.")
    day_ends_at: datetime = Field(
        description="Then device seconds count from 0 again.", examples=["2026-11-23T00:00:00Z"]
    )

    @classmethod
    def of(cls, owner: str, grant: Grant, usage: Usage) -> Self:
        quota = grant.quota
        return cls(
            owner=owner,
            scopes=[scope for scope in SCOPES if scope in grant.scopes],
            rate=None if grant.rate is None else str(grant.rate),
            waiting_jobs=Bound(used=usage["waiting_jobs"], limit=quota.get("waiting_jobs")),
            device_seconds=Bound(
                used=round(usage["device_seconds"], 1), limit=quota.get("device_seconds")
            ),
            kept_bytes=Bound(used=usage["kept_bytes"], limit=quota.get("kept_bytes")),
            day_ends_at=datetime.fromtimestamp(usage["day_ends_at"], UTC),
        )
