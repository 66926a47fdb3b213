"""An engine with bugs, on a real cluster: its replica ends, its job pays for it, and nobody else does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .service import Service, wait_until
from .test_faults import LONG, RENDERER, SHORT, assert_nothing_is_left

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, tiny_settings: dict[str, Any]
) -> Iterator[Service]:
    settings = {**tiny_settings, "stall_timeout_s": 4}
    service = Service(tmp_path_factory.mktemp("faulty"), settings, host="tests.cluster.faulty_host")
    try:
        yield service.start()
    finally:
        service.stop()


def test_a_bug_in_the_engine_costs_its_replica_and_its_job_alone(service: Service) -> None:
    """The process ends and another one starts; the job that met the bug fails, and the jobs that shared its
    model calls are drawn. The same where the process is gone at once: who waited in it for a turn alone is
    not blamed for its second and third death."""
    replica = service.one(RENDERER).pid
    culprit = service.submit(**LONG, prompt="a poisoned sword")
    neighbours = [service.submit(**LONG) for _ in range(3)]
    jobs = [service.result(job_id, timeout_s=300) for job_id in (culprit, *neighbours)]
    assert [job["status"] for job in jobs] == ["FAILURE", *["SUCCESS"] * 3]
    assert jobs[0]["attempts"] == 3
    assert len({tuple(service.pixels(job)) for job in jobs[1:]}) == 1
    assert service.one(RENDERER).pid != replica
    murderer = service.submit(**LONG, prompt="a murderous sword")
    neighbour = service.submit(**LONG)
    jobs = [service.result(job_id, timeout_s=300) for job_id in (murderer, neighbour)]
    assert [job["status"] for job in jobs] == ["FAILURE", "SUCCESS"]
    assert jobs[0]["error"]["code"] == "renderer_died"
    assert jobs[1]["attempts"] <= 1
    assert service.result(service.submit(**SHORT))["status"] == "SUCCESS"
    assert_nothing_is_left(service)


def test_an_engine_that_hangs_ends_its_renderer_and_counts(service: Service) -> None:
    """It is not waited for, and what hung alone fails in the end; other jobs are drawn afterwards."""
    renderer = service.one(RENDERER)
    job = service.submit(prompt="a hanging sword", steps=40)
    wait_until(lambda: service.job(job)["status"] == "STARTED", 30, "it is drawn")
    wait_until(lambda: not renderer.is_running(), 30, "the renderer ends itself")
    other = service.submit(seed=3)
    ended = service.result(job, timeout_s=120)
    assert (ended["status"], ended["attempts"]) == ("FAILURE", 3)
    assert ended["error"]["code"] == "renderer_died"
    assert service.result(other, timeout_s=120)["status"] == "SUCCESS"
    assert_nothing_is_left(service)
