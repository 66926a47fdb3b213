"""What dies between a result and its end, on the way over launcher, renderer and job task: nothing is lost.

Real Ray, real HTTP, real SIGKILL.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from .service import Service, wait_until
from .test_faults import RENDERER, SHORT, assert_nothing_is_left

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]

LAUNCHER = r"^ray::JobLauncher\b"
FILES = 64
TRIES = 12


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, tiny_settings: dict[str, Any]) -> Any:
    """All jobs go over one launcher, and two hundred may be in flight."""
    settings = {**tiny_settings, "slots": 100, "launchers": 1, "shutdown_grace_s": 3}
    service = Service(tmp_path_factory.mktemp("new path"), settings)
    try:
        yield service.start()
    finally:
        service.stop()


def fences(job: dict[str, Any]) -> set[str]:
    """Of the attempts whose files are published."""
    return {image["url"].rsplit("_", 1)[1].removesuffix(".png") for image in job["images"]}


def test_launcher_killed_with_two_hundred_in_flight(service: Service) -> None:
    """They are driven again by another launcher, and no attempt is counted."""
    first = service.submit(**SHORT, seed=1)
    service.result(first)
    renderer = service.one(RENDERER)
    renderer.send_signal(signal.SIGSTOP)
    try:
        jobs = [service.submit(**SHORT, seed=100 + i) for i in range(220)]
        wait_until(lambda: service.registry("stats")["in_flight"] == 200, 60, "all are launched")
        service.kill(LAUNCHER)
    finally:
        renderer.send_signal(signal.SIGCONT)
    results = [service.result(job_id, timeout_s=240) for job_id in jobs]
    assert {(job["status"], job["attempts"]) for job in results} == {("SUCCESS", 0)}
    assert sum(fences(job) == {"2"} for job in results) >= 200
    assert_nothing_is_left(service)


def test_job_task_killed_between_its_last_file_and_its_end(service: Service) -> None:
    """All files are there and nobody published them: the job is drawn again, and they go."""

    def strike(task: psutil.Process, written: Callable[[], int]) -> None:
        while task.is_running() and written() < FILES:
            pass  # the moment is too short to look away
        task.kill()

    job = struck(service, strike)
    assert (job["status"], job["attempts"]) == ("SUCCESS", 0)
    assert_nothing_is_left(service)


def test_renderer_killed_between_its_result_and_the_files(service: Service) -> None:
    """What it has drawn does not die with it: the files are written, by the same attempt."""
    for seed in range(1000, 1000 * TRIES, 1000):
        job_id = service.submit(**{**SHORT, "n": FILES}, seed=seed)
        wait_until(lambda j=job_id: any(j in file for file in service.files()), 60, "a file")
        service.kill(RENDERER)
        written = sum(job_id in file for file in service.files())
        job = service.result(job_id, timeout_s=150)
        assert (job["status"], job["attempts"], fences(job)) == ("SUCCESS", 0, {"1"})
        assert len(job["images"]) == FILES
        if written < FILES:
            break
    else:
        pytest.fail("no renderer was killed before the last file")
    service.result(service.submit(**SHORT, seed=2), timeout_s=150)  # there is a renderer again
    assert_nothing_is_left(service)


def struck(
    service: Service, strike: Callable[[psutil.Process, Callable[[], int]], None]
) -> dict[str, Any]:
    """A job that needed a second attempt after its task was struck. The task lives for a moment only, so it
    may be over before: then the next job is tried."""
    for seed in range(1000, 1000 * TRIES, 1000):
        job_id = service.submit(**{**SHORT, "n": FILES}, seed=seed)

        def written(job_id: str = job_id) -> int:
            folders: list[Path] = [path for path in service.output.iterdir() if path.is_dir()]
            return sum(1 for folder in folders for _ in folder.glob(f"*{job_id}*_1.png"))

        for task in wait_until(
            lambda j=job_id: service.processes(f"^ray::job:{j}"), 60, "its task"
        ):
            strike(task, written)
        job = service.result(job_id)
        if fences(job) == {"2"}:
            return job
    raise AssertionError("no task was struck before its end")
