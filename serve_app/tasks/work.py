"""Work: what the body of a job kind gets in the job's Ray task; `run_body` makes an Outcome of what it does.

Knows the ticket, the output folder and how failures are told; nothing of Ray, pictures or any one kind.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from serve_app.artifacts.disk import is_gone, why
from serve_app.artifacts.folder import OutputDir
from serve_app.artifacts.imprint import printed
from serve_app.artifacts.names import ArtifactName
from serve_app.errors import ServiceError, SourceMissing, StorageFailed
from serve_app.finishing.base import NO_WEIGHTS, Weights
from serve_app.jobs.attempt import internal_error, told
from serve_app.messages import ImageFile, Outcome, Prints, StoredFile, Ticket

log = logging.getLogger("assets.job")

CONTENT_TYPES = {
    "png": "image/png",
    "webp": "image/webp",
    "json": "application/json",
    "zip": "application/zip",
}
"""By extension: files that a body may store."""
PICTURES = frozenset({"png", "webp"})


@dataclass(frozen=True)
class Work:
    """One attempt at a job. `tell(progress)`: what `JobView.progress` shows from now on; nobody waits for an
    answer."""

    ticket: Ticket
    output: OutputDir
    tell: Callable[[dict[str, Any]], None]
    stored: list[str] = field(default_factory=list[str])  # paths that this attempt has written
    weights: Weights = NO_WEIGHTS

    @property
    def params(self) -> dict[str, Any]:
        return self.ticket["params"]

    def put(
        self, index: int, seed: int, role: str, data: bytes, extension: str = "png"
    ) -> StoredFile:
        """Store a file of image `index`. `role`: a-z, 0-9 and `_`, 40 at most; one role of an image is stored
        once. Raises StorageFailed."""
        name = ArtifactName(
            self.ticket["summary"]["style_id"],
            seed,
            self.ticket["job_id"],
            index,
            self.ticket["fence"],
            role,
            extension,
        )
        self.output.put(name, data)
        self.stored.append(name.path)
        return StoredFile(
            role=role,
            path=name.path,
            content_type=CONTENT_TYPES[extension],
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            **(printed(data) if extension in PICTURES else Prints()),
        )

    def read(self, path: str, sha256: str) -> bytes:
        """A published file. Raises SourceMissing if it is not there any more, or not as it was; StorageFailed
        if it cannot be read now."""
        try:
            data = self.output.read(path)
        except OSError as error:
            log.warning("cannot read %s: %s", path, error.strerror)
            if is_gone(error):
                raise SourceMissing from error
            raise _unreadable(error) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise SourceMissing("A picture that this job works on is not what it was.")
        return data

    def read_own(self, path: str) -> bytes:
        """A file that this attempt has stored. Raises StorageFailed."""
        try:
            return self.output.read(path)
        except OSError as error:
            raise _unreadable(error) from error

    def step(self, stage: str, done: int, of: int) -> None:
        """`done` of `of` pictures are ready."""
        value = done / of if of else 0.0
        self.tell(
            {"value": value, "step": done, "steps": of, "image": done, "images": of, "stage": stage}
        )


Body: TypeAlias = Callable[[Work], list[ImageFile]]
"""Does the work of a kind: stores files through `Work.put`, and returns the images of the job by index. A
ServiceError ends the job as a failure with that code; StorageFailed lets it wait for the disk."""


def run_body(body: Body, work: Work) -> Outcome:
    """Never raises. Unless the body returns, no file of this attempt stays."""
    return run_steps(work, lambda: Outcome(kind="drawn", reason="", images=body(work)))


def run_steps(work: Work, steps: Callable[[], Outcome]) -> Outcome:
    """What `steps` returns, or what it means that they raised. Then no file of this attempt stays."""
    job_id = work.ticket["job_id"]
    try:
        return steps()
    except StorageFailed as error:
        work.output.remove(work.stored)
        if error.passes:
            return Outcome(kind="full", reason=error.detail, unstored=True)
        return Outcome(kind="failed", reason=error.detail, error=told(error))
    except ServiceError as error:
        work.output.remove(work.stored)
        return Outcome(kind="failed", reason=error.detail, error=told(error))
    except Exception as bug:
        log.exception("attempt failed", extra={"job_id": job_id})
        work.output.remove(work.stored)
        return Outcome(kind="failed", reason=type(bug).__name__, error=internal_error(bug))


def _unreadable(error: OSError) -> StorageFailed:
    return StorageFailed(f"A picture could not be read: {why(error)}.")
