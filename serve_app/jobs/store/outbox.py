"""Outbox: events for webhooks as rows, written in the transaction of the change that they tell.

Knows SQL, and which change is which event. Sends nothing, and does not know when a failed call is repeated.

A row's `id` is made of its job and its event, so no event is there twice, however often a change is written.
The events of one job, or of one batch, go out in their order: one is due only when those before it are over.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from serve_app.hook_events import TEST
from serve_app.jobs.hook_body import hook_body, test_body
from serve_app.jobs.job import Job, Status
from serve_app.jobs.store.database import Database
from serve_app.messages import CallMade, Delivery, DeliveryFilter, DeliveryPage, Parcel, Webhook

EVENTS_OF: Final[Mapping[Status, tuple[str, ...]]] = {
    Status.PENDING: ("queued",),
    Status.STARTED: ("started",),
    # The report of a short job's beginning may come after its end, and then its row was never STARTED.
    Status.SUCCESS: ("started", "output", "completed"),
    Status.FAILURE: ("completed",),
    Status.REVOKED: ("completed",),
}
"""What a job's arrival in a state is, to a webhook. `started` counts once, however often it begins again."""
KEPT_CALLS = 12
EACH = 8
"""Deliveries to one URL at a time."""
MOST = 256
# Two searches: of (owner, url) > (?, ?) SQLite would read every row of that URL.
_NEXT_URL = (
    "SELECT owner, url FROM outbox WHERE state = 'waiting' AND owner = ? AND url > ?"
    " ORDER BY url LIMIT 1",
    "SELECT owner, url FROM outbox WHERE state = 'waiting' AND owner > ?"
    " ORDER BY owner, url LIMIT 1",
)
_DUE_OF_URL = (
    "SELECT number, id, owner, url, body, event, tries, failing_since"
    " FROM outbox AS this LEFT JOIN endpoints USING (owner, url)"
    " WHERE owner = ? AND url = ? AND state = 'waiting' AND due <= ? AND NOT EXISTS"
    " (SELECT 1 FROM outbox AS before WHERE before.job_id = this.job_id"
    " AND before.number < this.number AND before.state = 'waiting') ORDER BY due LIMIT ?"
)
_COLUMNS = (
    "number, id, owner, job_id, event, url, created_at, state, reason, due, done_at, tries, calls"
)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What becomes of a delivery after a call. `due`: of the next attempt; None: it is over. `disabled`: why
    nothing is sent to this URL any more."""

    call: CallMade
    state: str  # waiting, delivered, failed
    due: float | None = None
    reason: str | None = None
    disabled: str | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery whose time has come. `tries`: calls so far. `failing_since`: of its URL, unix seconds."""

    parcel: Parcel
    event: str
    tries: int
    failing_since: float | None


def post(db: sqlite3.Connection, job: Job, hook: Webhook) -> None:
    """Within the transaction that brings `job` into its state: what the webhook is to be told of it."""
    events = [event for event in EVENTS_OF.get(job.status, ()) if event in hook["events"]]
    at = job.completed_at or job.started_at or job.created_at
    for event in events:
        _put(db, f"msg_{job.job_id}_{event}", job.owner, job.job_id, event, hook["url"],
             hook_body(job, event, hook), at)  # fmt: skip


def _put(
    db: sqlite3.Connection,
    id: str,
    owner: str,
    job_id: str | None,
    event: str,
    url: str,
    body: str,
    at: float,
) -> None:
    row = db.execute(
        "SELECT disabled FROM endpoints WHERE owner = ? AND url = ?", (owner, url)
    ).fetchone()
    off = row["disabled"] if row and event != TEST else None
    state, due, done_at = ("dropped", None, at) if off else ("waiting", at, None)
    db.execute(
        "INSERT OR IGNORE INTO outbox (id, owner, job_id, event, url, body, created_at, state, reason,"
        " due, done_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (id, owner, job_id, event, url, body, at, state, off, due, done_at),
    )


