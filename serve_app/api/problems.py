"""Errors as HTTP: every exception becomes an `application/problem+json` reply here and nowhere else.

Does not know what the routes do. No reply holds a traceback, a path or a prompt; logs hold them at DEBUG.
"""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from serve_app.api.schemas import GenerateRequest
from serve_app.api.shapes import allowed_values, fields_at
from serve_app.errors import (
    Forbidden,
    InvalidField,
    InvalidParameter,
    InvalidRows,
    ServiceError,
    TooFast,
    UploadsFull,
)
from serve_app.messages import JobError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2  # unless the registry says another time: long enough for it to restart

CODES = {  # codes of errors that Starlette raises by itself
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
}

REFUSALS = {
    "queue_full": 429,
    "idempotency_key_reuse": 422,
    "deleted": 410,
    "quota_waiting_jobs": 429,
    "quota_device_seconds": 429,
    "quota_kept_bytes": 429,
}  # status by the registry's code; 503 for any other code
QUOTA = "quota_"
"""Before the name of a quota: the code of an order that it does not allow. 403 if waiting does not help."""

log = logging.getLogger("assets.api")


class FieldError(BaseModel):
    """One thing that is wrong with the request."""

    pointer: str | None = Field(
        default=None, description="JSON pointer into the body.", examples=["#/seed"]
    )
    field: str = Field(description="Field or header.", examples=["seed"])
    row: int | None = Field(
        default=None, description="Of a batch: which order, 1 is the first.", examples=[17]
    )
    detail: str = Field(description="For people.", examples=["Input should be a valid integer"])
    allowed: list[Any] | None = Field(
        default=None,
        description="What would have been right.",
        examples=[["integer from -1 to 4294967295", "null"]],
    )


class Problem(BaseModel):
    """Why a request was not served, as RFC 9457 has it. Branch on `code`: it does not change."""

    type: str = Field(
        description="A name, not an address.",
        examples=["urn:problem-type:assets:invalid_field"],
    )
    title: str = Field(description="The kind of problem.", examples=["Invalid field"])
    status: int = Field(description="The HTTP status.", examples=[422])
    detail: str = Field(description="This case of it, for people.", examples=["Wrong: seed."])
    instance: str | None = Field(
        default=None, description="The path that was asked.", examples=["/v1/generate"]
    )
    code: str = Field(description="For programs.", examples=["invalid_field"])
    errors: list[FieldError] | None = Field(
        default=None,
        description="Every field or header that is wrong; what of a key's grant forbids it.",
    )


class Refused(ServiceError):
    """The registry refused a submission. `retry_after`: seconds. `field`: the quota that it is too much for;
    empty: none."""

    def __init__(self, error: JobError, retry_after: float | None) -> None:
        super().__init__(error["detail"], code=error["code"])
        self.title = error["title"]
        self.status = REFUSALS.get(error["code"], 503)
        self.retry_after = retry_after
        self.field = ""
        if error["code"].startswith(QUOTA):
            self.field = error["code"].removeprefix(QUOTA)
            self.status = self.status if retry_after is not None else 403


def install(app: FastAPI) -> None:
    """Replace the exception handlers of FastAPI."""
    app.add_exception_handler(ServiceError, _answer)
    app.add_exception_handler(RequestValidationError, _answer)
    app.add_exception_handler(HTTPException, _answer)


async def _answer(request: Request, exc: Exception) -> JSONResponse:
    request_id = request.scope.get("state", {}).get("request_id", "")
    return answer(exc, request.url.path, request_id, _body_of(request.scope.get("route")))


def _body_of(route: object) -> type[BaseModel]:
    """What the route takes as its body."""
    field = route.body_field if isinstance(route, APIRoute) else None
    kind: Any = field.field_info.annotation if field is not None else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else GenerateRequest


def answer(
    exc: Exception, path: str, request_id: str, body: type[BaseModel] = GenerateRequest
) -> JSONResponse:
    """The reply to an exception. One that is not a deliberate error is a 500 without details. `body`: what
    was to be sent."""
    headers: dict[str, str] = {}
    match exc:
        case RequestValidationError():
            problem = _of_validation(exc, body)
        case HTTPException():
            problem = _of_status(exc)
            headers.update(exc.headers or {})
        case ServiceError():
            problem = _of_service(exc)
            if exc.status in (429, 503):
                wait_s = (
                    exc.retry_after if isinstance(exc, Refused | TooFast | UploadsFull) else None
                )
                headers["Retry-After"] = str(math.ceil(wait_s or RETRY_AFTER_S))
            if exc.status == 401:
                headers["WWW-Authenticate"] = 'Bearer realm="assets"'
        case _:
            problem = _of_bug(exc, request_id)
    problem.instance = _printable(path)
    content = problem.model_dump(mode="json", exclude_none=True)
    return JSONResponse(content, problem.status, headers, MEDIA_TYPE)


def _of_service(exc: ServiceError) -> Problem:
    errors = None
    if isinstance(exc, InvalidField):
        detail = exc.detail.removeprefix(f"{exc.field}: ")
        errors = [_field_error(exc.field.split("."), detail, exc.allowed)]
        if isinstance(exc, InvalidParameter):
            errors[0].pointer = None  # a header or the query, which no JSON pointer reaches
    if isinstance(exc, Forbidden) or (isinstance(exc, Refused) and exc.field):
        errors = [FieldError(field=exc.field, detail=exc.detail)]
    if isinstance(exc, InvalidRows):
        errors = [
            FieldError(
                pointer=wrong.pointer,
                field=_printable(wrong.field),
                row=wrong.row,
                detail=_printable(wrong.detail),
                allowed=list(wrong.allowed) if wrong.allowed else None,
            )
            for wrong in exc.errors
        ]
    detail = exc.detail if exc.status != 500 else exc.title  # the detail may name a path
    return _problem(exc.status, exc.code, exc.title, detail, errors)


def _of_status(exc: HTTPException) -> Problem:
    if exc.status_code == 400 and isinstance(exc.__cause__, ValueError | RecursionError):
        return _problem(400, "invalid_json", "Bad request", _why_no_json(exc.__cause__))
    phrase = HTTPStatus(exc.status_code).phrase
    code = CODES.get(exc.status_code, phrase.lower().replace(" ", "_"))
    return _problem(exc.status_code, code, phrase, exc.detail)


def _why_no_json(cause: BaseException) -> str:
    """What Python's JSON reader stumbled over, apart from the grammar."""
    match cause:
        case UnicodeDecodeError():
            return f"The body is not UTF-8 (at byte {cause.start})."
        case RecursionError():
            return "The body is nested too deep."
        case _:
            return "A number in the body has too many digits."


def _of_validation(exc: RequestValidationError, body: type[BaseModel]) -> Problem:
    found: Sequence[dict[str, Any]] = exc.errors()
    if found[0]["type"] == "json_invalid":
        at = found[0]["loc"][-1]
        return _problem(400, "invalid_json", "Bad request", f"The body is not JSON (at {at}).")
    errors = [_one_error(error, body) for error in found]
    names = ", ".join(dict.fromkeys(error.field for error in errors))
    return _problem(422, InvalidField.code, InvalidField.title, f"Wrong: {names}.", errors)


def _one_error(error: dict[str, Any], body: type[BaseModel]) -> FieldError:
    """Leaves out pydantic's `input`, which may hold the prompt, and `url`, which leads to pydantic's site."""
    where, *path = error["loc"]
    if where != "body":
        return FieldError(field=str(path[0]), detail=error["msg"])
    if error["type"] == "extra_forbidden":
        return _field_error(path, "Unknown field.", fields_at(body, path[:-1]))
    return _field_error(path or ["body"], error["msg"], allowed_values(body, path))


def said_of(error: dict[str, Any], body: type[BaseModel]) -> tuple[str, str, list[Any] | None]:
    """Field, detail and what is allowed, of an error that pydantic found in this body."""
    said = _one_error({**error, "loc": ("body", *error["loc"])}, body)
    return said.field, said.detail, said.allowed


def _field_error(
    path: Sequence[str | int], detail: str, allowed: Sequence[object] | None
) -> FieldError:
    """`path`: from the body to the field, as ["clips", 0, "fps"]."""
    names = [_printable(str(part)) for part in path]
    # RFC 6901 says how to escape; RFC 9457 shows pointers as URI fragments, hence the `#`.
    escaped = [name.replace("~", "~0").replace("/", "~1") for name in names]
    pointer = "".join(["#", *(f"/{name}" for name in escaped if path != ["body"])])
    name = ".".join(names)
    return FieldError(
        pointer=pointer, field=name, detail=detail, allowed=list(allowed) if allowed else None
    )


def _of_bug(exc: Exception, request_id: str) -> Problem:
    # The message may quote the prompt (pydantic's does). The stack frames do not.
    frames = "".join(traceback.format_tb(exc.__traceback__))
    log.error("request %s: unhandled %s\n%s", request_id, type(exc).__name__, frames)
    log.debug("request %s: its message", request_id, exc_info=exc)
    detail = f"Something went wrong here, and is in the log under {request_id}."
    return _problem(500, "internal", "Internal error", detail)


def _problem(
    status: int, code: str, title: str, detail: str, errors: list[FieldError] | None = None
) -> Problem:
    return Problem(
        type=f"urn:problem-type:assets:{code}",
        title=title,
        status=status,
        detail=detail,
        code=code,
        errors=errors,
    )


def _printable(text: str) -> str:
    """At most 200 characters, and nothing that UTF-8 cannot encode: JSON may hold half a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode()[:200]
