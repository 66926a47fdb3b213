"""Held orders: an interface that answers with pictures orders a job and holds its answer until that ends.

Knows jobs and who waits for them; no dialect. A client that leaves takes its job along: nobody else knows of
it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from serve_app.api.schemas import GenerateRequest
from serve_app.api.service import JobService
from serve_app.errors import BadRequest, Gone, JobFailed, ServiceError
from serve_app.messages import TERMINAL, JobView

log = logging.getLogger("assets.api")

LONGEST_S = 86_400
"""No client waits so long. It bounds what is held where the end of a connection is not heard of."""

_STATUSES = {
    "safety_flagged": 400,
    "quality_failed": 422,
    "effect_failed": 422,
    "too_large": 422,
    "cancelled": 409,
    "deadline_exceeded": 409,
}
"""Of an answer, by the code of a job that failed, where that is not the server's fault."""

_cancelling: set[asyncio.Task[None]] = set()  # asyncio itself holds tasks only weakly


def order_of(fields: dict[str, object]) -> GenerateRequest:
    """The order that a dialect's body means. Raises RequestValidationError, as for an order of our own."""
    try:
        return GenerateRequest.model_validate(fields)
    except ValidationError as error:
        found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        raise RequestValidationError(found) from None


@asynccontextmanager
async def abandoned(service: JobService, job: JobView) -> AsyncGenerator[None]:
    """If the block is left by anything but its end, the job is cancelled, as far as it still lives."""
    try:
        yield
    except BaseException:
        # Serve cancels all that belongs to a request whose client left: an empty context belongs to none.
        task = asyncio.get_running_loop().create_task(
            _cancel(service, job), context=contextvars.Context()
        )
        _cancelling.add(task)
        task.add_done_callback(_cancelling.discard)
        raise


async def until_end(service: JobService, request: Request, job: JobView, client: str) -> JobView:
    """The job, which has succeeded. Raises JobFailed, Gone; BadRequest when the client has left."""
    async with abandoned(service, job):
        leaving = asyncio.ensure_future(_leaves(request))
        ending = asyncio.ensure_future(service.watching.until_final(job, LONGEST_S, client))
        try:
            await asyncio.wait({leaving, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                raise BadRequest("The client has left.")
            found, _ = await ending
        finally:
            leaving.cancel()
            ending.cancel()
    return succeeded(found)


def succeeded(job: JobView) -> JobView:
    """Raises JobFailed if it has not, and Gone if it was deleted."""
    if job["status"] not in TERMINAL:
        raise Gone("The job was deleted.")
    if job["status"] != "SUCCESS":
        assert job["error"] is not None
        code = job["error"]["code"]
        raise JobFailed(job["error"]["detail"], code, _STATUSES.get(code, JobFailed.status))
    return job


async def _leaves(request: Request) -> None:
    """Returns when the client is gone. The body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _cancel(service: JobService, job: JobView) -> None:
    try:
        await service.cancel(job["job_id"], job["owner"])
    except ServiceError as error:  # it is drawn for nobody, which costs time and nothing else
        log.warning("a job was not cancelled: %s", error.detail, extra={"job_id": job["job_id"]})
