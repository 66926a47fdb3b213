"""Several models on one cluster, each in a pool: what one of them does or lacks, the others do not feel."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from serve_app.engine.model.device import free_memory
from serve_app.engine.model.weights import HostedWeights
from tests.engine.tiny import pipeline

from .conftest import write_files
from .service import Service, wait_until
from .test_faults import INGRESS

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

ENDLESS: dict[str, Any] = {"steps": 900, "n": 30}


def four_models(directory: Path) -> dict[str, Any]:
    """Settings of three pools: `tiny`; `other` and `third`, with weights of their own, of which one at a time
    finds a place on the device; and `far`, which no node can hold."""
    settings = write_files(directory)
    pipe = pipeline()
    for name, factor in {"other": 1.5, "third": 0.5}.items():
        with torch.no_grad():
            for weight in pipe.unet.parameters():
                weight.mul_(factor)
        pipe.save_pretrained(directory / name)
    own = HostedWeights((pipe.unet, pipe.vae, pipe.text_encoder), torch.device("cpu")).size_bytes
    file = Path(settings["models_file"])
    models = yaml.safe_load(file.read_text())
    plain = {name: value for name, value in models["models"]["tiny"].items() if name != "controls"}
    for name in ("other", "third"):
        models["models"][name] = {**plain, "path": str(directory / name)}
    models["models"]["far"] = plain
    file.write_text(yaml.safe_dump(models))
    pools = {
        "icons": {"models": ["tiny"]},
        "scenes": {
            "models": ["other", "third"],
            "min_replicas": 0,
            "weights_share": 1.5 * own / free_memory(torch.device("cpu")),
        },
        "far": {"models": ["far"], "min_replicas": 0, "num_gpus": 2},
    }
    return {**settings, "pools": pools}


def models_of(service: Service) -> dict[str, dict[str, Any]]:
    return {model["name"]: model for model in service.http.get("/v1/models").json()["results"]}


def test_pools_draw_their_models_beside_each_other(tmp_path: Path) -> None:
    settings = four_models(tmp_path / "files")
    service = Service(tmp_path / "service", settings)
    try:
        service.start()
        wait_until(lambda: models_of(service)["tiny"]["state"] == "resident", 60, "it has loaded")
        known = models_of(service)
        assert known["other"]["state"] == "resting"
        assert (known["far"]["state"], known["far"]["reason"]) == (
            *("failed", "no node offers 2 GPU"),
        )
        assert service.http.get("/readyz").status_code == 200

        # The first pool is full, and its line is long. Nobody else waits for it.
        endless = [service.submit(**ENDLESS, seed=seed) for seed in range(6)]
        other = service.result(service.submit(model="other"))
        assert other["status"] == "SUCCESS"
        assert service.job(endless[-1])["waiting_for"] == "turn"
        third = service.result(service.submit(model="third"))
        assert service.pixels(third) != service.pixels(other)
        wait_until(
            lambda: (
                [models_of(service)[name]["state"] for name in ("other", "third")]
                == ["resting", "resident"]
            ),
            10,
            "it has the place of the other",
        )
        far = service.submit(model="far")
        lacks = "replica: no node offers 2 GPU"
        wait_until(lambda: service.job(far)["waiting_for"] == lacks, 30, "it says what it lacks")
        for job_id in (far, *endless):
            service.http.post(f"/v1/jobs/{job_id}/cancel")
            assert service.result(job_id)["status"] == "REVOKED"
        tiny = service.result(service.submit(model="tiny"))
        assert service.pixels(tiny) != service.pixels(other)

        # Its directory is removed while it is served, and then its renderer and the ingress die, in the
        # middle of pictures of two models whose weights take turns.
        long = [service.submit(model=name, steps=900, n=2) for name in ("other", "third")]
        for job_id in long:
            service.await_status(job_id, "STARTED")
        weights, away = tmp_path / "files/other", tmp_path / "files/away"
        shutil.move(weights, away)
        service.kill("ServeReplica:assets:Renderer-scenes")
        lost = service.submit(model="other")
        service.kill(INGRESS)
        said = "model: model 'other'"
        wait_until(
            lambda: (
                service.await_status(lost, "PENDING", "RETRY")["waiting_for"] or ""
            ).startswith(said),
            60,
            "it says what its model lacks",
        )
        assert service.pixels(service.result(service.submit())) == service.pixels(tiny)
        # The model beside it is drawn by the very renderer that lacks it.
        assert service.result(long[1])["status"] == "SUCCESS"
        assert service.pixels(service.result(service.submit(model="third"))) == service.pixels(
            third
        )
        told = models_of(service)["other"]
        assert (told["state"], str(tmp_path) in told["reason"]) == ("failed", False)
        assert told["reason"].startswith("the model cannot be loaded: model 'other'")
        assert (service.job(lost)["status"], service.job(lost)["attempts"]) == ("PENDING", 0)
        refused = service.http.post("/v1/generate", json={"prompt": "a key", "model": "other"})
        assert (refused.status_code, str(tmp_path) in refused.text) == (503, False)
        shutil.move(away, weights)
        found = service.result(lost, timeout_s=120)
        assert (found["status"], service.pixels(found)) == ("SUCCESS", service.pixels(other))
        assert service.result(long[0])["status"] == "SUCCESS"

        # Other pools are deployed. What waits goes where its model is drawn by then.
        waits = service.submit(model="far")
        service.deploy(pools={}, model="far")
        assert service.result(waits)["status"] == "SUCCESS"
        assert [name for name, known in models_of(service).items() if known["served"]] == ["far"]
    finally:
        service.stop()
