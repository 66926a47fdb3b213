"""Notebook: the receipts of all clients, and every promise that an answer broke by itself.

Knows nothing of how answers come, nor of what the service really holds: `evidence` finds that out, and
`check` compares the two. Threads share it.
"""

from __future__ import annotations

import threading
import time

from serve_app.messages import TERMINAL

from .journal import Journal
from .receipt import Answer, Job, Receipt, admitted_at

OLDEST_VIEW_S = 2.0
"""An answer may be one second old; the other second is for an answer on its way in a busy moment."""
KEPT = ("status", "images", "error", "completed_at")
"""What never changes of a job that has ended."""


class Notebook:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.receipts: list[Receipt] = []
        self.broken_promises: list[str] = []
        self.replays = 0
        self.source = ""  # the job whose pictures are derived and packed
        self._by_job_id: dict[str, Receipt] = {}
        self._lock = threading.Lock()

    # ---- what clients did and heard ----

    def add(self, receipt: Receipt) -> Receipt:
        with self._lock:
            self.receipts.append(receipt)
        return receipt

    def accepted(self, receipt: Receipt, job: Job) -> None:
        job_id = job["job_id"]
        with self._lock:
            first = receipt.job_id is None
            receipt.answer = Answer.ACCEPTED
            if first:
                receipt.job_id = job_id
                if self._by_job_id.setdefault(job_id, receipt) is not receipt:
                    self._break(f"doubled: {job_id} answered {receipt.name} and another order")
            elif receipt.job_id != job_id:
                self._break(f"doubled: {receipt.name}: its key answered with {job_id} too")
        if first:
            self.journal.write("accepted", job_id=job_id, order=receipt.order.name)

    def refused(self, receipt: Receipt) -> None:
        """The service said no. That tells nothing of an earlier send that got no answer."""
        with self._lock:
            if receipt.answer is Answer.NONE and not receipt.unanswered:
                receipt.answer = Answer.REFUSED

    def saw(self, receipt: Receipt, job: Job, asked_at: float) -> None:
        """A job object came. `asked_at`: when it was asked for, in monotonic seconds."""
        with self._lock:
            final = job["status"] in TERMINAL
            if receipt.end is None and final:
                receipt.end, receipt.end_seen_at = job, time.monotonic()
                self.journal.write("end", job_id=job["job_id"], status=job["status"])
            elif receipt.end is not None and final:
                for change in end_changes(receipt, job):
                    self._break(change)
            elif receipt.end is not None and asked_at > receipt.end_seen_at + OLDEST_VIEW_S:
                was, now = receipt.end["status"], job["status"]
                self._break(f"end changed: {receipt.name}: {was} to {now}")
            if receipt.end is None or final:
                receipt.last = job

    def asked(self, receipt: Receipt, what: str) -> None:
        """Somebody is about to cancel or delete it: noted before, since no answer may come."""
        with self._lock:
            receipt.cancel_asked |= what == "cancel"
            receipt.delete_asked |= what == "delete"

    def gone(self, receipt: Receipt) -> None:
        """The service says that it is deleted."""
        with self._lock:
            if not receipt.delete_asked:
                self._break(f"lost: {receipt.name}: gone, but nobody deleted it")
            receipt.deleted = True

    def broken(self, text: str) -> None:
        with self._lock:
            self._break(text)

    def _break(self, text: str) -> None:
        self.broken_promises.append(text)
        self.journal.write("broken promise", text=text)

    # ---- questions ----

    def live(self, client: str | None = None) -> list[Receipt]:
        """Of a client, or of all; oldest first."""
        with self._lock:
            found = [receipt for receipt in self.receipts if receipt.live]
        return [receipt for receipt in found if client in (None, receipt.order.client)]

    def unsettled(self, client: str) -> list[Receipt]:
        with self._lock:
            found = [receipt for receipt in self.receipts if receipt.unsettled]
        return [receipt for receipt in found if receipt.order.client == client]

    def ended(self) -> list[Receipt]:
        with self._lock:
            return [receipt for receipt in self.receipts if receipt.ended]

    def drawn_since(self, unix_s: float) -> bool:
        """A renderer was seen to admit a job after that moment."""
        with self._lock:
            jobs = [receipt.last for receipt in self.receipts if receipt.last is not None]
        return any(admitted_at(job) > unix_s for job in jobs if job["status"] != "REVOKED")


def end_changes(receipt: Receipt, job: Job) -> list[str]:
    """How a job differs from what its receipt saw of its end."""
    end = receipt.end or {}
    return [
        f"end changed: {receipt.name} {key}: {end[key]} to {job[key]}"
        for key in KEPT
        if end[key] != job[key]
    ]
