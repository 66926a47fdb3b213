"""Job: what a user ordered, and where it stands.

Knows nothing of how jobs are stored, launched or shown. A job's status changes in these ways and in no
other; `MOVES` below is the same list.

    from                           to        when
    -----------------------------  --------  ------------------------------------------------------
    PENDING, RETRY                 STARTED   a renderer admitted its attempt
    PENDING, STARTED               RETRY     its attempt was lost; it waits for another one
    PENDING, STARTED, RETRY        SUCCESS   its files are published
    PENDING, STARTED, RETRY        FAILURE   it failed for good, or was lost too often
    PENDING, STARTED, RETRY        REVOKED   it was cancelled, or its deadline passed

A new job is PENDING. A job whose attempt is launched but not admitted is still PENDING or RETRY, and it stays
so if that attempt found no renderer. The report of its admission may come after its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from serve_app.messages import (
    TERMINAL,
    ImageFile,
    JobChanges,
    JobError,
    JobView,
    Labels,
    Mark,
    PreviewImage,
    Summary,
)
from serve_app.priorities import HEAD_START_S


class Status(StrEnum):
    PENDING = "PENDING"  # waits for a renderer to admit it
    STARTED = "STARTED"  # a renderer works on it
    RETRY = "RETRY"  # lost an attempt, and waits for a renderer to admit the next one
    SUCCESS = "SUCCESS"  # its files are published
    FAILURE = "FAILURE"  # it ended without files, and `error` says why
    REVOKED = "REVOKED"  # cancelled, or past its deadline

    @property
    def terminal(self) -> bool:
        return self in TERMINAL

    @property
    def waiting(self) -> bool:
        return self in (Status.PENDING, Status.RETRY)


MOVES: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset(
        {Status.STARTED, Status.RETRY, Status.SUCCESS, Status.FAILURE, Status.REVOKED}
    ),
    Status.STARTED: frozenset({Status.RETRY, Status.SUCCESS, Status.FAILURE, Status.REVOKED}),
    Status.RETRY: frozenset({Status.STARTED, Status.SUCCESS, Status.FAILURE, Status.REVOKED}),
    Status.SUCCESS: frozenset(),
    Status.FAILURE: frozenset(),
    Status.REVOKED: frozenset(),
}
"""The states that may follow each state."""


def place_in_line(number: int, priority: str) -> float:
    """Sorts the waiting jobs of one client, smaller first. A priority is a head start and nothing more: a low
    job waits for normal jobs submitted up to ten minutes after it, and for no later ones."""
    return number + HEAD_START_S[priority] * 1e6


@dataclass(frozen=True)
class Job:
    """One job at one moment. Times are unix seconds, UTC."""

    job_id: str
    owner: str
    params: dict[str, Any]  # sealed: only renderers, the files' metadata and the search look inside
    summary: Summary  # what everybody else may know of `params`
    labels: Labels
    created_at: float
    number: int  # strictly increasing, normally `created_at` in microseconds; the primary key
    deadline: float | None = None  # if it has not ended by then, it is revoked
    status: Status = Status.PENDING
    fence: int = 0  # number of the newest attempt; only its holder may publish
    attempts: int = 0  # deaths that it may have caused: what `max_attempts` bounds
    alone: bool = False  # was on a replica that died: runs without company until it succeeds
    started_at: float | None = None
    completed_at: float | None = None
    images: tuple[ImageFile, ...] = ()
    error: JobError | None = None
    troubles: Mapping[str, int] = field(
        default_factory=dict[str, int]
    )  # number of ends, by outcome
    # ---- never stored, so lost when the registry restarts ----
    waiting_for: str | None = None
    progress: dict[str, Any] | None = None
    reported_at: float = 0.0  # when `progress` came, in monotonic seconds
    preview: PreviewImage | None = None
    seq: int = 0  # number of its last change, within the epoch

    @property
    def client(self) -> str:
        """The client whose share of the devices it is charged to."""
        return self.labels["client"]

    @property
    def priority(self) -> str:
        return self.labels["priority"]

    @property
    def work(self) -> float:
        """Megapixel steps; guidance counts twice."""
        return self.summary["work"]

    @property
    def model(self) -> str:
        """What draws it; empty: nothing does."""
        return self.summary["model"]

    @property
    def pool(self) -> str:
        """Whose slots it takes."""
        return self.summary["pool"]

    @property
    def place(self) -> float:
        """Sorts it among its client's waiting jobs, smaller first."""
        return place_in_line(self.number, self.priority)

    def evolve(self, **changes: Any) -> Job:
        # hot: six times as fast as `dataclasses.replace`, which passes 23 fields through `__init__`
        if not changes.keys() <= self.__dict__.keys():
            raise TypeError(f"a job has no {changes.keys() - self.__dict__.keys()}")
        evolved = object.__new__(Job)
        evolved.__dict__.update(self.__dict__, **changes)
        return evolved

    def view(
        self,
        epoch: int,
        *,
        position: int | None = None,
        eta: float | None = None,
        paused: str | None = None,
        retention_s: float | None = None,
    ) -> JobView:
        """What a client may see. `position`: 1 is next. `eta`: seconds until it is done. `paused`: why no
        job is launched now. `retention_s`: how long a finished job is kept."""
        waiting = self.status.waiting
        ended = self.completed_at
        return JobView(
            job_id=self.job_id,
            owner=self.owner,
            status=self.status.value,
            rev=f"{epoch}.{self.seq}",
            created_at=self.created_at,
            started_at=self.started_at,
            completed_at=ended,
            deadline=self.deadline,
            expires_at=None if ended is None or retention_s is None else ended + retention_s,
            attempts=self.attempts,
            fence=self.fence,
            queue_position=position if waiting else None,
            eta_seconds=None if self.status.terminal else eta,
            waiting_for=(self.waiting_for or paused or "turn") if waiting else None,
            progress=self.progress,
            preview=self.preview,
            images=list(self.images),
            error=self.error,
            params=self.params,
            summary=self.summary,
            labels=self.labels,
            queue_ms=_ms(self.created_at, self.started_at),
            execution_ms=_ms(self.started_at, self.completed_at),
        )


def relabelled(labels: Labels, changes: JobChanges) -> Labels:
    """Tags and priority instead of those that were; of each mark only what is said."""
    changed = Labels(**labels)
    changed["tags"] = changes.get("tags", labels["tags"])
    changed["priority"] = changes.get("priority", labels["priority"])
    marks = dict(labels.get("marks", {}))
    for image, mark in changes.get("marks", {}).items():
        kept = {name: value for name, value in {**marks.pop(image, {}), **mark}.items() if value}
        if kept:
            marks[image] = Mark(**kept)  # pyright: ignore[reportArgumentType]
    changed.pop("marks", None)
    if marks:
        changed["marks"] = marks
    return changed


def published(images: Iterable[ImageFile]) -> dict[str, str]:
    """Path -> sha256 of every file that these images publish."""
    found: dict[str, str] = {}
    for image in images:
        found[image["path"]] = image["sha256"]
        found.update((file["path"], file["sha256"]) for file in image.get("files", ()))
    return found


def bytes_of(images: Iterable[ImageFile]) -> int:
    """Of every file that these images publish, each once."""
    found: dict[str, int] = {}
    for image in images:
        found[image["path"]] = image["size_bytes"]
        found.update((file["path"], file["size_bytes"]) for file in image.get("files", ()))
    return sum(found.values())


def paths_of(images: Iterable[ImageFile]) -> set[str]:
    return set(published(images))


def _ms(start: float | None, end: float | None) -> int | None:
    return None if start is None or end is None else max(0, round((end - start) * 1000))
