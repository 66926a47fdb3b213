"""The OpenAPI document: headers, an example of every error, and the shared Problem.

Knows nothing of what the routes do.
"""

from __future__ import annotations

import json
from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from serve_app import __version__
from serve_app.api.batches.orders import BatchDefaults, BatchOrder, BatchRequest
from serve_app.api.batches.replies import BATCH_ID, BatchEstimate, BatchResponse
from serve_app.api.problems import MEDIA_TYPE, Problem
from serve_app.api.replies import EstimateReply, JobStatusResponse
from serve_app.api.streams.event_data import OutputEvent, PreviewEvent, ProgressEvent

DESCRIPTION = """Orders images for games and serves the finished files.

`POST /v1/generate` answers at once with a job; poll it, or watch its `events`, until its `status` is
final, and fetch its `result_urls`. Every error is `application/problem+json` with a stable `code`; 429
and 503 always carry `Retry-After`. Send an `Idempotency-Key` and any POST may be repeated safely."""

Responses = dict[int | str, dict[str, Any]]
_REF = "#/components/schemas/"


def _header(description: str, example: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}, "example": example}


_ETAG = _header("The job's revision; it covers neither place in line nor ETA.", 'W/"3.117"')
_RETRY_AFTER = _header("Seconds to wait before asking again; absent once final.", "2")

JOB_HEADERS: Responses = {200: {"headers": {"ETag": _ETAG, "Retry-After": _RETRY_AFTER}}}
NOT_MODIFIED: Responses = {304: {"description": "Nothing changed since that ETag."}}
SUBMIT_HEADERS: Responses = {
    202: {
        "headers": {
            "Location": _header("The job.", "/v1/jobs/019aab42-7c1e-7d30-9f6a-2b54c1f0a3de"),
            "ETag": _ETAG,
            "Retry-After": _RETRY_AFTER,
            "Idempotency-Replayed": _header("`true`: this key was here before.", "true"),
        }
    }
}
_EVENTS = {
    "status": JobStatusResponse,
    "progress": ProgressEvent,
    "output": OutputEvent,
    "preview": PreviewEvent,
}
_ALL_EVENTS = _EVENTS | {"batch": BatchResponse}


def _event(kind: str, body: type[BaseModel]) -> dict[str, Any]:
    """One event of a stream, as OpenAPI 3.2 and FastAPI write it."""
    data = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": _REF + body.__name__},
    }
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {"event": {"const": kind}, "data": data, "id": {"type": "string"}},
    }


EVENTS: Responses = {
    200: {
        "description": "A stream of `status`, `progress`, `output` and `preview` events. `id` is the "
        "job's revision, `data` is JSON and whole each time.",
        "content": {
            "text/event-stream": {
                "itemSchema": {"oneOf": [_event(kind, body) for kind, body in _EVENTS.items()]},
            }
        },
    }
}
ALL_EVENTS: Responses = {
    200: {
        "description": "As of one job, of all of them; and `batch`, without an `id`: a batch that lives, or "
        "that was just ordered, ordered again or cancelled. Its waiting jobs are told when they begin.",
        "content": {
            "text/event-stream": {
                "itemSchema": {"oneOf": [_event(kind, body) for kind, body in _ALL_EVENTS.items()]},
            }
        },
    }
}
UPLOADED: Responses = {
    200: {
        "description": "The same pixels were brought before; the upload lives longer now.",
        "content": {"application/json": {"schema": {"$ref": _REF + "UploadReply"}}},
    },
    201: {"headers": {"Location": _header("The upload.", "/v1/uploads/019aab42-7c1e-7d30-9f6a")}},
}
TOLD: Responses = {204: {"description": "It has ended, and `Last-Event-ID` is its end."}}
FINAL_OR_ESTIMATE: Responses = {
    200: {
        "description": "Nothing was ordered (`dry_run`); or `Prefer: wait` was long enough, and this "
        "is the job as it ended.",
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        {"$ref": _REF + "EstimateReply"},
                        {"$ref": _REF + "JobStatusResponse"},
                    ]
                }
            }
        },
    }
}
FINAL: Responses = {
    200: {
        "description": "`Prefer: wait` was long enough, and this is the job as it ended.",
        "content": {"application/json": {"schema": {"$ref": _REF + "JobStatusResponse"}}},
    }
}
_FILE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
FILES: Responses = {
    200: {
        "content": {"image/png": _FILE, "image/jpeg": _FILE, "image/webp": _FILE},
    },
    206: {
        "description": "The bytes that `Range` asked for.",
        "headers": {"Content-Range": _header("Which they are.", "bytes 0-99/31234")},
        "content": {"image/png": _FILE},
    },
}

