"""Finishing on a real cluster: an order with effects and redraws, and jobs that need no renderer."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from .service import Service, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

FEW: list[dict[str, Any]] = [{"op": "palette", "colors": 4}, {"op": "normal_map"}]
SLOW: list[dict[str, Any]] = [{"op": "scale", "width": 1500, "height": 1500, "filter": "lanczos"}]
"""Half a second for each picture, at least."""


def file_of(service: Service, url: str) -> Path:
    return service.output / url.removeprefix("/output/")


def derive(service: Service, job_id: str, **body: Any) -> str:
    reply = service.http.post(f"/v1/jobs/{job_id}/derive", json=body)
    assert reply.status_code == 202, reply.text
    return reply.json()["job_id"]


def test_an_order_is_finished_and_drawn_again_where_it_fails(shared: Service) -> None:
    """Noise has too many colours for the gate: both images take all their redraws, and the best stays."""
    order: dict[str, Any] = {
        "n": 2,
        "seed": 50,
        "effects": FEW,
        "steps": 3,
        "reproducible": "strict",
    }
    job = shared.result(shared.submit(**order, require={"colors": 3}, redraws=2))
    assert job["status"] == "SUCCESS", job["error"]
    assert [image["seed"] for image in job["images"]] == [50, 51]
    for image in job["images"]:
        assert not image["quality"]["passed"]
        assert image["quality"]["redraws"] == 2
        assert {file["role"] for file in image["files"]} == {"original", "asset", "normal_map"}
        for file in image["files"]:
            assert shared.http.get(file["url"]).status_code == 200
    owned = {file for file in shared.files() if job["job_id"] in file}
    assert len(owned) == 6  # of the redraws nothing stays
    plain = shared.result(shared.submit(**order | {"effects": []}))
    with (
        Image.open(file_of(shared, job["images"][0]["original_url"])) as original,
        Image.open(file_of(shared, plain["images"][0]["url"])) as drawn,
    ):
        assert original.tobytes() == drawn.tobytes()


def test_a_derived_job_makes_what_the_order_would_have(shared: Service) -> None:
    """Byte for byte the same pixels, without a renderer; and derived again from what it became."""
    order: dict[str, Any] = {"n": 2, "seed": 60, "steps": 3, "reproducible": "strict"}
    finished = shared.result(shared.submit(**order, effects=FEW))
    parent = shared.submit(**order)
    shared.result(parent)
    job = shared.result(derive(shared, parent, effects=FEW))
    assert job["status"] == "SUCCESS", job["error"]
    assert (job["kind"], job["derived_from"]) == ("derive", parent)
    assert shared.pixels(job) == shared.pixels(finished)
    again = shared.result(derive(shared, job["job_id"], effects=[{"op": "flip"}], indices=[1]))
    assert len(again["images"]) == 1
    assert again["images"][0]["original_url"] == job["images"][1]["url"]


def test_a_job_that_is_made_again_is_the_same(shared: Service) -> None:
    """Drawn and finished by another attempt of another job; so is a derived one, without a renderer."""
    order: dict[str, Any] = {"n": 2, "seed": 60, "steps": 3, "reproducible": "strict"}
    first = shared.result(shared.submit(**order, effects=FEW))
    derived = shared.result(derive(shared, first["job_id"], effects=FEW, indices=[1]))
    for job in (first, derived):
        reply = shared.http.post(f"{job['urls']['reproduce']}")
        assert reply.status_code == 202, reply.text
        made = shared.result(reply.json()["job_id"])
        assert made["status"] == "SUCCESS", made["error"]
        found = [image["reproduction"] for image in made["images"]]
        assert [one["match"] for one in found] == ["exact"] * len(job["images"]), found


def test_an_original_that_somebody_removed_is_said_to_be_gone(shared: Service) -> None:
    """Nothing is half-written."""
    parent = shared.result(shared.submit(n=2, seed=70))
    file_of(shared, parent["images"][1]["url"]).unlink()
    job_id = derive(shared, parent["job_id"], effects=FEW)
    job = shared.result(job_id)
    assert (job["status"], job["error"]["code"]) == ("FAILURE", "source_missing")
    wait_until(lambda: not [f for f in shared.files() if job_id in f], 10, "no file of it")
    shared.http.delete(f"/v1/jobs/{parent['job_id']}")


def test_a_derive_task_that_is_killed_or_cancelled(shared: Service) -> None:
    """Killed once, it is done again, with one set of files; cancelled, its process ends and nothing stays."""
    parent = shared.submit(n=6, seed=80)
    shared.result(parent)
    job_id = derive(shared, parent, effects=SLOW)
    shared.await_status(job_id, "STARTED")
    task = wait_until(lambda: shared.processes(f"^ray::job:{job_id}"), 30, "its task")[0]
    os.kill(task.pid, signal.SIGKILL)
    job = shared.result(job_id)
    assert job["status"] == "SUCCESS", job["error"]
    assert len(job["images"]) == 6
    published = {f["url"].removeprefix("/output/") for i in job["images"] for f in i["files"]}
    wait_until(
        lambda: {f for f in shared.files() if job_id in f} == published, 10, "one set of files"
    )
    cancelled = derive(shared, parent, effects=SLOW)
    shared.await_status(cancelled, "STARTED")
    assert shared.http.post(f"/v1/jobs/{cancelled}/cancel").json()["status"] == "REVOKED"
    wait_until(lambda: not shared.processes(f"^ray::job:{cancelled}"), 10, "its process ends")
    wait_until(lambda: not [f for f in shared.files() if cancelled in f], 10, "no file of it")
