"""Webhooks: whom an order wants called, what is to be sent, and what came of it.

Shapes only. Times are unix seconds, UTC.
"""

from __future__ import annotations

from typing import TypedDict


class Webhook(TypedDict):
    """Whom a job calls. `root`: prefix of every link in what is sent."""

    url: str
    events: list[str]  # names of `hook_events.EVENTS`
    root: str


class Parcel(TypedDict):
    """One event on its way, registry -> courier. `body` is what is signed and sent, as it stands."""

    number: int
    id: str
    owner: str
    url: str
    body: str


class Handed(TypedDict):
    """What came of one attempt, courier -> registry. `status`: of the receiver's answer."""

    number: int
    status: int | None
    error: str | None  # why there was no answer
    ms: int


class CallMade(TypedDict):
    """One attempt at a delivery."""

    at: float
    status: int | None
    error: str | None
    ms: int


class Delivery(TypedDict):
    """An event for a webhook, and what came of it."""

    number: int  # grows; its place in a list
    id: str
    owner: str
    job_id: str | None  # of a test or a batch: none
    batch_id: str | None
    event: str
    url: str
    state: str  # waiting, delivered, failed, dropped
    reason: str | None  # why it failed or was dropped
    created_at: float
    due: float | None  # of the next attempt
    done_at: float | None
    tries: int
    calls: list[CallMade]  # the newest attempts, the oldest of them first


class DeliveryFilter(TypedDict, total=False):
    """Which deliveries a list shows: those that match every key that is given."""

    job_id: str
    state: str


class DeliveryPage(TypedDict):
    """Deliveries, newest first. `older`: where the next page begins; None: there is none."""

    deliveries: list[Delivery]
    older: int | None
