"""Kill anything at any moment: every accepted job ends once, with one set of files, and the same pixels.

Real Ray, real HTTP, real SIGKILL. Jobs are `reproducible: strict`, so "the same pixels" means every byte.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import signal
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from tests.engine.tiny import pipeline

from .service import Service, wait_until
from .test_launching import not_ready

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]

LONG: dict[str, Any] = {"steps": 150, "n": 3, "reproducible": "strict", "seed": 11}
SHORT: dict[str, Any] = {"steps": 8, "reproducible": "strict"}

INGRESS = "ray::ServeReplica:assets:Ingress"
RENDERER = "ray::ServeReplica:assets:Renderer"
REGISTRY = r"ray::Registry\b"


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, tiny_settings: dict[str, Any]
) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("faults"), {**tiny_settings, "shutdown_grace_s": 3})
    try:
        yield service.start()
    finally:
        service.stop()


@pytest.fixture(scope="module")
def undisturbed(service: Service) -> list[str]:
    """The pixels of LONG when nothing happens to it."""
    return service.pixels(service.result(service.submit(**LONG)))


@pytest.fixture(autouse=True)
def nothing_is_left_afterwards(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each fault: one set of files for each success, no other file, and an idle engine."""
    yield
    if "service" in request.fixturenames:
        assert_nothing_is_left(request.getfixturevalue("service"))


def assert_nothing_is_left(service: Service) -> None:
    rows = jobs_on_disk(service)
    assert rows
    for job_id, status, error in rows.values():
        assert status == "SUCCESS" or (status == "FAILURE" and error), (job_id, status)
    published = {path for job_id in rows for path in paths_on_disk(service, job_id)}
    wait_until(lambda: set(service.files()) == published, 30, "losers' files are swept")
    stats = wait_until(lambda: service.renderers("stats"), 60, "a renderer")
    assert [(s["live"], s["waiting"], s["jobs"]) for s in stats] == [(0, 0, 0)] * len(stats)
    registry = service.registry("stats")
    assert (registry["live"], registry["in_flight"]) == (0, 0)


def jobs_on_disk(service: Service) -> dict[str, tuple[str, str, str | None]]:
    with sqlite3.connect(service.directory / "state" / "jobs.db") as db:
        rows = db.execute("SELECT job_id, status, NULLIF(error, 'null') FROM jobs").fetchall()
    return {row[0]: row for row in rows}


