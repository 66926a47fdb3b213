"""Files in a bucket: a job's whole story, and the store going away and coming back in the middle of it."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve_app.artifacts.identity import NAME
from tests.bucket import KEYS, Bucket

from .service import Service, wait_until

pytestmark = pytest.mark.cluster


@pytest.fixture(name="store")
def _store() -> Iterator[Bucket]:
    with Bucket() as bucket:
        yield bucket


@pytest.fixture(name="service")
def _service(tmp_path: Path, tiny_settings: dict[str, Any], store: Bucket) -> Iterator[Service]:
    settings = {**tiny_settings, "output": store.address}
    service = Service(tmp_path, settings, environment=KEYS)
    try:
        yield service.start()
    finally:
        store.recover()
        service.stop()


def stored(store: Bucket) -> list[str]:
    """Paths of finished files."""
    paths = (key.removeprefix("art/") for key in store.holds())
    return [path for path in paths if path != NAME and not path.startswith(".uploads/")]


def drawn(service: Service) -> int:
    return sum(stats["images"] for stats in service.renderers("stats"))


def whole_story(service: Service, store: Bucket) -> None:
    """Ordered, polled, fetched, finished, packed, archived, ordered with, deleted."""
    http = service.http
    job = service.result(service.submit(n=2))
    assert job["status"] == "SUCCESS", job
    image = job["images"][1]
    whole = http.get(image["url"])
    assert hashlib.sha256(whole.content).hexdigest() == image["sha256"]
    part = http.get(image["url"], headers={"Range": "bytes=8-15"})
    assert (part.status_code, part.content) == (206, whole.content[8:16])
    known = {"If-None-Match": whole.headers["etag"]}
    assert http.get(image["url"], headers=known).status_code == 304
    assert http.get(f"{image['url']}?thumb=128").status_code == 200

    orders = [{"prompt": "a sword", "style_id": "none", "steps": 4, "seed": 5, "n": 2}]
    batch = http.post("/v1/batches", json={"orders": orders}).json()["batch_id"]
    made = wait_until(lambda: ended(service, batch), 60, "the batch")
    assert made["status"] == "SUCCESS"
    archive = http.get(f"/v1/batches/{batch}/archive")
    with zipfile.ZipFile(io.BytesIO(archive.content)) as zipped:
        assert zipped.testzip() is None
        assert len([name for name in zipped.namelist() if name.endswith(".png")]) == 2

    effects = {"effects": [{"op": "scale", "factor": 2}]}
    derived = http.post(f"/v1/jobs/{job['job_id']}/derive", json=effects).json()
    sheet = {"items": [{"job_id": job["job_id"], "index": i} for i in (0, 1)]}
    packed = http.post("/v1/sheets", json=sheet).json()
    again = service.submit(
        init_image={"job_id": job["job_id"], "index": 0}, strength=0.5, width=32, height=32
    )
    for job_id in derived["job_id"], packed["job_id"], again:
        result = service.result(job_id)
        assert result["status"] == "SUCCESS", result
        assert http.get(result["images"][0]["url"]).status_code == 200

    theirs = [path for path in stored(store) if job["job_id"] in path]
    assert len(theirs) == 2
    assert http.delete(f"/v1/jobs/{job['job_id']}").status_code == 204
    wait_until(lambda: not set(theirs) & set(stored(store)), 20, "its files are removed")
    assert http.get(image["url"]).status_code == 404
    assert not service.output.exists(), "nothing is in a folder"


def ended(service: Service, batch_id: str) -> dict[str, Any] | None:
    batch = service.http.get(f"/v1/batches/{batch_id}").json()
    return batch if batch["status"] not in ("PENDING", "STARTED") else None


def waits_for_storage(service: Service, *job_ids: str) -> bool:
    jobs = [service.job(job_id) for job_id in job_ids]
    assert not any(job["status"] in ("FAILURE", "REVOKED") for job in jobs), jobs
    return all(job["waiting_for"] == "storage" for job in jobs)


def why_not_ready(service: Service) -> str:
    return service.http.get("/readyz").json().get("detail", "")


def test_files_live_in_a_bucket_and_its_absence_costs_nothing(
    service: Service, store: Bucket
) -> None:
    """Whether it says 503, has forgotten our keys or is not there: jobs wait, none fails, and none is drawn
    twice."""
    whole_story(service, store)

    before, files = drawn(service), len(stored(store))
    store.hold.clear()
    ordered = [service.submit(seed=40)]
    wait_until(lambda: drawn(service) > before, 60, "it is drawn, and the store is slow")
    store.hold.set()
    service.result(ordered[0])

    store.says = 503
    ordered += [service.submit(seed=seed, n=2) for seed in (10, 20)]
    wait_until(lambda: waits_for_storage(service, *ordered[1:]), 60, "they wait")
    assert drawn(service) > before + 1, "at least one was drawn before the store was missed"
    wait_until(lambda: "cannot be written" in why_not_ready(service), 20, "it says so")
    store.says = None
    store.deny()
    ordered.append(service.submit(seed=30))
    store.stop()
    wait_until(lambda: waits_for_storage(service, *ordered[1:]), 60, "they still wait")
    store.start()
    store.allow()
    for job_id in ordered:
        job = service.result(job_id)
        assert (job["status"], job["error"]) == ("SUCCESS", None)
        for image in job["images"]:
            fetched = service.http.get(image["url"]).content
            assert hashlib.sha256(fetched).hexdigest() == image["sha256"]
    assert drawn(service) - before == 6, "each image once"
    assert len(stored(store)) - files == 6
    wait_until(lambda: service.http.get("/readyz").status_code == 200, 30, "it is well again")
