"""Launching on a real cluster: in order on a cold start, and what is said while it does not go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .service import Service, wait_until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

RENDERER = "ray::ServeReplica:assets:Renderer"


def not_ready(service: Service) -> str | None:
    """Why, if it is not."""
    reply = service.http.get("/readyz")
    return None if reply.status_code == 200 else reply.json()["detail"]


def test_jobs_ordered_before_a_renderer_is_up_are_started_in_their_order(
    tmp_path: Path, tiny_settings: dict[str, Any]
) -> None:
    """Within what one renderer takes at once; and until it has loaded, nobody is told that it is ready."""
    service = Service(tmp_path / "s", {**tiny_settings, "min_replicas": 0, "max_replicas": 1})
    try:
        service.start()
        jobs = [service.submit(steps=40, seed=i) for i in range(50)]
        assert not [job for job in jobs if service.job(job)["started_at"]], "none is up yet"
        reason = wait_until(lambda: not_ready(service), 60, "it says that it is not ready")
        assert "first renderer" in reason
        wait_until(lambda: service.job(jobs[0])["waiting_for"] == "model", 60, "it loads")
        ended = [service.result(job, timeout_s=120) for job in jobs]
        assert {job["status"] for job in ended} == {"SUCCESS"}
        assert not_ready(service) is None
        started = sorted(range(50), key=lambda i: ended[i]["started_at"])
        at_once = service.settings["slots"] + 2
        off = [abs(place - number) for place, number in enumerate(started)]
        assert max(off) < at_once, started
    finally:
        service.stop()