class Outbox:
    """Every method raises sqlite3.Error if the disk fails."""

    def __init__(self, database: Database) -> None:
        self._read, self._write = database.read, database.write
        self.posted: Callable[[], None] = lambda: None  # called when there may be something new
        self._last = ("", "")  # owner and URL that were looked at last

    # ---- for whoever delivers ----

    async def due(self, now: float) -> list[Due]:
        """What is to be sent at `now`: at most EACH to one URL, so that one that is slow holds up nobody
        else, and MOST in all. The next call goes on with the URLs after these."""
        rows, self._last = await self._read(lambda db: _due_after(db, self._last, now))
        return rows

    async def next_due(self, now: float) -> float | None:
        """The moment after `now` at which the next delivery is due; None: none is."""
        return await self._read(
            lambda db: db.execute(
                "SELECT MIN(due) FROM outbox WHERE state = 'waiting' AND due > ?", (now,)
            ).fetchone()[0]
        )

    async def expects_batches(self) -> bool:
        """A batch that calls somebody has not ended. Nobody is told when it does: the database itself writes
        its events."""
        return await self._read(
            lambda db: (
                db.execute("SELECT 1 FROM batch_hooks WHERE open = 1 LIMIT 1").fetchone()
                is not None
            )
        )

    async def backlog(self) -> tuple[int, float | None]:
        """How many deliveries wait, and since when the oldest of them does, in unix seconds."""

        def operation(db: sqlite3.Connection) -> tuple[int, float | None]:
            sql = "SELECT COUNT(*), MIN(created_at) FROM outbox WHERE state = 'waiting'"
            waiting, oldest = db.execute(sql).fetchone()
            return waiting, oldest

        return await self._read(operation)

    async def settle(self, rulings: Mapping[int, Ruling]) -> None:
        """Note what came of some calls, by number. A delivery that is over already stays as it is."""

        def operation(db: sqlite3.Connection) -> None:
            for number, ruling in rulings.items():
                _settle(db, number, ruling)

        await self._write(operation)

    # ---- for owners ----

    async def page(
        self, owner: str, wanted: DeliveryFilter, limit: int, before: int | None
    ) -> DeliveryPage:
        """Newest first: those numbered below `before`, or the newest of all."""
        terms = "".join(f" AND {name} = ?" for name in wanted)
        values = [*wanted.values()]
        sql = (
            f"SELECT {_COLUMNS} FROM outbox WHERE owner = ? AND number < ?{terms}"
            " ORDER BY number DESC LIMIT ?"
        )

        def operation(db: sqlite3.Connection) -> DeliveryPage:
            rows = db.execute(sql, (owner, before or 2**62, *values, limit + 1)).fetchall()
            found = [_delivery(row) for row in rows[:limit]]
            more = len(rows) > limit
            return DeliveryPage(deliveries=found, older=found[-1]["number"] if more else None)

        return await self._read(operation)

    async def again(self, id: str, owner: str, now: float) -> Delivery | None:
        """Send it once more, from the start of its schedule, and let its URL be called again. None: this
        owner has no such delivery."""

        def operation(db: sqlite3.Connection) -> Delivery | None:
            found = _one(db, id, owner)
            if found is None:
                return None
            db.execute("DELETE FROM endpoints WHERE owner = ? AND url = ?", (owner, found["url"]))
            db.execute(
                "UPDATE outbox SET state = 'waiting', reason = NULL, due = ?, done_at = NULL, tries = 0"
                " WHERE id = ?",
                (now, id),
            )
            return _one(db, id, owner)

        return await self._write(operation)

    async def test(self, owner: str, url: str, now: float) -> Delivery:
        """A call that tells of no job. Its success lets the URL be called again."""
        id = f"msg_{uuid.uuid4()}_{TEST}"

        def operation(db: sqlite3.Connection) -> Delivery:
            _put(db, id, owner, None, TEST, url, test_body(now), now)
            found = _one(db, id, owner)
            assert found is not None
            return found

        return await self._write(operation)

    async def forget(self, before: float, limit: int) -> int:
        """Remove deliveries that were over before this moment (unix seconds). Returns how many."""

        def operation(db: sqlite3.Connection) -> int:
            return db.execute(
                "DELETE FROM outbox WHERE number IN"
                " (SELECT number FROM outbox WHERE done_at < ? LIMIT ?)",
                (before, limit),
            ).rowcount

        return await self._write(operation)


