"""The service on Redis: what a laptop promises holds when Redis, the registry or the whole head dies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.redis_server import RedisServer, redis_server

from .service import Service, wait_until
from .test_faults import REGISTRY, SHORT, drawing

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

LONG: dict[str, Any] = {"steps": 200, "reproducible": "strict", "seed": 11}
GAP_S = 150.0
"""At most so long after a head's death a new one answers for the old jobs. Most of it is the start of Ray."""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis", requirepass="pass") as server:
        server.url = server.url.replace("//", "//:pass@")
        yield server


def refused(service: Service) -> httpx.Response | None:
    body = {"prompt": "a red sword", "style_id": "none", **SHORT}
    reply = service.http.post("/v1/generate", json=body)
    return reply if reply.status_code == 503 else None


def test_redis_the_registry_and_the_head_die_and_no_job_is_lost(
    redis: RedisServer, tmp_path: Path, tiny_settings: dict[str, Any]
) -> None:
    shared = {
        **tiny_settings,
        "redis_url": redis.url,
        "retention_days": 30,
        "output_dir": str(tmp_path / "output"),
        "shutdown_grace_s": 3,
    }
    first = Service(tmp_path / "first", shared)
    second = Service(tmp_path / "second", shared)
    first.output = second.output = tmp_path / "output"
    try:
        first.start()
        done = first.result(first.submit(**SHORT))["job_id"]

        # Redis dies with a job being drawn: the job ends when Redis is back, and is not drawn again.
        running = first.submit(**LONG)
        drawing(first, running)
        redis.kill()
        reply = wait_until(lambda: refused(first), 30, "a refusal")
        assert reply.json()["code"] == "storage_failed"
        assert int(reply.headers["retry-after"]) > 0
        assert first.job(running)["status"] == "STARTED"
        assert first.job(done)["status"] == "SUCCESS"
        wait_until(lambda: len(first.files()) == 2, 60, "it is drawn, and its files are there")
        assert first.job(running)["status"] == "STARTED", "its end is not kept yet"
        redis.start()
        job = first.result(running)
        assert (job["status"], job["attempts"]) == ("SUCCESS", 0)
        assert [url for url in job["result_urls"] if not url.endswith("_1.png")] == []

        # The registry dies: what runs is drawn again, what waits waits.
        running, waiting = first.submit(**LONG), [first.submit(**SHORT) for _ in range(3)]
        drawing(first, running)
        first.kill(REGISTRY)
        for job_id in (running, *waiting):
            assert first.result(job_id)["status"] == "SUCCESS"

        # The head dies with all that is on it. Another one takes over, with an empty disk of its own.
        running = first.submit(**LONG)
        drawing(first, running)
        waiting = [first.submit(**SHORT) for _ in range(3)]
        died = time.monotonic()
        first.kill_everything()
        second.start()
        assert second.await_status(job["job_id"], "SUCCESS")["result_urls"] == job["result_urls"]
        gap = time.monotonic() - died
        print(f"\nthe head was away for {gap:.1f} s")
        for job_id in (running, *waiting):
            assert second.result(job_id)["status"] == "SUCCESS"
        listed = second.http.get("/v1/jobs", params={"limit": 100}).json()
        assert len(listed["results"]) == 10
        published = {url for one in listed["results"] for url in one["result_urls"]}
        assert len(second.files()) == len(published), "losers' files are swept"
        assert gap < GAP_S
    finally:
        second.stop()
        first.stop()
