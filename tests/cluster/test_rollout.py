"""Newer code on a running cluster: it takes over without an unanswered poll and without drawing anew."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import threading
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .service import ROOT, Service
from .test_faults import INGRESS, LONG, RENDERER, SHORT, assert_nothing_is_left, drawing

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]


@contextlib.contextmanager
def polled(service: Service, job_ids: list[str]) -> Generator[Counter[str]]:
    """Asks for the jobs in turn until the block ends: how often it was told what."""
    told: Counter[str] = Counter()
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=service.http.base_url, timeout=30) as http:
            for job_id in itertools.cycle(job_ids):
                try:
                    told[str(http.get(f"/v1/jobs/{job_id}").status_code)] += 1
                except httpx.TransportError as error:
                    told[repr(error)] += 1
                if over.wait(0.05):
                    return

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield told
    finally:
        over.set()
        asking.join(60)


def test_newer_code_is_rolled_out_over_several_replicas(
    tmp_path: Path, tiny_settings: dict[str, Any]
) -> None:
    """Newer code replaces an older registry after a drain; older code never replaces a newer one. While code
    is rolled out that leaves the registry as it is, every poll is answered, and no drawing begins anew: each
    old renderer ends what it draws."""
    root = tmp_path / "code"
    for name in ("serve_app", "tests"):
        ignore = shutil.ignore_patterns("__pycache__", "weights")
        shutil.copytree(ROOT / name, root / name, ignore=ignore)
    code = root / "serve_app" / "cluster" / "registry_port.py"
    older = code.read_text()
    two = {"ingress_replicas": 2, "min_replicas": 2, "max_replicas": 2}
    service = Service(tmp_path / "service", {**tiny_settings, **two}, root=root).start()
    try:
        version = service.registry("hello")["version"]
        newer = older.replace(
            f"REGISTRY_VERSION = {version}\n", f"REGISTRY_VERSION = {version + 1}\n"
        )
        jobs = [service.submit(**LONG) for _ in range(4)]
        drawing(service, jobs[0])
        code.write_text(newer)
        service.deploy_code()
        assert service.registry("hello")["version"] == version + 1
        results = [service.result(job_id, timeout_s=180) for job_id in jobs]
        assert {(job["status"], job["attempts"]) for job in results} == {("SUCCESS", 0)}
        assert len({tuple(service.pixels(job)) for job in results}) == 1

        before = {process.pid for process in service.processes(f"{RENDERER}|{INGRESS}")}
        assert len(before) == 4
        jobs = [service.submit(**{**LONG, "steps": 600}) for _ in range(6)]
        running = [job_id for job_id in jobs[:4] if drawing(service, job_id)]
        code.write_text(older)
        with polled(service, jobs) as told:
            service.deploy_code()
            results = [service.result(job_id, timeout_s=180) for job_id in jobs]
        assert set(told) == {"200"}
        assert told["200"] > 50
        after = {process.pid for process in service.processes(f"{RENDERER}|{INGRESS}")}
        assert len(after) == 4
        assert not before & after
        assert {(job["status"], job["attempts"]) for job in results} == {("SUCCESS", 0)}
        assert len({tuple(service.pixels(job)) for job in results}) == 1
        drawn = [url for job in results if job["job_id"] in running for url in job["result_urls"]]
        assert {url.rpartition("_")[2] for url in drawn} == {"1.png"}, "by their first attempt"
        assert service.registry("hello")["version"] == version + 1
        assert service.result(service.submit(**SHORT))["status"] == "SUCCESS"
        assert_nothing_is_left(service)
    finally:
        service.stop()
