"""One output folder for registry, tasks and ingress: also after it was replaced, and after a restart."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve_app.artifacts.identity import NAME

from .service import Service, wait_until

pytestmark = pytest.mark.cluster


@pytest.fixture(name="service")
def _service(tmp_path: Path, tiny_settings: dict[str, Any]) -> Iterator[Service]:
    service = Service(tmp_path, tiny_settings)
    try:
        yield service.start()
    finally:
        service.stop()


def draw(service: Service, **order: Any) -> dict[str, Any]:
    job = service.result(service.submit(prompt="a red sword", **order), timeout_s=120)
    assert job["status"] == "SUCCESS", job
    assert service.http.get(job["images"][0]["url"]).status_code == 200
    return job


def why_not_ready(service: Service) -> str:
    return service.http.get("/readyz").json().get("detail", "")


def test_the_output_folder_may_be_replaced(service: Service, tmp_path: Path) -> None:
    """What is drawn meanwhile and afterwards is served from the new one, and deleted there; also by a
    registry that was restarted since, whose own arguments name the old one."""
    draw(service)
    slow = service.submit(steps=200, n=4, reproducible="strict")
    service.await_status(slow, "STARTED")
    new = tmp_path / "new"
    deploying = threading.Thread(target=service.deploy, kwargs={"output_dir": str(new)})
    renderer = service.one("ray::ServeReplica:assets:Renderer")
    renderer.suspend()  # so that it is not done before the folder is replaced
    try:
        deploying.start()
        wait_until(lambda: (new / NAME).exists(), 90, "the registry has the new folder")
    finally:
        renderer.resume()
        deploying.join()
    job = service.result(slow, timeout_s=180)
    assert job["status"] == "SUCCESS"
    assert service.http.get(job["images"][0]["url"]).status_code == 200
    os.kill(service.registry("hello")["pid"], signal.SIGKILL)
    job = draw(service)
    assert len(list(new.rglob("*.png"))) == 4 + 1
    assert service.http.delete(job["urls"]["self"]).status_code == 204
    wait_until(lambda: len(list(new.rglob("*.png"))) == 4, 20, "the file is removed")

    # Another folder comes to lie where it was, as on a node that does not mount it.
    assert service.http.get("/readyz").status_code == 200
    shutil.move(new / NAME, tmp_path / "id")
    (new / NAME).write_text("another")
    wait_until(lambda: "output_dir is not the folder" in why_not_ready(service), 20, "it is seen")
    shutil.move(tmp_path / "id", new / NAME)
    wait_until(lambda: service.http.get("/readyz").status_code == 200, 20, "it is there again")
