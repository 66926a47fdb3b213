"""A server that gives prepared answers in turn, and answers as the service words them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

from tests.factories import JOB_ID

PING = b": ping\n\n"


class Scripted(httpx.MockTransport):
    """Gives its answers in turn, whatever is asked, and keeps what was asked. Exceptions are raised."""

    def __init__(self, *answers: httpx.Response | BaseException) -> None:
        super().__init__(self._next)
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def _next(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        assert self.answers, f"asked once more than expected: {self.asked}"
        answer = self.answers.pop(0)
        if isinstance(answer, httpx.Response):
            return answer
        raise answer

    @property
    def asked(self) -> list[str]:
        return [f"{request.method} {request.url.raw_path.decode()}" for request in self.requests]


def job_object(status: str = "PENDING", job_id: str = JOB_ID, **changes: Any) -> dict[str, Any]:
    """As the server sends it: what the client reads of it."""
    waiting = status in ("PENDING", "RETRY")
    return {
        "job_id": job_id,
        "status": status,
        "images": [],
        "created_at": "2026-11-22T16:00:00.250000Z",
        "queue_position": 1 if waiting else None,
        "eta_seconds": 12.4 if waiting else None,
        "waiting_for": None,
        "progress": None,
        "error": None,
        "request": {"prompt": "a red potion", "style_id": "icon"},
    } | changes


def cancelled(code: str = "cancelled") -> dict[str, Any]:
    error = {"code": code, "title": "Cancelled", "detail": "By its owner.", "retryable": True}
    return job_object("REVOKED", error=error)


def reply(job: dict[str, Any], status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=job, headers={"ETag": 'W/"1.1"'})


def problem(status: int, code: str, retry_after: int | None = None) -> httpx.Response:
    headers = {"content-type": "application/problem+json"}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    body = {"status": status, "code": code, "title": code, "detail": f"It is {code}."}
    # In pieces, as from a socket: whoever asked for a stream must read it first.
    return httpx.Response(status, content=iter([json.dumps(body).encode()]), headers=headers)


def sse(kind: str, data: dict[str, Any], rev: str = "1.1") -> bytes:
    """One event on the wire."""
    return f"event: {kind}\nid: {rev}\ndata: {json.dumps(data)}\n\n".encode()


def progress(value: float) -> dict[str, Any]:
    return {
        "job_id": JOB_ID,
        "status": "STARTED",
        "progress": {"value": value, "stage": "denoising"},
        "queue_position": None,
        "eta_seconds": 2.0,
        "waiting_for": None,
    }


def stream(*parts: bytes, breaks: BaseException | None = None) -> httpx.Response:
    """An event stream that ends after its parts, or breaks there."""

    def content() -> Iterator[bytes]:
        yield from parts
        if breaks is not None:
            raise breaks

    headers = {"content-type": "text/event-stream; charset=utf-8"}
    return httpx.Response(200, headers=headers, content=content())


def page(*jobs: dict[str, Any], then: str | None = None) -> httpx.Response:
    return httpx.Response(200, json={"next": then, "previous": None, "results": list(jobs)})