def _settle(db: sqlite3.Connection, number: int, ruling: Ruling) -> None:
    row = db.execute(
        "SELECT owner, url, calls FROM outbox WHERE number = ? AND state = 'waiting'", (number,)
    ).fetchone()
    if row is None:
        return
    at = ruling.call["at"]
    calls = [*json.loads(row["calls"]), ruling.call][-KEPT_CALLS:]
    over = None if ruling.state == "waiting" else at
    db.execute(
        "UPDATE outbox SET state = ?, reason = ?, due = ?, done_at = ?, tries = tries + 1, calls = ?"
        " WHERE number = ?",
        (ruling.state, ruling.reason, ruling.due, over, json.dumps(calls), number),
    )
    endpoint = (row["owner"], row["url"])
    if ruling.state == "delivered":
        db.execute("DELETE FROM endpoints WHERE owner = ? AND url = ?", endpoint)
        return
    db.execute("INSERT OR IGNORE INTO endpoints VALUES (?, ?, ?, NULL)", (*endpoint, at))
    if ruling.disabled is not None:
        db.execute(
            "UPDATE endpoints SET disabled = ? WHERE owner = ? AND url = ?",
            (ruling.disabled, *endpoint),
        )
        db.execute(
            "UPDATE outbox SET state = 'dropped', reason = ?, due = NULL, done_at = ?"
            " WHERE owner = ? AND url = ? AND state = 'waiting'",
            (ruling.disabled, at, *endpoint),
        )


def _due_after(
    db: sqlite3.Connection, last: tuple[str, str], now: float
) -> tuple[list[Due], tuple[str, str]]:
    """From the URL after `last` on, once round; and the URL that was looked at last. It reads a few rows of
    each URL, however many wait there."""
    found: list[Due] = []
    seen: set[tuple[str, str]] = set()
    at = last
    while len(found) < MOST:
        following = _url_after(db, *at) or _url_after(db, "", "")
        if following is None or following in seen:
            break
        at = following
        seen.add(at)
        found += map(_due, db.execute(_DUE_OF_URL, (*at, now, EACH)))
    return found, at


def _url_after(db: sqlite3.Connection, owner: str, url: str) -> tuple[str, str] | None:
    of_owner, of_others = _NEXT_URL
    row = (
        db.execute(of_owner, (owner, url)).fetchone() or db.execute(of_others, (owner,)).fetchone()
    )
    return None if row is None else (row["owner"], row["url"])


def _due(row: sqlite3.Row) -> Due:
    parcel = Parcel(
        number=row["number"], id=row["id"], owner=row["owner"], url=row["url"], body=row["body"]
    )
    return Due(parcel, row["event"], row["tries"], row["failing_since"])


def _one(db: sqlite3.Connection, id: str, owner: str) -> Delivery | None:
    row = db.execute(
        f"SELECT {_COLUMNS} FROM outbox WHERE id = ? AND owner = ?", (id, owner)
    ).fetchone()
    return None if row is None else _delivery(row)


def _delivery(row: sqlite3.Row) -> Delivery:
    found: dict[str, Any] = {**dict(row), "calls": json.loads(row["calls"]), "batch_id": None}
    _, about, *turn = row["id"].split("_")
    if len(turn) == 2:
        found |= {"job_id": None, "batch_id": about}
    return Delivery(**found)
