"""Ledger: what the clients know. Every order, what was asked of its job, and what each answer said.

Knows nothing of how answers come, nor of what the service keeps: `evidence` holds that, and `check`
compares the two. Threads share it.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from .orders import Order

Job = dict[str, Any]

TERMINAL = ("SUCCESS", "FAILURE", "REVOKED")
OLDEST_VIEW_S = 2.0
"""An answer may be a second old; the other second is for an answer on its way in a busy moment."""


class Outcome(StrEnum):
    UNKNOWN = "unknown"  # no answer: it may exist
    ACCEPTED = "accepted"  # 202: it must not be lost
    REFUSED = "refused"  # the service said no: it must not exist
    CUT = "cut"  # its last byte was never sent: it must not exist


@dataclass(eq=False)
class Entry:
    """One order, or one retry of an older job, and all that its client was told."""

    order: Order
    retry_of: str | None = None
    key: str | None = None
    outcome: Outcome = Outcome.UNKNOWN
    unanswered: int = 0  # sends that no answer came to
    job_id: str | None = None
    cancel_asked: bool = False
    delete_asked: bool = False
    deleted: bool = False
    last: Job | None = None
    end: Job | None = None  # as it was first seen final
    end_seen_at: float = 0.0  # monotonic seconds

    @property
    def name(self) -> str:
        retry = f", retry of {self.retry_of}" if self.retry_of else ""
        return f"{self.order.name} ({self.order.motif.shape}{retry}) {self.job_id}"

    @property
    def status(self) -> str | None:
        return None if self.last is None else self.last["status"]

    @property
    def live(self) -> bool:
        return self.job_id is not None and self.end is None and not self.delete_asked

    @property
    def open(self) -> bool:
        """Sending it again tells whether it exists."""
        return self.outcome is Outcome.UNKNOWN and self.key is not None


class Journal:
    """What happened, one JSON object a line, on disk at once: a run that is cut short still tells."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1)
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def write(self, what: str, **facts: Any) -> None:
        at = round(time.monotonic() - self._began, 2)
        with self._lock:
            self._file.write(json.dumps({"at": at, "what": what, **facts}, default=str) + "\n")

    def close(self) -> None:
        self._file.close()


class Ledger:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.entries: list[Entry] = []
        self.wrong: list[str] = []  # promises that an answer broke by itself
        self.replays = 0
        self._by_id: dict[str, Entry] = {}
        self._lock = threading.Lock()

    # ---- what clients did and heard ----

    def add(self, entry: Entry) -> Entry:
        with self._lock:
            self.entries.append(entry)
        return entry

    def accepted(self, entry: Entry, job: Job) -> None:
        job_id = job["job_id"]
        with self._lock:
            first = entry.job_id is None
            entry.outcome = Outcome.ACCEPTED
            if first:
                entry.job_id = job_id
                if self._by_id.setdefault(job_id, entry) is not entry:
                    self._break(f"doubled: {job_id} answered {entry.name} and another order")
            elif entry.job_id != job_id:
                self._break(f"doubled: {entry.name}: its key answered with {job_id} too")
        if first:
            self.journal.write("accepted", job_id=job_id, order=entry.order.name)

    def refused(self, entry: Entry) -> None:
        """The service said no. That tells nothing of an earlier send that got no answer."""
        with self._lock:
            if entry.outcome is Outcome.UNKNOWN and not entry.unanswered:
                entry.outcome = Outcome.REFUSED

    def saw(self, entry: Entry, job: Job, asked_at: float) -> None:
        """A job object came to a question of `asked_at`, monotonic seconds."""
        with self._lock:
            final = job["status"] in TERMINAL
            if entry.end is None and final:
                entry.end, entry.end_seen_at = job, time.monotonic()
                self.journal.write("end", job_id=job["job_id"], status=job["status"])
            elif entry.end is not None and final:
                for key in ("status", "images", "error", "completed_at"):
                    if job[key] != entry.end[key]:
                        self._break(
                            f"end changed: {entry.name} {key}: {entry.end[key]} to {job[key]}"
                        )
            elif entry.end is not None and asked_at > entry.end_seen_at + OLDEST_VIEW_S:
                self._break(f"end changed: {entry.name}: {entry.end['status']} to {job['status']}")
            if entry.end is None or final:
                entry.last = job

    def asked(self, entry: Entry, what: str) -> None:
        """Somebody is about to cancel or delete it: noted before, since no answer may come."""
        with self._lock:
            entry.cancel_asked |= what == "cancel"
            entry.delete_asked |= what == "delete"

    def gone(self, entry: Entry) -> None:
        """The service says that it is deleted."""
        with self._lock:
            if not entry.delete_asked:
                self._break(f"lost: {entry.name}: gone, but nobody deleted it")
            entry.deleted = True

    def broken(self, text: str) -> None:
        with self._lock:
            self._break(text)

    def _break(self, text: str) -> None:
        self.wrong.append(text)
        self.journal.write("wrong", text=text)

    # ---- questions ----

    def of(self, job_id: str) -> Entry | None:
        with self._lock:
            return self._by_id.get(job_id)

    def live(self, client: str | None = None) -> list[Entry]:
        """Jobs that were accepted and not seen final, oldest first."""
        with self._lock:
            found = [entry for entry in self.entries if entry.live]
        return [e for e in found if client in (None, e.order.client)]

    def unsettled(self, client: str) -> list[Entry]:
        """Orders of a client that sending them again would clear up."""
        with self._lock:
            return [e for e in self.entries if e.open and e.order.client == client]

    def ended(self) -> list[Entry]:
        """Jobs seen final that nobody wants deleted."""
        with self._lock:
            return [e for e in self.entries if e.end is not None and not e.delete_asked]

    def drawn_since(self, unix_s: float) -> bool:
        """A renderer was seen to take up work after that moment."""
        with self._lock:
            jobs = [entry.last for entry in self.entries if entry.last is not None]
        return any(began(job) > unix_s for job in jobs if job["status"] != "REVOKED")


def began(job: Job) -> float:
    """Unix seconds at which its last attempt was admitted; 0: it was not."""
    return 0.0 if job["started_at"] is None else unix(job["started_at"])


def unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
