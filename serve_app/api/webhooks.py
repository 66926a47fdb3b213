"""Webhooks as clients order and see them: whom a job calls, and what came of each call.

Knows what may be ordered, and how a delivery looks; `webhooks/` knows addresses and secrets, and the registry
sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Literal, Self
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field

from serve_app.api.replies import JOB_ID
from serve_app.config import Settings
from serve_app.errors import InvalidField
from serve_app.hook_events import BATCH_HOOK_EVENTS, DEFAULT_EVENTS
from serve_app.messages import Delivery, DeliveryFilter, DeliveryPage, Webhook
from serve_app.webhooks.address import target_of
from serve_app.webhooks.owners import HookFile

HOOK = "https://build.example/hooks/art"
DELIVERY_ID = f"msg_{JOB_ID}_completed"
MAX_PAGE = 100

DeliveryState = Literal["waiting", "delivered", "failed", "dropped"]


class Hooks:
    """Whom jobs call, by the settings and the webhooks file."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError if the webhooks file is missing or wrong."""
        file = settings.webhooks_file
        self._file = None if file is None else HookFile(settings.path(file))
        self._allowed = [ip_network(network) for network in settings.webhook_networks]
        self._root = settings.public_url or ""

    def of(self, owner: str, url: str | None, events: Sequence[str] | None) -> Webhook | None:
        """Whom a job of this owner calls that names `url`, or none; None: nobody. Raises InvalidField."""
        known = self._file.get(owner) if self._file is not None else None
        if url is None:
            if events is not None:
                raise InvalidField("webhook_events_filter", "there is no `webhook` to filter for")
            if known is None or not known.url:
                return None
            return Webhook(url=known.url, events=[*known.events], root=self._root)
        self.check(owner, url)
        return Webhook(url=url, events=[*(events or DEFAULT_EVENTS)], root=self._root)

    def of_batch(self, owner: str, url: str | None, events: Sequence[str] | None) -> Webhook | None:
        """As `of`, for a batch: it has no `output`, which an owner may have chosen for jobs."""
        hook = self.of(owner, url, events)
        told = [event for event in hook["events"] if event in BATCH_HOOK_EVENTS] if hook else []
        return {**hook, "events": told} if hook and told else None

    def check(self, owner: str, url: str, field: str = "webhook") -> None:
        """Raises InvalidField if this owner's jobs cannot call that URL."""
        if self._file is None:
            how = "Whoever runs it sets `webhooks_file`."
            raise InvalidField(field, f"this server sends no webhooks. {how}")
        if self._file.get(owner) is None:
            how = f"Whoever runs this server makes one: `assets webhooks add {owner}`."
            raise InvalidField(field, f"you have no secret to verify it by. {how}")
        target_of(url, self._allowed, field)

    def url_of(self, owner: str) -> str | None:
        """Of all jobs of this owner that name none."""
        known = self._file.get(owner) if self._file is not None else None
        return known.url or None if known else None


class WebhookTest(BaseModel):
    """A call to try a receiver with."""

    model_config = ConfigDict(
        strict=True, extra="forbid", json_schema_extra={"examples": [{"url": HOOK}]}
    )

    url: str | None = Field(
        default=None, description="Left out: that of your key's own webhook.", examples=[HOOK]
    )


class DeliveryQuery(BaseModel):
    """Which deliveries to list."""

    model_config = ConfigDict(extra="forbid")

    job_id: str | None = Field(
        default=None, max_length=100, description="Of this job, or batch.", examples=[JOB_ID]
    )
    state: DeliveryState | None = Field(
        default=None, description="In this state.", examples=["failed"]
    )
    limit: int = Field(
        default=20, ge=1, le=MAX_PAGE, description="Most deliveries on a page.", examples=[20]
    )
    before: int | None = Field(
        default=None, ge=1, le=2**62, description="From `next` of another page.", examples=[1000]
    )

    def filter(self) -> DeliveryFilter:
        wanted = DeliveryFilter()
        if self.job_id is not None:
            wanted["job_id"] = self.job_id
        if self.state is not None:
            wanted["state"] = self.state
        return wanted

    def path(self, before: int | None, root: str) -> str | None:
        """Path of the page before this number; None without a number. `root`: its prefix."""
        if before is None:
            return None
        query = self.model_dump(mode="json", exclude_defaults=True) | {"before": before}
        return f"{root}/v1/webhooks/deliveries?{urlencode(query)}"


