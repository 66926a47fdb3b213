"""Every error the service raises on purpose: a message, a stable code, an HTTP status.

Knows nothing of FastAPI, Ray or torch. `api/problems.py` turns these into replies; an attempt turns them
into its job's `error`.

ServiceError               500  internal
  |- BadRequest            400  invalid_request
  |- InvalidField          422  invalid_field    names the field and what is allowed
  |  `- InvalidParameter   422  invalid_field    of a header or of the query
  |- InvalidRows           422  invalid_field    names every row of a batch that is wrong
  |- Unauthorized          401  unauthorized
  |- Forbidden             403  forbidden        names what of the key's grant forbids it
  |  `- TooFast            429  rate_exceeded
  |- NotFound              404  not_found
  |- Gone                  410  deleted          or expired
  |- NotFinal              409  not_final        this can be done only when the job has ended
  |- NotWaiting            409  not_waiting      this can be done only while the job waits in line
  |- TooManyStreams        503  too_many_streams
  |- StreamShareTaken      429  stream_share_taken   of all streams, the client has its part
  |- UploadsFull           429  uploads_full     the owner keeps as many pictures here as may be
  |- Unavailable           503  unavailable      the registry does not answer
  |- Refused               any  any              in api/problems.py: the registry's answer to a submission
  |- ConfigError           500  bad_config       in styles.yaml, models.yaml or the arguments: file and line
  |  `- PaletteError       500  bad_config       in finishing/palette_files.py
  |- ModelError            500  bad_model        a checkpoint is missing, broken or unsafe
  |- StoreHeld             500  store_held       another registry owns this state
  |- NotServing            500  not_serving      a start or a deploy did not end well
  |- StorageFailed         500  storage_failed   output/ is full or read-only
  |- QualityFailed         500  quality_failed   no drawing passed the gates of its order
  |- NoImages              409  no_images        this can be done only with a job that has images
  |- JobFailed             502  job_failed       in an answer that was held for its job; its code is the job's
  |- SourceMissing         500  source_missing   a picture to be finished is not there any more
  |- SheetFailed          500  sheet_failed     pictures that cannot be packed so
  |- EffectFailed          500  effect_failed    in finishing/picture.py
  `- RenderError           500  render_failed
     |- NonFinite          500  non_finite       NaN or infinity in the latents
     |- OutOfMemory        500  out_of_memory
     |- TooLarge           500  too_large        can never fit this device
     |- DeviceLost         500  engine_stopped   in engine/runner.py
     |- Stopped            500  engine_stopped   in engine/runner.py
     |- ModelChanged       500  model_changed    ordered of weights that are not served any more
     |- NotLoaded          500  not_loaded       the renderer could not load this model, and has others
     |- Flagged            500  safety_flagged   the model's own safety checker refused the image
     `- Dropped            500  dropped          nobody waits for this image any more
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ServiceError(Exception):
    """Base of every deliberate error. `detail` may be shown to a client: no paths, no prompts."""

    code = "internal"
    status = 500
    title = "Internal error"
    retryable = False

    def __init__(self, detail: str = "", *, code: str | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        if code is not None:
            self.code = code


class BadRequest(ServiceError):
    code, status, title = "invalid_request", 400, "Bad request"


class InvalidField(ServiceError):
    """One field of a request is wrong; `allowed` lists what would have been right."""

    code, status, title = "invalid_field", 422, "Invalid field"

    def __init__(self, field: str, detail: str, allowed: Sequence[object] | None = None) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.allowed = list(allowed) if allowed is not None else None


class InvalidParameter(InvalidField):
    """A header or a query parameter is wrong."""


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong with one order of a batch. `row`: 1 is the first order; None: all of them. `field`: names
    and places, with dots."""

    row: int | None
    field: str
    detail: str
    allowed: Sequence[object] | None = None
    pointer: str | None = None  # into a JSON body


class InvalidRows(ServiceError):
    """Orders of a batch are wrong. `errors`: the first ones of `total`."""

    code, status, title = "invalid_field", 422, "Invalid field"

    def __init__(self, errors: Sequence[RowError], total: int) -> None:
        first = ", ".join(_where(error) for error in errors[:3])
        more = "" if total <= 3 else f" and {total - 3} more"
        super().__init__(f"Wrong: {first}{more}. Nothing was ordered.")
        self.errors = list(errors)


