"""The whole product: real Ray, real HTTP, files on disk."""

from __future__ import annotations

import io
import json
import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from tests.documents import RUNNING

from .service import Service, answer_to_all_of, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def open_result(service: Service, job: dict[str, Any], index: int = 0) -> Image.Image:
    return Image.open(service.output / job["result_urls"][index].removeprefix("/output/"))


def test_a_prompt_becomes_a_file_that_says_how_to_make_it_again(shared: Service) -> None:
    """The order that stands in the file draws the same pixels again, byte for byte."""
    job = shared.result(shared.submit(style_id="icon", n=2, seed=41, steps=5))
    assert job["status"] == "SUCCESS"
    assert [image["seed"] for image in job["images"]] == [41, 42]
    served = shared.http.get(job["result_urls"][1])
    assert served.headers["content-type"] == "image/png"
    with open_result(shared, job, 1) as image:
        record = json.loads(image.info["job"])
        assert image.info["parameters"].startswith(
            "a red sword icon\nNegative prompt: blurry\nSteps: 5"
        )
    assert record["order"]["prompt"] == "a red sword icon"
    again = shared.result(shared.submit(**record["order"]))
    assert shared.pixels(again) == shared.pixels(job)[1:]


def test_a_job_task_never_loads_torch(shared: Service) -> None:
    """Neither its imports nor what the renderer sends load it: a task takes 128 MB, with torch 230."""
    shared.result(shared.submit())
    workers = shared.processes(r"^ray::(IDLE|job:|run_job)")
    assert workers
    for worker in workers:
        assert not [m.path for m in worker.memory_maps() if "libtorch" in m.path]


def test_point_10_jobs_in_company_draw_what_they_draw_alone(shared: Service) -> None:
    """With different prompts, steps and guidance at once: strict jobs in every byte, others within one
    level."""
    orders: list[dict[str, Any]] = [
        {"prompt": f"a {word}", "seed": i, "steps": 4 + i, "guidance_scale": i % 3 * 2.5}
        for i, word in enumerate(["sword", "shield", "potion", "stone", "red wood"])
    ]
    alone = [shared.pixels(shared.result(shared.submit(**o))) for o in orders]
    strict = [shared.submit(**o, reproducible="strict") for o in orders]
    loose = [shared.submit(**o) for o in orders]
    assert [shared.pixels(shared.result(j)) for j in strict] == alone
    for job_id, order in zip(loose, orders, strict=True):
        with open_result(shared, shared.result(job_id)) as drawn:
            reference = shared.result(shared.submit(**order))
            with open_result(shared, reference) as expected:
                apart: Any = ImageChops.difference(drawn, expected).getextrema()
                assert max(high for _, high in apart) <= 1


def test_a_poller_sees_progress_and_gets_304_when_nothing_changed(shared: Service) -> None:
    job_id = shared.submit(steps=300, n=2, seed=9)
    job = shared.await_status(job_id, "STARTED")
    wait_until(lambda: (shared.job(job_id)["progress"] or {}).get("step", 0) > 0, 30)
    job = shared.result(job_id)
    first = shared.http.get(f"/v1/jobs/{job_id}")
    again = shared.http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert job["metrics"]["execution_ms"] > 0


def test_a_repeated_order_is_the_same_job(shared: Service) -> None:
    body = {"prompt": "a stone", "style_id": "none", "steps": 3}
    replies = [
        shared.http.post("/v1/generate", json=body, headers={"Idempotency-Key": "k1"})
        for _ in range(2)
    ]
    assert replies[0].json()["job_id"] == replies[1].json()["job_id"]
    assert replies[1].headers["idempotency-replayed"] == "true"
    assert replies[0].json()["request"]["seed"] == replies[1].json()["request"]["seed"]


def test_a_job_whose_file_cannot_be_written_waits_until_it_can(shared: Service) -> None:
    """A file stands where the folder of the day must be."""
    good = shared.result(shared.submit(seed=70))
    day = shared.output / Path(good["result_urls"][0]).parts[2]
    aside = day.rename(day.with_name("aside"))
    day.write_text("in the way")
    job_id = shared.submit(seed=71)
    waits = wait_until(lambda: (job := shared.job(job_id))["waiting_for"] == "storage" and job)
    assert (waits["status"], waits["error"]) == ("RETRY", None)
    assert shared.http.get("/readyz").status_code == 503
    assert str(shared.output) not in json.dumps(waits)
    day.unlink()
    aside.rename(day)
    assert shared.result(job_id)["status"] == "SUCCESS"