class CallReply(BaseModel):
    """One call of a receiver."""

    at: datetime = Field(description="RFC 3339, UTC.", examples=["2026-11-22T16:00:00.250000Z"])
    status: int | None = Field(description="That it answered; null: no answer.", examples=[200])
    error: str | None = Field(description="Why there was no answer.", examples=[None])
    ms: int = Field(description="How long it took, milliseconds.", examples=[83])


class DeliveryReply(BaseModel):
    """An event for a webhook, and what came of it. Times are RFC 3339, UTC."""

    delivery_id: str = Field(
        description="As the receiver sees it in `webhook-id`; the same in every call.",
        examples=[DELIVERY_ID],
    )
    job_id: str | None = Field(description="Null: of a batch, or a test.", examples=[JOB_ID])
    batch_id: str | None = Field(description="Of which batch; or null.", examples=[None])
    event: str = Field(
        description="queued, started, output, completed; test.", examples=["completed"]
    )
    url: str = Field(description="Whom it calls.", examples=[HOOK])
    state: DeliveryState = Field(
        description="`waiting` for a call; `delivered`; `failed`: given up; `dropped`: its URL is disabled.",
        examples=["delivered"],
    )
    reason: str | None = Field(
        description="Of the newest failure, or why its URL is disabled.", examples=[None]
    )
    created_at: datetime = Field(
        description="When it happened.", examples=["2026-11-22T16:00:00.250000Z"]
    )
    next_call_at: datetime | None = Field(description="Null: it is over.", examples=[None])
    done_at: datetime | None = Field(
        description="Delivered or given up.", examples=["2026-11-22T16:00:00.400000Z"]
    )
    tries: int = Field(description="Calls so far, since it was last asked for.", examples=[1])
    calls: list[CallReply] = Field(description="The newest calls, the oldest of them first.")
    urls: dict[str, str] = Field(
        description="`redeliver` (POST); of a job's event `job`, of a batch's `batch`.",
        examples=[{"redeliver": f"/v1/webhooks/deliveries/{DELIVERY_ID}/redeliver"}],
    )

    @classmethod
    def of(cls, found: Delivery, root: str) -> Self:
        """`root`: prefix of every link."""
        own = f"{root}/v1/webhooks/deliveries/{found['id']}"
        urls = {"redeliver": f"{own}/redeliver"}
        if found["job_id"] is not None:
            urls["job"] = f"{root}/v1/jobs/{found['job_id']}"
        if found["batch_id"] is not None:
            urls["batch"] = f"{root}/v1/batches/{found['batch_id']}"
        return cls(
            delivery_id=found["id"],
            job_id=found["job_id"],
            batch_id=found["batch_id"],
            event=found["event"],
            url=found["url"],
            state=found["state"],  # pyright: ignore[reportArgumentType]
            reason=found["reason"],
            created_at=_utc(found["created_at"]),
            next_call_at=_utc(found["due"]) if found["due"] is not None else None,
            done_at=_utc(found["done_at"]) if found["done_at"] is not None else None,
            tries=found["tries"],
            calls=[
                CallReply(**{**call, "at": _utc(call["at"])})  # pyright: ignore[reportArgumentType]
                for call in found["calls"]
            ],
            urls=urls,
        )


class DeliveryList(BaseModel):
    """A page, newest first."""

    next: str | None = Field(
        description="Path of the page with older deliveries; null: this is the last.",
        examples=["/v1/webhooks/deliveries?before=1000"],
    )
    results: list[DeliveryReply] = Field(description="What was to be told, and what came of it.")

    @classmethod
    def of(cls, page: DeliveryPage, query: DeliveryQuery, root: str) -> Self:
        return cls(
            next=query.path(page["older"], root),
            results=[DeliveryReply.of(found, root) for found in page["deliveries"]],
        )


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
