"""Sheets on a real cluster: packed by a Ray task, fetched over HTTP, whole after their task was killed."""

from __future__ import annotations

import io
import os
import signal
import zipfile
from typing import Any

import pytest

from .service import Service, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def order(service: Service, **body: Any) -> str:
    reply = service.http.post("/v1/sheets", json=body)
    assert reply.status_code == 202, reply.text
    return reply.json()["job_id"]


def test_a_sheet_of_drawn_pictures_is_packed_and_fetched(shared: Service) -> None:
    shared.result(shared.submit(n=3, seed=90, tags=["cluster-sheet"]))
    job = shared.result(order(shared, tag="cluster-sheet", name="icons", formats=["godot", "css"]))
    assert job["status"] == "SUCCESS", job["error"]
    files = {file["role"]: file["url"] for file in job["images"][0]["files"]}
    reply = shared.http.get(files["archive"])
    assert reply.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
        assert {"icons.png", "icons.css", "manifest.json"} <= set(archive.namelist())
        assert archive.read("icons.png") == shared.http.get(job["result_urls"][0]).content


def test_a_sheet_whose_task_is_killed_is_packed_again_with_one_set_of_files(
    shared: Service,
) -> None:
    """Sixty pictures of several sizes take the packer long enough to be killed at its work."""
    parent = shared.submit(n=6, seed=95)
    shared.result(parent)
    items = [{"job_id": parent, "index": i % 6, "name": f"p_{i}"} for i in range(300)]
    job_id = order(shared, items=items, formats=["texturepacker_hash", "godot", "unity", "tiled"])
    task = wait_until(lambda: shared.processes(f"^ray::job:{job_id}"), 30, "its task")[0]
    os.kill(task.pid, signal.SIGKILL)
    job = shared.result(job_id)
    assert job["status"] == "SUCCESS", job["error"]
    published = {f["url"].removeprefix("/output/") for i in job["images"] for f in i["files"]}
    wait_until(
        lambda: {f for f in shared.files() if job_id in f} == published, 10, "one set of files"
    )
