"""What the HTTP tests stand on: a registry in memory, one model, two styles, and a client."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import math
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from serve_app.api.asgi import create_app
from serve_app.catalog.models import Models, ModelSpec
from serve_app.catalog.styles import NONE, Style, StyleDefaults
from serve_app.config import Settings
from serve_app.errors import Unavailable
from serve_app.messages import (
    ImageFile,
    JobError,
    JobFilter,
    JobPage,
    JobView,
    Submission,
    SubmitReply,
    Tombstone,
    WatchReply,
)

MODEL = ModelSpec(
    name="tiny",
    title="Tiny",
    family="sd",
    path="nowhere",
    native_size=(64, 64),
    sizes=[(64, 64), (64, 128)],
    steps=4,
    max_steps=50,
    guidance_scale=3.0,
    schedulers=["ddim", "euler"],
)
OTHER = MODEL.model_copy(update={"name": "other", "title": "Other"})
MODELS = Models({"tiny": MODEL, "other": OTHER}, "tiny")
ICON = Style(
    id="icon",
    title="Icon",
    template="{prompt}, game icon",
    negative_prompt="blurry",
    defaults=StyleDefaults(steps=6),
)
PORTRAIT = Style(id="portrait", template="{prompt}, portrait", only=["other"])
STYLES = {style.id: style for style in (NONE, ICON, PORTRAIT)}

ORDER: dict[str, Any] = {"prompt": "a red potion", "style_id": "icon"}
PIXELS = b"pixels"
UNKNOWN_ID = "019aab42-7c1e-7d30-9f6a-2b54c1f0a3de"


class MemoryRegistry:
    """A RegistryPort without a process or a disk. Tests move its jobs with `change`."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobView] = {}
        self.keys: dict[tuple[str, str], tuple[str, str]] = {}
        self.down = False
        self.missed = asyncio.Event()  # somebody asked while it was down
        self.reason: str | None = None
        self.refuse: SubmitReply | None = None
        self.gets = 0
        self.gone: dict[str, Tombstone] = {}
        self.seconds: float | None = 2.5
        self.shown: list[str] = []
        self.deployment = 1
        self._epoch = 1
        self._gone_at: dict[str, int] = {}
        self._seq = itertools.count(1)
        self._now = 0
        self._changed = asyncio.Event()
        self._caught_up = asyncio.Event()

    async def submit(self, order: Submission) -> SubmitReply:
        self._reachable()
        if self.refuse is not None:
            return self.refuse
        if key := order.get("idempotency_key"):
            body_hash = order.get("body_hash", "")
            job_id, known = self.keys.setdefault(
                (order["owner"], key), (order["job_id"], body_hash)
            )
            if known != body_hash:
                return refusal("idempotency_key_reuse")
            if job_id in self.jobs:
                return SubmitReply(job=self.jobs[job_id], replayed=True)
        said = {
            name: order[name]
            for name in ("owner", "params", "client", "priority", "tags", "metadata", "retry_of")
            if name in order
        }
        job = job_view(order["job_id"], **said)
        if (life := order.get("cancel_after_s")) is not None:
            job["deadline"] = job["created_at"] + life
        self.jobs[job["job_id"]] = job
        place = sum(j["status"] == "PENDING" for j in self.jobs.values())
        return SubmitReply(job=self.change(job["job_id"], queue_position=place), replayed=False)

    async def get(self, job_id: str) -> JobView | Tombstone | None:
        self._reachable()
        self.gets += 1
        return self.jobs.get(job_id) or self.gone.get(job_id)

    async def cancel(self, job_id: str, owner: str) -> JobView | Tombstone | None:
        job = await self.get(job_id)
        if job is None or job["owner"] != owner or "gone" in job or job["completed_at"]:
            return job if job and job["owner"] == owner else None
        error = JobError(code="cancelled", title="Cancelled", detail="x", retryable=True)
        return self.change(job_id, status="REVOKED", completed_at=time.time(), error=error)

    async def delete(self, job_id: str, owner: str) -> Tombstone | None:
        self._reachable()
        if job_id in self.jobs and self.jobs[job_id]["owner"] == owner:
            del self.jobs[job_id]
            self.gone[job_id] = Tombstone(job_id=job_id, owner=owner, gone="deleted")
            self._gone_at[job_id] = self._count()
        return self.gone.get(job_id)

    async def page(
        self, owner: str, wanted: JobFilter, limit: int, before: int | None, after: int | None
    ) -> JobPage:
        """Numbered by the order they came in; statuses are the only filter."""
        self._reachable()
        jobs = list(enumerate((j for j in self.jobs.values() if j["owner"] == owner), 1))
        statuses = wanted.get("statuses", [])
        jobs = [(n, j) for n, j in reversed(jobs) if not statuses or j["status"] in statuses]
        rest = [(n, j) for n, j in jobs if n < (before or math.inf) and n > (after or 0)]
        page = rest[:limit] if after is None else rest[-limit:]
        older = page[-1][0] if page and page[-1] != jobs[-1] else None
        newer = page[0][0] if page and page[0] != jobs[0] else None
        return JobPage(jobs=[j for _, j in page], older=older, newer=newer)

    async def estimate(self, params: dict[str, Any], client: str) -> float | None:
        self._reachable()
        return self.seconds

    async def show(self, job_id: str) -> None:
        self.shown.append(job_id)

    async def watch(self, epoch: int, seq: int, timeout_s: float) -> WatchReply:
        self._reachable()
        if epoch == self._epoch and seq >= self._now and timeout_s:
            self._caught_up.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            self._reachable()
        resync = epoch != self._epoch
        if resync:
            jobs = [job for job in self.jobs.values() if job["status"] == "STARTED"]
        else:
            jobs = [job for job in self.jobs.values() if int(job["rev"].partition(".")[2]) > seq]
        gone = [job_id for job_id, at in self._gone_at.items() if at > seq and not resync]
        said = {"epoch": self._epoch, "deployment": self.deployment}
        return watch_reply(jobs, self._now, resync=resync, gone=gone, **said)

    async def readiness(self) -> str | None:
        self._reachable()
        return self.reason

    def change(self, job_id: str, **changes: Any) -> JobView:
        rev = f"{self._epoch}.{self._count()}"
        if changes.get("status", "PENDING") not in ("PENDING", "RETRY"):
            changes.setdefault("queue_position", None)
        self.jobs[job_id] = altered(self.jobs[job_id], **changes, rev=rev)
        return self.jobs[job_id]

    def deploy(self) -> None:
        """Another ingress comes up."""
        self.deployment += 1
        self._wake()

    def restart(self) -> None:
        """Another life: numbers begin anew, and only what runs is told of on its own."""
        self._epoch += 1
        self._seq, self._now, self._gone_at = itertools.count(1), 0, {}
        for job_id, job in self.jobs.items():
            self.jobs[job_id] = altered(job, rev=f"{self._epoch}.0")
        self._wake()

    def _count(self) -> int:
        self._now = next(self._seq)
        self._wake()
        return self._now

    def _wake(self) -> None:
        self._caught_up.clear()
        self._changed.set()
        self._changed = asyncio.Event()

    def finish(self, job_id: str) -> JobView:
        now = time.time()
        return self.change(
            job_id,
            status="SUCCESS",
            started_at=now,
            completed_at=now,
            queue_position=None,
            images=[image(job_id)],
        )

    async def watched(self) -> None:
        """Returns when whoever watches has seen every change so far."""
        async with asyncio.timeout(30):
            await self._caught_up.wait()

    def _reachable(self) -> None:
        if self.down:
            self.missed.set()
            raise Unavailable("The registry does not answer.")


