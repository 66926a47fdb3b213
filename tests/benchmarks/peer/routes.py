"""The peer's two routes. They are `async` although they wait for Redis: as plain functions, which FastAPI
runs in threads, they answer half as many requests."""

from __future__ import annotations

from typing import Any

from celery.result import AsyncResult
from fastapi import FastAPI
from pydantic import BaseModel

from tests.benchmarks.peer import worker

app = FastAPI()


class Order(BaseModel):
    prompt: str
    negative_prompt: str = ""
    style_id: str
    seed: int = -1


class JobReply(BaseModel):
    job_id: str
    status: str
    result_urls: list[str] = []


@app.post("/v1/generate", status_code=202)
async def generate(order: Order) -> JobReply:
    task = worker.generate_task.delay(**order.model_dump())
    return JobReply(job_id=task.id, status="PENDING")


@app.get("/v1/jobs/{job_id}")
async def job(job_id: str) -> JobReply:
    found: Any = AsyncResult(job_id, app=worker.app)
    status = found.status
    urls = found.result["result_urls"] if status == "SUCCESS" else []
    return JobReply(job_id=job_id, status=status, result_urls=urls)