_BATCH = f"/v1/batches/{BATCH_ID}"
_BATCH_ETAG = _header(
    "The batch's revision; it does not cover the ETA.", 'W/"1764172800000000.117"'
)
BATCH_HEADERS: Responses = {200: {"headers": {"ETag": _BATCH_ETAG, "Retry-After": _RETRY_AFTER}}}
NEW_BATCH_HEADERS: Responses = {
    202: {
        "headers": {
            "Location": _header("The batch.", _BATCH),
            "ETag": _BATCH_ETAG,
            "Retry-After": _RETRY_AFTER,
            "Idempotency-Replayed": _header("`true`: this key was here before.", "true"),
        }
    }
}
BATCH_ESTIMATE: Responses = {
    200: {
        "description": "Nothing was ordered (`dry_run`); or `Prefer: wait` was long enough, and this "
        "is the batch as it ended.",
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        {"$ref": _REF + "BatchEstimate"},
                        {"$ref": _REF + "BatchResponse"},
                    ]
                }
            }
        },
    }
}
BATCH_EVENTS: Responses = {
    200: {
        "description": "A stream of `status` and `progress` events; `data` is the whole batch each time, "
        "`id` its revision.",
        "content": {
            "text/event-stream": {
                "itemSchema": {
                    "oneOf": [_event(kind, BatchResponse) for kind in ("status", "progress")]
                }
            }
        },
    }
}
CSV: Responses = {
    200: {"description": "A table.", "content": {"text/csv": {"schema": {"type": "string"}}}},
}
ZIP: Responses = {
    200: {"description": "A ZIP file.", "content": {"application/zip": _FILE}},
}

_EXAMPLES: dict[int, tuple[str, str, str, str]] = {
    400: ("host_not_allowed", "Bad request", "This Host is not served here.", "Not understood."),
    401: (
        "unauthorized",
        "A valid API key is needed",
        "Send `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
        "No key, or not one of this server's.",
    ),
    403: (
        "forbidden",
        "This key may not do that",
        "This needs a key with the scope order; yours has read.",
        "What the key was granted forbids it.",
    ),
    404: ("not_found", "Not found", "There is no job of this id.", "Unknown, or not yours."),
    409: (
        "not_final",
        "The job has not ended",
        "The job is STARTED: cancel it first.",
        "The job is not final yet.",
    ),
    410: ("deleted", "Gone", "This job was deleted.", "Deleted, or past its time."),
    413: ("body_too_large", "Content Too Large", "A body may have 65536 bytes.", "Too much."),
    415: (
        "unsupported_media_type",
        "Unsupported Media Type",
        "Send the body as application/json.",
        "Not JSON.",
    ),
    422: ("invalid_field", "Invalid field", "Wrong: seed.", "A field or header is wrong."),
    408: ("request_timeout", "Request Timeout", "The body did not come.", "Sent too slowly."),
    416: (
        "range_not_satisfiable",
        "Range Not Satisfiable",
        "Range Not Satisfiable",
        "It has no such bytes.",
    ),
    429: ("queue_full", "The queue is full", "10000 jobs wait already.", "Come back later."),
    500: (
        "internal",
        "Internal error",
        "Something went wrong here, and is in the log under 3f0c.",
        "A bug.",
    ),
    503: (
        "unavailable",
        "Temporarily unavailable",
        "The registry does not answer.",
        "Come back later.",
    ),
}
_ONE_FIELD = {
    "pointer": "#/seed",
    "field": "seed",
    "detail": "Input should be a valid integer",
    "allowed": ["integer from -1 to 4294967295", "null"],
}


