"""What tests order, in one place: params, labels, submissions, tickets, jobs and files that are right by
themselves. A test names only what matters to it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from typing import Any

import uuid_utils

from serve_app.catalog.models import ModelSpec
from serve_app.encoding import encoded_view
from serve_app.jobs.job import Job
from serve_app.messages import (
    BatchRow,
    BatchSubmission,
    DeployedPool,
    ImageFile,
    JobView,
    Labels,
    RenderedImage,
    Submission,
    Summary,
    Ticket,
    WatchReply,
)
from serve_app.params import CPU_POOL, GenerationParams, summary_of

JOB_ID = "019aab42-7c1e-7d30-9f6a-2b54c1f0a3de"
TERMINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED"})


def params(**changes: Any) -> GenerationParams:
    """One picture of 32 x 32 in five steps, with guidance."""
    return GenerationParams.model_validate(
        {
            "prompt": "a red sword",
            "subject": "a red sword",
            "seed": 1,
            "width": 32,
            "height": 32,
            "steps": 5,
            "guidance_scale": 5.0,
            "scheduler": "euler",
            "model": "tiny",
            "model_revision": "0" * 12,
            **changes,
        }
    )


def model_spec(name: str = "tiny", **changes: Any) -> ModelSpec:
    """A model of 64 x 64 pixels in four steps, of whose weights nobody asks."""
    return ModelSpec.model_validate(
        {
            "name": name,
            "family": "sd",
            "path": "nowhere",
            "native_size": (64, 64),
            "steps": 4,
            "guidance_scale": 3.0,
            "schedulers": ["ddim", "euler"],
            **changes,
        }
    )


def deployed_pool(model: str = "tiny", revision: str = "0" * 12, **changes: Any) -> DeployedPool:
    """A pool of renderers on CPUs that takes four attempts at once."""
    pool: dict[str, Any] = {"model": model, "model_revision": revision, "gpus": 0.0, **changes}
    pool.setdefault("max_in_flight", 4)
    return DeployedPool(**pool)


def labels(**changes: Any) -> Labels:
    made: dict[str, Any] = {
        "client": "ann",
        "priority": "normal",
        "tags": [],
        "metadata": {},
        "retry_of": None,
        **changes,
    }
    return Labels(**made)


def new_id() -> str:
    return str(uuid_utils.uuid7())


def submission(
    order: GenerationParams | None = None, labelled: Labels | None = None, **changes: Any
) -> Submission:
    """As an ingress sends it for the owner ann; `changes` are fields of the message."""
    order = order or params()
    sent: dict[str, Any] = {
        "job_id": new_id(),
        "owner": "ann",
        "params": order.model_dump(),
        "summary": summary_of(order),
        "labels": labelled or labels(),
        "deadline": time.time() + 60,
        **changes,
    }
    return Submission(**sent)


def batch_row(
    order: GenerationParams | None = None, labelled: Labels | None = None, **changes: Any
) -> BatchRow:
    """A row with a key of its order; `changes` are fields of the message."""
    order = order or params()
    made: dict[str, Any] = {
        "job_id": new_id(),
        "key": hashlib.sha256(order.model_dump_json().encode()).digest(),
        "name": None,
        "params": order.model_dump_json(),
        "summary": summary_of(order),
        "labels": labelled or labels(),
        **changes,
    }
    return BatchRow(**made)


def batch_submission(
    *rows: BatchRow, size: int | None = None, seeds: Iterable[int] = range(1, 4), **changes: Any
) -> BatchSubmission:
    """Of the owner ann: these rows, or one for each seed, or `size` rows of seeds from 1 on."""
    seeds = seeds if size is None else range(1, size + 1)
    sent: dict[str, Any] = {
        "batch_id": new_id(),
        "owner": "ann",
        "name": "potions",
        "rows": [*rows] or [batch_row(params(seed=seed)) for seed in seeds],
        "reuse": True,
        "deadline": time.time() + 60,
        **changes,
    }
    return BatchSubmission(**sent)


def without_renderer(**changes: Any) -> Submission:
    """Of a job whose Ray task does all the work; `changes` are fields of the message."""
    return submission(
        summary=summary(kind="derive", pool=CPU_POOL, model="", extra_files=True), **changes
    )


def ticket(order: GenerationParams | None = None, **changes: Any) -> Ticket:
    """Of the first attempt at a job; `changes` are fields of the message."""
    order = order or params()
    made: dict[str, Any] = {
        "job_id": JOB_ID,
        "params": order.model_dump(),
        "summary": summary_of(order),
        "epoch": 1,
        "fence": 1,
        "alone": False,
        "priority": "normal",
        "preview": False,
        **changes,
    }
    return Ticket(**made)


def job(
    order: GenerationParams | None = None, labelled: Labels | None = None, **changes: Any
) -> Job:
    """As it is when it was accepted; `changes` are fields of `Job`."""
    order = order or params()
    now = time.time()
    made: dict[str, Any] = {
        "job_id": JOB_ID,
        "owner": "ann",
        "params": order.model_dump(),
        "summary": summary_of(order),
        "labels": labelled or labels(),
        "created_at": now,
        "number": int(now * 1e6),
        **changes,
    }
    return Job(**made)


def summary(**changes: Any) -> Summary:
    made: dict[str, Any] = {**summary_of(params()), **changes}
    return Summary(**made)


def image_file(data: bytes = b"pixels", **changes: Any) -> ImageFile:
    """Image 0 of the first attempt at JOB_ID, whose file holds `data`."""
    made: dict[str, Any] = {
        "path": f"2025-11-22/none_1_{JOB_ID}_0_1.png",
        "index": 0,
        "seed": 1,
        "width": 32,
        "height": 32,
        "content_type": "image/png",
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "has_alpha": False,
        "notes": [],
        **changes,
    }
    return ImageFile(**made)


def job_view(job_id: str = JOB_ID, **changes: Any) -> JobView:
    """`job()` as its registry shows it in epoch 1; `changes` are fields of the view."""
    made: dict[str, Any] = {**job(job_id=job_id).view(1), **changes}
    return JobView(**made)


def watch_reply(jobs: list[JobView], seq: int, **changes: Any) -> WatchReply:
    made: dict[str, Any] = {
        "epoch": 1,
        "seq": seq,
        "resync": False,
        "views": b"".join(map(encoded_view, jobs)),
        "gone": [],
        "paused": None,
        "deployment": 1,
        "now": time.time(),
        **changes,
    }
    return WatchReply(**made)


def rendered_image(**changes: Any) -> RenderedImage:
    """Image 0 as a renderer sends it, without pixels."""
    made: dict[str, Any] = {
        "kind": "image",
        "index": 0,
        "seed": 1,
        "width": 32,
        "height": 32,
        "has_alpha": False,
        "data": b"",
        "render_seconds": 0.0,
        "made_by": {},
        "notes": [],
        **changes,
    }
    return RenderedImage(**made)