def job_view(job_id: str = UNKNOWN_ID, **changes: Any) -> JobView:
    view: dict[str, Any] = {
        "job_id": job_id,
        "owner": "local",
        "status": "PENDING",
        "rev": "1.0",
        "client": "local",
        "created_at": time.time(),
        "started_at": None,
        "completed_at": None,
        "deadline": None,
        "expires_at": None,
        "queue_position": None,
        "eta_seconds": None,
        "preview": None,
        "priority": "normal",
        "tags": [],
        "metadata": {},
        "retry_of": None,
        "attempts": 0,
        "fence": 0,
        "waiting_for": None,
        "progress": None,
        "images": [],
        "error": None,
        "params": {},
        "queue_ms": None,
        "execution_ms": None,
    }
    return JobView(**(view | changes))


def altered(job: JobView, **changes: Any) -> JobView:
    view: dict[str, Any] = {**job, **changes}
    return JobView(**view)


def watch_reply(jobs: list[JobView], seq: int, **changes: Any) -> WatchReply:
    reply: dict[str, Any] = {
        "epoch": 1,
        "seq": seq,
        "resync": False,
        "jobs": jobs,
        "gone": [],
        "paused": None,
        "deployment": 1,
        "now": time.time(),
    }
    return WatchReply(**(reply | changes))


def image(job_id: str) -> ImageFile:
    """Of the file that `store` writes."""
    return ImageFile(
        path=f"2026-11-22/icon_7_{job_id}_0_1.png",
        index=0,
        seed=7,
        width=64,
        height=64,
        content_type="image/png",
        size_bytes=len(PIXELS),
        sha256=hashlib.sha256(PIXELS).hexdigest(),
        has_alpha=False,
        notes=["prompt_truncated"],
    )


def store(output: Path, job_id: str, data: bytes = PIXELS) -> None:
    path = output / image(job_id)["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def refusal(code: str, retry_after: float | None = None) -> SubmitReply:
    error = JobError(code=code, title="Refused", detail="Not now.", retryable=True)
    if retry_after is None:
        return SubmitReply(error=error)
    return SubmitReply(error=error, retry_after=retry_after)


def make_app(registry: MemoryRegistry, root: Path, **changes: Any) -> FastAPI:
    given = {"output_dir": root / "output", "state_dir": root / "state"} | changes
    return create_app(
        Settings.model_validate(given),
        registry,
        styles=STYLES,
        models=MODELS,
        active="tiny",
        revision_of=lambda name: f"{name}-weights",
    )


@contextlib.asynccontextmanager
async def serving(app: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of the running app: with its lifespan, without a socket."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """RFC 9457, with everything this service promises of a problem."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["type"].endswith(code)
    assert body["title"]
    assert isinstance(body["detail"], str)
    assert ("retry-after" in response.headers) == (status in (429, 503))
    return body
