"""run_job: one attempt at a job, from start to end. It asks a renderer for the images, stores each of them,
and lets the registry publish them.

Knows nothing of Ray, torch or the engine; it reads no configuration, only the ticket it was given.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import closing
from typing import Any, Literal, Protocol

from serve_app.errors import ServiceError
from serve_app.messages import ImageFile, JobError, Outcome, RenderedImage, RenderEvent, Ticket
from serve_app.params import GenerationParams

log = logging.getLogger("assets.job")

MODEL_ATTEMPTS = 6
"""After this many attempts, which take some twenty seconds, a job fails if no renderer has its model. During
a redeploy there may be renderers with the old model."""


class RendererGone(Exception):
    """The stream of events broke. absent: there is no renderer. stopped: the renderer was told to stop.
    crashed: its process died."""

    def __init__(self, how: Literal["absent", "stopped", "crashed"], reason: str) -> None:
        super().__init__(reason)
        self.how: Literal["absent", "stopped", "crashed"] = how


class RegistryGone(Exception):
    """A call to the registry got no answer, or its disk failed. It is unknown whether the call took
    effect."""


class RenderStream(Protocol):
    """What an attempt needs of the renderers."""

    def render(self, ticket: Ticket) -> Generator[RenderEvent]:
        """Raises RendererGone. Closing it stops the work."""
        ...


class AttemptRegistry(Protocol):
    """What an attempt needs of the registry. `admitted`, `finish` and `fail` raise RegistryGone."""

    def admitted(self, job_id: str, fence: int, solo_seconds: float | None) -> bool: ...

    def progress(self, job_id: str, fence: int, progress: dict[str, Any]) -> None: ...

    def preview(self, job_id: str, fence: int, index: int, data: bytes) -> None: ...

    def finish(self, job_id: str, fence: int, images: list[ImageFile]) -> bool: ...

    def fail(self, job_id: str, fence: int, error: JobError) -> bool: ...


class ImageWriter(Protocol):
    """What an attempt needs of the output folder."""

    def write(
        self, image: RenderedImage, params: GenerationParams, job_id: str, fence: int
    ) -> ImageFile:
        """Raises StorageFailed; nothing half-written remains."""
        ...

    def remove(self, paths: list[str]) -> int: ...


class Superseded(Exception):
    """Another attempt owns the job now."""


class Attempt:
    """One attempt: what it has stored so far, and whether a renderer took it."""

    def __init__(self, ticket: Ticket, registry: AttemptRegistry, output: ImageWriter) -> None:
        self._job_id, self._fence = ticket["job_id"], ticket["fence"]
        self._params = GenerationParams.model_validate(ticket["params"])
        self._registry, self._output = registry, output
        self.admitted = False
        self.images: list[ImageFile] = []

    def take(self, event: RenderEvent) -> None:
        """Handle one event. Raises Superseded, StorageFailed, RenderedBadly or RegistryGone."""
        match event["kind"]:
            case "admitted":
                self.admitted = True
                solo = event.get("solo_seconds")
                self._must_own(self._registry.admitted(self._job_id, self._fence, solo))
            case "progress":
                said = {name: value for name, value in event.items() if name != "kind"}
                said["value"] = round(event["step"] / max(1, event["steps"]), 3)
                self._registry.progress(self._job_id, self._fence, said)
            case "image":
                stored = self._output.write(event, self._params, self._job_id, self._fence)
                self.images.append(stored)
            case "failed":
                raise RenderedBadly(event)
            case "preview":
                self._registry.preview(self._job_id, self._fence, event["index"], event["data"])

    def publish(self) -> None:
        """Raises Superseded or RegistryGone."""
        images = sorted(self.images, key=lambda image: image["index"])
        if len(images) != self._params.n:
            raise RuntimeError(f"{len(images)} of {self._params.n} images came")
        self._must_own(self._registry.finish(self._job_id, self._fence, images))

    def fail(self, error: JobError) -> None:
        self.discard()
        self._registry.fail(self._job_id, self._fence, error)

    def discard(self) -> None:
        self._output.remove([image["path"] for image in self.images])

    def _must_own(self, owned: bool) -> None:
        if not owned:
            raise Superseded


class RenderedBadly(Exception):
    """The engine ended the request without its images."""

    def __init__(self, event: Any) -> None:
        super().__init__(event["detail"])
        self.error = JobError(
            code=event["code"],
            title=event["title"],
            detail=event["detail"],
            retryable=event["retryable"],
        )


def run_job(
    ticket: Ticket, renderer: RenderStream, registry: AttemptRegistry, output: ImageWriter
) -> Outcome:
    """Make one attempt. Either the registry has its result, or the outcome says why not. Files that are not
    published are removed, with one exception: a registry that does not answer may have published them. Then
    they stay, and if they are not published, the end of the job or the next start of the registry removes
    them."""
    try:
        return _run(ticket, renderer, registry, output)
    except RegistryGone as gone:
        return Outcome(kind="lost", reason=f"the registry did not answer: {gone}"[:300])


def _run(
    ticket: Ticket, renderer: RenderStream, registry: AttemptRegistry, output: ImageWriter
) -> Outcome:
    try:
        attempt = Attempt(ticket, registry, output)
    except ValueError as error:  # the job was submitted to newer code, which was then taken back
        log.error("the order is not understood: %s", error, extra={"job_id": ticket["job_id"]})
        registry.fail(ticket["job_id"], ticket["fence"], _internal(error))
        return Outcome(kind="settled", reason="")
    try:
        with closing(renderer.render(ticket)) as events:
            for event in events:
                attempt.take(event)
        attempt.publish()
    except Superseded:
        attempt.discard()
    except RendererGone as gone:
        attempt.discard()
        return _outcome(gone, attempt.admitted)
    except RenderedBadly as bad:
        if bad.error["code"] == "dropped":  # the registry revoked the job or starts another attempt
            attempt.discard()
            return Outcome(kind="stopped", reason="dropped by the engine")
        if bad.error["code"] == "model_changed" and ticket["fence"] < MODEL_ATTEMPTS:
            # A redeploy goes on and this renderer is from before it. The next attempt may meet a new one.
            return Outcome(kind="lost", reason="the renderer has another model")
        if bad.error["code"] == "engine_stopped":  # its device or thread is at fault, not the job
            attempt.discard()
            return _outcome(RendererGone("crashed", bad.error["detail"]), attempt.admitted)
        attempt.fail(bad.error)
    except ServiceError as error:
        attempt.fail(
            JobError(
                code=error.code,
                title=error.title,
                detail=error.detail,
                retryable=error.retryable,
            )
        )
    except RegistryGone:
        raise
    except Exception as bug:
        log.exception("attempt failed", extra={"job_id": ticket["job_id"]})
        attempt.fail(_internal(bug))
    return Outcome(kind="settled", reason="")


def _internal(bug: Exception) -> JobError:
    return JobError(
        code="internal",
        title="Internal error",
        detail=f"The job met an error that nobody expected ({type(bug).__name__}); see the log.",
        retryable=True,
    )


def _outcome(gone: RendererGone, admitted: bool) -> Outcome:
    if gone.how == "crashed" and admitted:
        return Outcome(kind="died", reason=str(gone))
    if admitted:
        return Outcome(kind="stopped", reason=str(gone))
    return Outcome(kind="released", reason=str(gone))
