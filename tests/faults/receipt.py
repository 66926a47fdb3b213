"""Receipt: what a client keeps of one order, or of one retry: what it sent, and all that it was told.

Knows nothing of how answers come, nor of what the service really holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from .orders import PlannedOrder

Job = dict[str, Any]
"""A job object, as the service answers it."""


class Answer(StrEnum):
    """What the service said to a submit, and what follows for the job."""

    NONE = "none"  # it may exist
    ACCEPTED = "accepted"  # 202: it must not be lost
    REFUSED = "refused"  # it must not exist
    CUT = "cut"  # the client left before the last byte was sent: it must not exist


@dataclass(eq=False)
class Receipt:
    order: PlannedOrder
    retry_of: str | None = None
    key: str | None = None  # Idempotency-Key
    answer: Answer = Answer.NONE
    unanswered: int = 0  # sends that no answer came to
    job_id: str | None = None
    cancel_asked: bool = False
    delete_asked: bool = False
    deleted: bool = False
    last: Job | None = None  # the newest job object
    end: Job | None = None  # the first job object in a terminal state
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
        """Accepted, not seen in a terminal state, and nobody wants it deleted."""
        return self.job_id is not None and self.end is None and not self.delete_asked

    @property
    def ended(self) -> bool:
        """Seen in a terminal state, and nobody wants it deleted."""
        return self.end is not None and not self.delete_asked

    @property
    def unsettled(self) -> bool:
        """Nobody knows whether its job exists; sending it again with its key tells."""
        return self.answer is Answer.NONE and self.key is not None


def admitted_at(job: Job) -> float:
    """Unix seconds at which its last attempt was admitted; 0: none was."""
    return 0.0 if job["started_at"] is None else unix(job["started_at"])


def unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
