"""The event stream of OpenAI's image interface: looks at what is being drawn, and the finished pictures.

Knows its events; `streams/` knows who may hold a stream open, and `held.py` what becomes of a job whose
client left.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, NamedTuple

from fastapi import Response
from PIL import Image
from sse_starlette import ServerSentEvent

from serve_app.api.dialects.held import abandoned, succeeded
from serve_app.api.dialects.openai_bodies import NO_TOKENS, described, reworded
from serve_app.api.dialects.pictures import Packing, read_pictures
from serve_app.api.problems import answer
from serve_app.api.service import JobService
from serve_app.artifacts.folder import OutputDir
from serve_app.errors import ServiceError
from serve_app.messages import JobView

ALL = 1.0
"""`progress.value` of a job that is drawn to its end."""


class Sending(NamedTuple):
    """How a stream is sent. `looks`: how many pictures that are not finished yet, at most. `events`: how
    their types begin."""

    folder: OutputDir
    packing: Packing
    looks: int
    events: str


def streamed(service: JobService, job: JobView, client: str, how: Sending) -> Response:
    return service.watching.response(_events(service, job, how), client)


async def _events(
    service: JobService, job: JobView, how: Sending
) -> AsyncGenerator[ServerSentEvent]:
    sent, looks, packing = 0, how.looks, how.packing
    async with abandoned(service, job):
        async with aclosing(service.watching.states(job, preview=looks > 0)) as states:
            async for job in states:
                if sent < looks and _is_due(job, sent, looks):
                    look = await asyncio.to_thread(_look, job, packing)
                    yield _event("partial_image", job, how, look, partial_image_index=sent)
                    sent += 1
        try:
            images = sorted(succeeded(job)["images"], key=lambda image: image["index"])
            files = await asyncio.to_thread(read_pictures, how.folder, images, packing)
        except ServiceError as error:
            yield _failure(error)
            return
        for file in files:
            yield _event("completed", job, how, file, usage=NO_TOKENS)


def _is_due(job: JobView, sent: int, looks: int) -> bool:
    """Looks are spread evenly over the steps."""
    done = (job["progress"] or {}).get("value") or 0.0
    return job["preview"] is not None and done >= ALL * (sent + 1) / (looks + 1)


def _look(job: JobView, packing: Packing) -> bytes:
    assert job["preview"] is not None
    size = (job["params"]["width"], job["params"]["height"])
    with Image.open(io.BytesIO(job["preview"]["data"])) as picture:
        return packing.encode(picture, size)


def _event(kind: str, job: JobView, how: Sending, file: bytes, **more: Any) -> ServerSentEvent:
    data: dict[str, Any] = {
        "type": f"{how.events}.{kind}",
        "b64_json": base64.b64encode(file).decode(),
        "created_at": int(job["completed_at"] or job["started_at"] or job["created_at"]),
        **described(job, how.packing),
        **more,
    }
    return ServerSentEvent(data=json.dumps(data), event=data["type"])


def _failure(error: ServiceError) -> ServerSentEvent:
    """The status of the answer is sent already, so the error is an event."""
    problem = json.loads(bytes(answer(error, "", "").body))
    data = {"type": "error", **reworded(problem).body}
    return ServerSentEvent(data=json.dumps(data), event="error")