def _where(error: RowError) -> str:
    return error.field if error.row is None else f"{error.field} of row {error.row}"


class Unauthorized(ServiceError):
    code, status, title = "unauthorized", 401, "A valid API key is needed"


class Forbidden(ServiceError):
    """`field`: what of the key's grant forbids it."""

    code, status, title = "forbidden", 403, "This key may not do that"

    def __init__(self, field: str, detail: str, code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.field = field


class TooFast(Forbidden):
    """`retry_after`: seconds until the next request is taken."""

    code, status, title, retryable = "rate_exceeded", 429, "Too many requests of this key", True

    def __init__(self, detail: str, retry_after: float) -> None:
        super().__init__("rate", detail)
        self.retry_after = retry_after


class NotFound(ServiceError):
    code, status, title = "not_found", 404, "Not found"


class Gone(ServiceError):
    code, status, title = "deleted", 410, "Gone"


class NotFinal(ServiceError):
    code, status, title = "not_final", 409, "The job has not ended"


class NotWaiting(ServiceError):
    code, status, title = "not_waiting", 409, "The job does not wait in line"


class TooManyStreams(ServiceError):
    code, status, title, retryable = "too_many_streams", 503, "Too many streams", True


class StreamShareTaken(ServiceError):
    code, status, title, retryable = (
        "stream_share_taken",
        429,
        "Your share of streams is open",
        True,
    )


class UploadsFull(ServiceError):
    """`retry_after`: seconds until the first of them expires."""

    code, status, title, retryable = "uploads_full", 429, "Your share of uploads is taken", True

    def __init__(self, detail: str = "", retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(ServiceError):
    code, status, title, retryable = "unavailable", 503, "Temporarily unavailable", True


class ConfigError(ServiceError):
    code, title = "bad_config", "A configuration file is wrong"


class ModelError(ServiceError):
    code, title = "bad_model", "A model cannot be loaded"


class StoreHeld(ServiceError):
    code, title = "store_held", "Another registry owns this state directory"


class NotServing(ServiceError):
    code, title = "not_serving", "The service does not come up"


class StorageFailed(ServiceError):
    """`passes`: the job may wait until the folder can be written again."""

    code, title, retryable = "storage_failed", "The image could not be stored", True

    def __init__(self, detail: str = "", *, passes: bool = True) -> None:
        super().__init__(detail)
        self.passes = passes


class QualityFailed(ServiceError):
    code, title, retryable = "quality_failed", "No drawing passed the gates of its order", False


class NoImages(ServiceError):
    code, status, title = "no_images", 409, "The job has no images"


class JobFailed(ServiceError):
    """The job for which an answer was held has ended without pictures. `code` is that of the job."""

    code, status, title = "job_failed", 502, "The job has failed"

    def __init__(self, detail: str, code: str, status: int = 502) -> None:
        super().__init__(detail, code=code)
        self.status = status


class SourceMissing(ServiceError):
    code, title = "source_missing", "A picture that this job works on is not there any more"


class SheetFailed(ServiceError):
    code, title = "sheet_failed", "The pictures could not be packed"


class RenderError(ServiceError):
    code, title = "render_failed", "The image could not be rendered"


class NonFinite(RenderError):
    code, title = "non_finite", "The model produced NaN or infinity"


class OutOfMemory(RenderError):
    code, title, retryable = "out_of_memory", "The device ran out of memory", True


class TooLarge(RenderError):
    code, title = "too_large", "The request can never fit this device"


class NotLoaded(RenderError):
    code, title, retryable = "not_loaded", "This renderer could not load the model", True


class ModelChanged(RenderError):
    code, title, retryable = "model_changed", "These weights are not served any more", True


class Flagged(RenderError):
    code, title = "safety_flagged", "The model's safety checker refused the image"


class Dropped(RenderError):
    code, title = "dropped", "Nobody waits for this image any more"