def paths_on_disk(service: Service, job_id: str) -> list[str]:
    with sqlite3.connect(service.directory / "state" / "jobs.db") as db:
        (images,) = db.execute("SELECT images FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
    return [image["path"] for image in json.loads(images)]


def drawing(service: Service, job_id: str) -> dict[str, Any]:
    """Wait until some steps of it are done."""

    def busy() -> dict[str, Any] | None:
        job = service.await_status(job_id, "STARTED")
        return job if (job["progress"] or {}).get("step", 0) > 5 else None

    return wait_until(busy, 60, f"{job_id} is drawn")


def test_ingress_replica_killed_with_jobs_in_flight(
    service: Service, undisturbed: list[str]
) -> None:
    """HTTP fails for a moment; the job goes on, and no attempt is counted."""
    job_id = service.submit(**LONG)
    drawing(service, job_id)
    service.kill(INGRESS)
    job = service.result(job_id)
    assert (job["status"], job["attempts"]) == ("SUCCESS", 0)
    assert service.pixels(job) == undisturbed


def test_job_task_killed_while_it_writes(service: Service) -> None:
    """It is drawn again, no attempt is counted, and what the first one wrote goes.

    The task lives for a moment only, so it may be over before it is killed: then the next job is tried.
    """
    many: dict[str, Any] = {**SHORT, "n": 64}
    for seed in range(1000, 11_000, 1000):
        job_id = service.submit(**many, seed=seed)
        wait_until(
            lambda j=job_id: any(j in file for file in service.files()), 60, "its first file"
        )
        for task in service.processes(f"^ray::job:{job_id}"):
            task.kill()
        job = service.result(job_id)
        assert (job["status"], job["attempts"]) == ("SUCCESS", 0)
        if {image["url"].rsplit("_", 1)[1] for image in job["images"]} == {"2.png"}:
            break
    else:
        pytest.fail("no task was killed before its end")
    assert service.pixels(job) == service.pixels(service.result(service.submit(**many, seed=seed)))


def test_renderer_replica_killed_mid_render(service: Service, undisturbed: list[str]) -> None:
    """The replica died after it admitted the job: this counts as an attempt."""
    job_id = service.submit(**LONG)
    drawing(service, job_id)
    service.kill(RENDERER)
    job = service.result(job_id, timeout_s=150)
    assert (job["status"], job["attempts"]) == ("SUCCESS", 1)
    assert service.pixels(job) == undisturbed


def test_registry_killed(service: Service, undisturbed: list[str]) -> None:
    """Ray kills its tasks with it; the next epoch runs the jobs again, and counts no attempt."""
    job_id = service.submit(**LONG)
    queued = [service.submit(**SHORT, seed=i) for i in range(3)]
    drawing(service, job_id)
    service.kill(REGISTRY)
    job = service.result(job_id)
    assert (job["status"], job["attempts"]) == ("SUCCESS", 0)
    assert service.pixels(job) == undisturbed
    assert [service.result(q)["status"] for q in queued] == ["SUCCESS"] * 3


def test_registry_killed_while_its_disk_is_away(service: Service) -> None:
    """Its lock is held for longer than a start waits, so it tries until it has it. Meanwhile clients get a
    503 with Retry-After; what was accepted is drawn afterwards."""
    job_id = service.submit(**SHORT, seed=41)
    with (service.directory / "state" / "registry.lock").open("a") as lock:
        service.kill(REGISTRY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        reply = wait_until(lambda: refused(service), 30, "the service says that it cannot")
        assert reply.headers["retry-after"]
        reborn = service.one(REGISTRY)
        wait_until(lambda: "the registry cannot start yet" in registry_log(service), 40, "it tried")
        assert reborn.is_running()
    assert service.result(job_id)["status"] == "SUCCESS"
    assert service.result(service.submit(**SHORT, seed=42))["status"] == "SUCCESS"


def refused(service: Service) -> httpx.Response | None:
    reply = service.http.get("/readyz")
    return reply if reply.status_code == 503 else None


def registry_log(service: Service) -> str:
    """What Ray keeps of all workers' standard error."""
    logs = Path(service.ray_directory) / "session_latest" / "logs"
    return "".join(path.read_text(errors="replace") for path in logs.glob("worker-*.err"))


def test_registry_killed_between_file_write_and_commit(
    service: Service, undisturbed: list[str]
) -> None:
    """All files are written, but not the row: so they are not published, and are removed."""
    before = set(service.files())
    job_id = service.submit(**LONG)
    drawing(service, job_id)
    registry = service.one(REGISTRY)

    def written() -> list[str]:
        return [f for f in set(service.files()) - before if f.endswith("_1.png")]

    state = service.directory / "state" / "jobs.db"
    with contextlib.closing(sqlite3.connect(state, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")  # nothing can be committed any more
        wait_until(lambda: len(written()) == LONG["n"], 60, "all files of the first attempt")
        registry.send_signal(signal.SIGKILL)
    job = service.result(job_id)
    assert job["status"] == "SUCCESS"
    assert service.pixels(job) == undisturbed
    assert not any(url.endswith("_1.png") for url in job["result_urls"])


def test_a_report_of_an_attempt_that_is_over(service: Service) -> None:
    """It is told to stop by its fence, while the next attempt runs and after that one has published."""
    job_id = service.submit(**LONG)
    drawing(service, job_id)
    service.kill(RENDERER)
    wait_until(lambda: service.job(job_id)["status"] == "RETRY", 60, "the first attempt is over")
    drawing(service, job_id)
    said = {"step": 1, "value": 0.99}
    report = {"admitted": [[job_id, 1, None]], "progress": [[job_id, 1, said]], "previews": []}
    assert service.registry("call", "report", report) == {job_id: 1}
    assert (service.job(job_id)["progress"] or {}).get("value") != 0.99
    job = service.result(job_id)
    assert (job["status"], job["attempts"]) == ("SUCCESS", 1)
    assert service.registry("call", "report", report) == {job_id: 1}
    assert service.job(job_id) == job


def test_client_gone_in_the_middle_of_the_post(service: Service) -> None:
    """Hanging up at any byte, or after the last one, neither loses nor doubles a job."""
    known = set(jobs_on_disk(service))
    body = json.dumps({"prompt": "a shield", "style_id": "none", "seed": 5, **SHORT}).encode()
    head = (
        f"POST /v1/generate HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    for cut in (20, len(head), len(head) + 10, *([len(head) + len(body)] * 12)):
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall((head + body)[:cut])
    after = service.result(service.submit(**SHORT, seed=6))
    assert after["status"] == "SUCCESS"
    new = set(jobs_on_disk(service)) - known
    assert len(new) <= 13
    assert {service.result(job_id)["status"] for job_id in new} == {"SUCCESS"}


def test_redeploy_with_a_changed_style_while_jobs_run(service: Service, tmp_path: Path) -> None:
    """An accepted job keeps the words it was accepted with; later ones get the new words."""
    old_file = Path(service.settings["styles_file"])
    new_file = tmp_path / "styles.yaml"
    new_file.write_text(old_file.read_text().replace("{prompt} icon", "{prompt} of stone icon"))
    running = service.submit(**LONG, style_id="icon")
    waiting = [service.submit(**LONG, style_id="icon") for _ in range(3)]
    drawing(service, running)
    service.deploy(styles_file=str(new_file))
    late = service.submit(**SHORT, style_id="icon", seed=3)
    jobs = [service.result(job_id, timeout_s=180) for job_id in (running, *waiting)]
    assert {job["status"] for job in jobs} == {"SUCCESS"}
    assert {job["attempts"] for job in jobs} == {0}
    assert {prompt_in(service, job) for job in jobs} == {"a red sword icon"}
    assert len({tuple(service.pixels(job)) for job in jobs}) == 1
    assert prompt_in(service, service.result(late)) == "a red sword of stone icon"
    service.deploy(styles_file=str(old_file))


def test_redeploy_with_another_model_while_jobs_run(
    service: Service, undisturbed: list[str], tmp_path: Path
) -> None:
    """No job is drawn with other weights than it was ordered with: it fails, and its error says so."""
    old_file = Path(service.settings["models_file"])
    other = pipeline()
    with torch.no_grad():
        for weight in other.unet.parameters():
            weight.mul_(1.5)
    other.save_pretrained(tmp_path / "other")
    shutil.copytree(old_file.parent / "model/controls", tmp_path / "other/controls")
    new_file = tmp_path / "models.yaml"
    spec = old_file.read_text()
    new_file.write_text(spec.replace(str(old_file.parent / "model"), str(tmp_path / "other")))
    endless = {**LONG, "steps": 900, "n": 30}
    running, waiting = service.submit(**endless), service.submit(**endless, priority="low")
    was = drawing(service, running)["resolved"]["model_revision"]
    service.deploy(models_file=str(new_file))
    for job_id in (running, waiting):
        job = service.result(job_id, timeout_s=180)
        assert (job["status"], job["error"]["code"]) == ("FAILURE", "model_changed"), job
        assert job["result_urls"] == []
    again = service.result(service.submit(**LONG))
    assert again["status"] == "SUCCESS"
    assert again["resolved"]["model_revision"] != was
    assert service.pixels(again) != undisturbed
    service.deploy(models_file=str(old_file))
    assert service.pixels(service.result(service.submit(**LONG))) == undisturbed


def prompt_in(service: Service, job: dict[str, Any]) -> str:
    from PIL import Image

    with Image.open(service.output / job["result_urls"][0].removeprefix("/output/")) as image:
        return str(image.text["parameters"]).split("\n")[0]  # pyright: ignore[reportAttributeAccessIssue]


def test_app_deleted_while_jobs_wait_then_deployed_again(service: Service) -> None:
    """Jobs wait until there is an application again, and no attempt is counted."""
    jobs = [service.submit(**LONG) for _ in range(8)]
    drawing(service, jobs[0])
    service.delete()
    wait_until(lambda: service.registry("stats")["paused"] == "application", 60, "dispatch pauses")
    service.deploy()
    results = [service.result(job_id, timeout_s=180) for job_id in jobs]
    assert [job["error"] for job in results] == [None] * len(jobs)
    assert {(job["status"], job["attempts"]) for job in results} == {("SUCCESS", 0)}
    assert len({tuple(service.pixels(job)) for job in results}) == 1


def test_while_pictures_cannot_be_stored_nothing_is_drawn_and_no_job_fails(
    service: Service,
) -> None:
    """A file is in the place of the output folder, for a while."""
    assert service.result(service.submit(**SHORT))["status"] == "SUCCESS"
    before, there = images_drawn(service), len(service.files())
    away = service.output.with_name("away")
    service.output.rename(away)
    service.output.write_text("")
    jobs = [service.submit(seed=i) for i in range(10)]
    wait_until(lambda: "the output folder" in (not_ready(service) or ""), 30, "it pauses")
    wait_until(lambda: service.registry("stats")["in_flight"] == 0, 30, "all has come to its end")
    drawn = images_drawn(service)
    assert drawn <= before + 4, "no more than was in flight"
    tries = probes(service)
    wait_until(lambda: probes(service) > tries + 1, 30, "it has looked again")
    assert images_drawn(service) == drawn
    assert {service.job(job)["waiting_for"] for job in jobs} == {"storage"}
    service.output.unlink()
    away.rename(service.output)
    ended = [service.result(job, timeout_s=120) for job in jobs]
    assert {(job["status"], job["attempts"]) for job in ended} == {("SUCCESS", 0)}
    assert images_drawn(service) == before + len(jobs), "what was drawn meanwhile was kept"
    assert not_ready(service) is None
    published = {url.removeprefix("/output/") for job in ended for url in job["result_urls"]}
    assert published < set(service.files())
    assert len(service.files()) == there + 10


def images_drawn(service: Service) -> int:
    (stats,) = service.renderers("stats")
    return stats["images"]


def probes(service: Service) -> int:
    """How often the registry has found that the folder cannot be written."""
    return registry_log(service).count("the output folder cannot be written yet")


def test_whole_cluster_killed_with_fifty_jobs_queued(service: Service) -> None:
    known = set(jobs_on_disk(service))
    jobs = [service.submit(**SHORT, seed=100 + i) for i in range(50)]
    service.result(jobs[0])
    service.kill_everything()
    rows = jobs_on_disk(service)
    assert set(rows) - known == set(jobs)
    assert [job for job in jobs if rows[job][1] != "SUCCESS"], "the point is that some still wait"
    service.start()
    results = [service.result(job_id, timeout_s=180) for job_id in jobs]
    assert {job["status"] for job in results} == {"SUCCESS"}
    assert sum(len(job["images"]) for job in results) == 50
    again = service.result(service.submit(**SHORT, seed=149))
    assert service.pixels(again) == service.pixels(results[49])


def test_hundreds_of_jobs_from_no_replica_and_back(
    tmp_path: Path, tiny_settings: dict[str, Any]
) -> None:
    """On two simulated GPUs: no replica at first, then one on each, and none at the end."""
    settings = {
        **tiny_settings,
        "num_gpus": 1,
        "min_replicas": 0,
        "max_replicas": 2,
        "slots": 4,
        "downscale_delay_s": 2,
        "scale_to_zero_delay_s": 2,
    }
    service = Service(tmp_path, settings, {"num_cpus": 8, "num_gpus": 2}).start()
    try:
        assert not service.processes(RENDERER)
        jobs = [service.submit(prompt="a potion", steps=2, seed=i) for i in range(400)]
        wait_until(lambda: len(service.processes(RENDERER)) == 2, 180, "both GPUs are used")
        wait_until(lambda: service.registry("stats")["live"] == 0, 400, "all are drawn")
        statuses = [row[1] for row in jobs_on_disk(service).values()]
        assert statuses == ["SUCCESS"] * len(jobs)
        assert len(service.files()) == 400
        wait_until(lambda: not service.processes(RENDERER), 120, "no replica is kept")
    finally:
        service.stop()