@pytest.mark.parametrize(
    "path",
    [
        "/output/../pyproject.toml",
        "/output/%2e%2e/pyproject.toml",
        "/output/%2e%2e%2fpyproject.toml",
        "/output/%252e%252e/pyproject.toml",
        "/output/..%5cpyproject.toml",
        "/output//etc/passwd",
        "/output/",
    ],
)
def test_nothing_but_finished_files_leaves_the_output(shared: Service, path: str) -> None:
    """Sent as raw bytes: a client library would tidy the path first."""
    with socket.create_connection(("127.0.0.1", shared.port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        reply = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b" 404 " in reply.split(b"\r\n")[0]
    assert b"build-backend" not in reply
    assert b"root:" not in reply


def test_who_sends_too_much_reads_why_it_is_refused(shared: Service) -> None:
    """Also who sends all of it first, and then has the connection closed."""
    answer = answer_to_all_of(shared.port, 40_000_000)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body_too_large"' in answer


def test_ready_and_healthy(shared: Service) -> None:
    assert shared.http.get("/healthz").status_code == 200
    wait_until(
        lambda: shared.http.get("/readyz").status_code == 200, 5
    )  # asked of it once a second


ONLY_WHEN = {
    "ray_assets_job_retries_total",
    "ray_assets_launches_paused",
    "ray_assets_eta_error_seconds",
    "ray_assets_webhook_deliveries_total",
}
"""These come when something has happened."""


def test_every_metric_that_is_told_of_is_there(shared: Service) -> None:
    """They reach Ray's metrics agent under their published names, and no other of ours does."""
    shared.result(shared.submit(seed=80))
    documented = {row[0].text for row in RUNNING.table("metric").rows}
    with suppress(AssertionError):  # what is missing is told below
        wait_until(lambda: documented - ONLY_WHEN <= _names(shared), 60)
    assert documented - ONLY_WHEN - _names(shared) == set()
    assert _names(shared) - documented == set()
    assert 'state="SUCCESS"' in _metrics(shared, "ray_assets_jobs_finished")


def _names(service: Service) -> set[str]:
    named = re.findall(r"^(ray_assets_\w+)[{ ]", _metrics(service, "ray_assets"), re.MULTILINE)
    return {re.sub("_(bucket|sum|count|created)$", "", name) for name in named}


def _metrics(service: Service, name: str) -> str:
    """The page of the node's metrics agent, if it tells of `name` yet."""
    text = service.http.get(f"http://127.0.0.1:{service.metrics_port}/metrics").text
    return text if name in text else ""


def test_pictures_are_drawn_from_pictures(shared: Service) -> None:
    """An upload, and an image of a job, on their way through all processes: the file says which picture it
    was, the order in it draws the same again, and no deleted upload and no deleted job is in the way."""
    picture = io.BytesIO()
    Image.effect_noise((48, 32), 90).convert("RGB").save(picture, "JPEG")
    upload = shared.http.post(
        "/v1/uploads", content=picture.getvalue(), headers={"content-type": "image/jpeg"}
    ).json()
    source = {"upload_id": upload["upload_id"]}
    first = shared.result(shared.submit(init_image=source, strength=0.5, n=2, seed=3))
    assert first["status"] == "SUCCESS", first["error"]
    with open_result(shared, first) as image:
        record = json.loads(image.info["job"])
        assert "Denoising strength: 0.5" in image.info["parameters"]
    assert record["params"]["init_image"]["sha256"] == upload["sha256"]
    again = shared.result(shared.submit(**record["order"]))
    assert shared.pixels(again) == shared.pixels(first)[:1]
    plain = shared.result(shared.submit(seed=3))
    assert shared.pixels(plain) != shared.pixels(again)
    # The next waits behind others while what it is drawn from is deleted.
    queue = [shared.submit(steps=40, n=8, seed=i) for i in range(4)]
    waits = shared.submit(init_image=source, strength=0.5, seed=3)
    of_job = {"job_id": again["job_id"], "index": 0}
    follows = shared.submit(init_image=of_job, mask_image=of_job, seed=5)
    for gone in (f"/v1/uploads/{upload['upload_id']}", again["urls"]["self"]):
        assert shared.http.delete(gone).status_code == 204
    assert shared.pixels(shared.result(waits)) == shared.pixels(first)[:1]
    done = shared.result(follows)
    assert done["status"] == "SUCCESS", done["error"]
    for job_id in queue:
        shared.http.post(f"/v1/jobs/{job_id}/cancel")


def test_a_job_follows_the_shapes_of_a_picture(shared: Service) -> None:
    """Its edges are found in the renderer; the order in the file draws the same again."""
    picture = io.BytesIO()
    Image.effect_noise((32, 32), 90).convert("RGB").save(picture, "PNG")
    upload = shared.http.post(
        "/v1/uploads", content=picture.getvalue(), headers={"content-type": "image/png"}
    ).json()
    control = {"type": "edges", "image": {"upload_id": upload["upload_id"]}}
    jobs = [shared.submit(seed=3, control=[control]), shared.submit(seed=3)]
    followed, plain = (shared.result(job) for job in jobs)
    assert followed["status"] == "SUCCESS", followed["error"]
    assert shared.pixels(followed) != shared.pixels(plain)
    with open_result(shared, followed) as image:
        record = json.loads(image.info["job"])
    assert record["params"]["control"][0]["image"]["sha256"] == upload["sha256"]
    again = shared.result(shared.submit(**record["order"]))
    assert shared.pixels(again) == shared.pixels(followed)


def test_a_picture_that_is_gone_ends_its_job_and_says_so(shared: Service) -> None:
    """Somebody emptied the folder by hand."""
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(picture, "PNG")
    upload = shared.http.post(
        "/v1/uploads", content=picture.getvalue(), headers={"content-type": "image/png"}
    ).json()
    queue = [shared.submit(steps=40, n=8, seed=i) for i in range(4)]
    job_id = shared.submit(init_image={"upload_id": upload["upload_id"]})
    for path in (shared.output / ".uploads").iterdir():
        path.unlink()
    for other in queue:
        shared.http.post(f"/v1/jobs/{other}/cancel")
    job = shared.result(job_id)
    assert (job["status"], job["error"]["code"]) == ("FAILURE", "source_missing")