def problems(*statuses: int) -> Responses:
    """`responses` of a route that may answer with these statuses. 500 and `default` are added."""
    responses: Responses = {status: _problem(status) for status in sorted({*statuses, 500})}
    # Without a default FastAPI adds its own 422 to every route that has a parameter.
    responses["default"] = {"description": "Any other error.", "content": _content(None)}
    return responses


def _problem(status: int) -> dict[str, Any]:
    code, title, detail, description = _EXAMPLES[status]
    example: dict[str, Any] = {
        "type": f"urn:problem-type:assets:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if status == 422:
        example["errors"] = [_ONE_FIELD]
    response: dict[str, Any] = {"description": description, "content": _content(example)}
    if status in (429, 503):
        response["headers"] = {"Retry-After": _header("Seconds to wait.", "2")}
    if status == 401:
        response["headers"] = {"WWW-Authenticate": _header("How.", 'Bearer realm="assets"')}
    return response


def _content(example: dict[str, Any] | None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {MEDIA_TYPE: content if example is None else content | {"example": example}}


def describe(app: FastAPI, *, keys: bool) -> dict[str, Any]:
    """The whole document. `keys`: this server wants API keys."""
    document = get_openapi(
        title="Game asset generator",
        version=__version__,
        description=DESCRIPTION,
        routes=app.routes,
    )
    components = document.setdefault("components", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"] |= problem.pop("$defs") | {"Problem": problem}
    unreturned = (EstimateReply, *_EVENTS.values(), BatchEstimate)
    unread = (BatchRequest, BatchOrder, BatchDefaults)
    for kind in (*unreturned, *unread):  # no route returns them as its model
        schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
        components["schemas"] |= schema.pop("$defs", {}) | {kind.__name__: schema}
    _name_parts_of_batches(components["schemas"])
    for name in _brought(document):
        _leave_out_defaults(components["schemas"][name])
    if keys:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        for path, operations in document["paths"].items():
            if path.startswith("/v1/"):
                for operation in operations.values():
                    operation["security"] = [{"bearer": []}, {"header": []}]
                    operation["responses"] = _of_keys() | operation["responses"]
    return document


def _of_keys() -> dict[str, Any]:
    """What any request may be answered with, by what its key may do."""
    return {str(status): _problem(status) for status in (403, 429)}


def _name_parts_of_batches(schemas: dict[str, Any]) -> None:
    """A batch's orders are checked one by one, so its model has them written out: generated clients would
    know two kinds of orders."""
    fields = schemas["BatchRequest"]["properties"]
    about = fields["defaults"]["description"]
    fields["defaults"] = {"$ref": _REF + "BatchDefaults", "description": about}
    for branch in fields["orders"]["anyOf"]:
        if branch.get("type") == "array":
            branch["items"] = {"$ref": _REF + "BatchOrder"}


def _brought(document: dict[str, Any]) -> set[str]:
    """Names of the schemas of which bodies of requests are made."""
    schemas: dict[str, Any] = document["components"]["schemas"]
    found: set[str] = set()
    new: list[Any] = [
        operation.get("requestBody")
        for operations in document["paths"].values()
        for operation in operations.values()
    ]
    while new:
        node = new.pop()
        if isinstance(node, dict):
            inner = cast(dict[str, Any], node)
            name = str(inner.get("$ref", "")).removeprefix(_REF)
            if name and name not in found:
                found.add(name)
                new.append(schemas[name])
            new += inner.values()
        elif isinstance(node, list):
            new += cast(list[Any], node)
    return found


def _leave_out_defaults(schema: dict[str, Any]) -> None:
    """A default is told in words: of one that is declared, some generators make a field that must be sent."""
    for field in schema.get("properties", {}).values():
        default = field.pop("default", None)
        if default not in (None, "", [], {}) and "description" in field:
            field["description"] += f" Default: {json.dumps(default)}."
