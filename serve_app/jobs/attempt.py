"""store_images: the last step of an attempt. What a renderer returned becomes files, or a reason why not.

Knows nothing of Ray, torch or the engine; it reads no configuration, only the ticket and what was drawn.
"""

from __future__ import annotations

import logging
from typing import Protocol

from serve_app.errors import ServiceError, StorageFailed
from serve_app.messages import (
    ImageFile,
    JobError,
    Outcome,
    Rendered,
    RenderedImage,
    RenderFailed,
    Ticket,
)
from serve_app.params import GenerationParams

log = logging.getLogger("assets.job")


class ImageWriter(Protocol):
    """What an attempt needs of the output folder."""

    def write(
        self, image: RenderedImage, params: GenerationParams, job_id: str, fence: int
    ) -> ImageFile:
        """Raises StorageFailed; nothing half-written remains."""
        ...

    def remove(self, paths: list[str]) -> int: ...


def store_images(ticket: Ticket, rendered: Rendered, output: ImageWriter) -> Outcome:
    """Never raises. Unless all images are stored, no file of this attempt stays."""
    if rendered["failed"] is not None:
        return _not_drawn(rendered["failed"])
    stored: list[ImageFile] = []
    try:
        params = GenerationParams.model_validate(ticket["params"])
        for image in sorted(rendered["images"], key=lambda image: image["index"]):
            stored.append(output.write(image, params, ticket["job_id"], ticket["fence"]))
        if len(stored) != params.n:
            raise RuntimeError(f"{len(stored)} of {params.n} images came")
    except StorageFailed as error:
        output.remove([image["path"] for image in stored])
        if not error.passes:
            return Outcome(kind="failed", reason=error.detail, error=told(error))
        return Outcome(kind="full", reason=error.detail, unstored=True)
    except Exception as bug:
        log.exception("attempt failed", extra={"job_id": ticket["job_id"]})
        output.remove([image["path"] for image in stored])
        return Outcome(kind="failed", reason=type(bug).__name__, error=internal_error(bug))
    run_s = max(image["render_seconds"] for image in rendered["images"])
    return Outcome(kind="drawn", reason="", images=stored, run_s=run_s)


def _not_drawn(failed: RenderFailed) -> Outcome:
    reason = failed["detail"]
    match failed["code"]:
        case (
            "dropped"
        ):  # the registry has another attempt in mind, or the engine ended before its turn
            return Outcome(kind="stopped", reason="dropped by the engine")
        case "model_changed":
            return Outcome(kind="outdated", reason=reason)
        case "not_loaded":  # that renderer has other models of its pool
            return Outcome(kind="released", reason=reason)
        case "storage_failed":  # its renderer cannot read the pictures that it is drawn from
            return Outcome(kind="full", reason=reason)
        case "engine_stopped":  # its device or its thread, perhaps because of this job
            return Outcome(kind="died", reason=reason)
        case code:
            error = JobError(
                code=code, title=failed["title"], detail=reason, retryable=failed["retryable"]
            )
            kind = "refused" if failed["retryable"] else "failed"
            return Outcome(kind=kind, reason=reason, error=error)


def told(error: ServiceError) -> JobError:
    """What a client is told of an error that was raised on purpose."""
    return JobError(
        code=error.code, title=error.title, detail=error.detail, retryable=error.retryable
    )


def internal_error(bug: BaseException) -> JobError:
    """What a client is told of an error that is ours. Its message stays in the log: it may name paths."""
    return JobError(
        code="internal",
        title="Internal error",
        detail=f"The job met an error that nobody expected ({type(bug).__name__}); see the log.",
        retryable=True,
    )
