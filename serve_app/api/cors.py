"""Cors: web pages of the origins in `cors_origins` may use the API and read what it answers.

Knows header names; a page sends its API key like any client, so no cookie is ever asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from serve_app.api.problems import answer
from serve_app.errors import BadRequest

METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE")
SENT = (
    *("Authorization", "X-API-Key", "X-Client-Id", "X-Request-Id", "Content-Type", "Prefer"),
    *("Idempotency-Key", "Cancel-After", "If-None-Match", "Last-Event-ID", "Range"),
)
SHOWN = (
    *("Location", "ETag", "Retry-After", "Idempotency-Replayed", "Preference-Applied"),
    *("X-Request-Id", "WWW-Authenticate", "Allow", "Content-Range"),
)
PREFLIGHT_S = 600  # a browser may remember a preflight for so long


class Cors(CORSMiddleware):
    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=SENT,
            expose_headers=SHOWN,
            max_age=PREFLIGHT_S,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        why = BadRequest(bytes(response.body).decode(), code="cors_refused")
        return answer(why, "", "")
