"""Shortcuts: the two busiest requests, a poll of a job and an order, reach their routes without FastAPI.

FastAPI finds the route, gathers what its function takes, checks that, and calls it. Here the same function of
`routes/jobs.py` is called with the same values, where they are plain to see, inside the same guards of
`security.py`. Whatever else comes, every order with a mistake too, goes on to FastAPI as it came.
"""

from __future__ import annotations

import json
import re

from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.forwarded import path_of, root_of
from serve_app.api.routes import jobs
from serve_app.api.routes.inputs import client_of
from serve_app.api.schemas import GenerateRequest
from serve_app.api.service import JobService
from serve_app.errors import ServiceError

_POLL = re.compile(r"/v1/jobs/([0-9a-f-]{36})")


class PollShortcut:
    """`GET /v1/jobs/{id}` and its HEAD. The route takes three headers, as they are, and no body or query."""

    def __init__(self, app: ASGIApp, service: JobService) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        poll = _POLL.fullmatch(path_of(scope))
        if poll is None:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        reply = await jobs.job(
            poll[1],
            self._service,
            owner := scope["state"]["owner"],
            await client_of(self._service, owner, headers.get("x-client-id")),
            root_of(scope),
            headers.get("if-none-match"),
            headers.get("prefer"),
        )
        await reply(scope, receive, send)


class OrderShortcut:
    """`POST /v1/generate`. `BodyGuard` stands outside, so a body is one message, and not too large."""

    def __init__(self, app: ASGIApp, service: JobService) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] != "POST"
            or path_of(scope) != "/v1/generate"
            or not _plain(headers := Headers(scope=scope))
        ):
            await self._app(scope, receive, send)
            return
        message = await receive()
        order = _order_in(message)
        if order is None:
            await self._app(scope, _again(message, receive), send)
            return
        reply = await jobs.generate(
            order,
            self._service,
            owner := scope["state"]["owner"],
            await client_of(self._service, owner, headers.get("x-client-id")),
            root_of(scope),
            prefer=headers.get("prefer"),
            cancel_after=headers.get("cancel-after"),
        )
        await reply(scope, receive, send)


def _plain(headers: Headers) -> bool:
    """FastAPI would check no header and would read the body as JSON."""
    return headers.get("content-type") == "application/json" and "idempotency-key" not in headers


def _order_in(message: Message) -> GenerateRequest | None:
    """None: it is not all of a body, or is wrong."""
    if message["type"] != "http.request" or message.get("more_body", False):
        return None
    try:
        return GenerateRequest.model_validate(json.loads(message["body"]))
    except (ValueError, RecursionError, ValidationError, ServiceError):
        return None


def _again(message: Message, receive: Receive) -> Receive:
    """A `receive` that gives this message first."""
    pending = [message]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay
