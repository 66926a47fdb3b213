"""The whole service, HTTP to published file, as a benchmark arm: with this engine, or one at a time.

    python -m tests.benchmarks.http_arms      the service with `PlainRenderer`, as tests/cluster/host.py

`http-a` is the service as it is, except that its renderer is `PlainRenderer`: the plain diffusers
pipeline, one order at a time, first come, first served. `http-d` is the service as it ships. Knows HTTP
and the deployment; nothing of traces or statistics.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
from ray import serve

from serve_app import app
from serve_app.catalog.models import active_model, load_models
from serve_app.cluster.handles import RENDERER
from serve_app.config import PROJECT_ROOT, Settings
from serve_app.engine import images
from serve_app.engine.model.loading import load
from serve_app.messages import Admitted, RenderedImage, Ticket
from serve_app.params import GenerationParams
from tests.benchmarks.arms import call_pipeline
from tests.cluster.service import Service

SLOTS = 8  # 16 orders in flight: each is a Ray task, with a process of its own


@serve.deployment(name=RENDERER)
class PlainRenderer:
    """`serve_app.app.Renderer` with the plain pipeline instead of the engine."""

    def __init__(self, settings: dict[str, Any], models: list[str]) -> None:
        parsed = Settings.model_validate(settings)
        spec = active_model(models[0], load_models(parsed.path(parsed.models_file)))
        self._parts = load(spec, PROJECT_ROOT)
        self._device = ThreadPoolExecutor(1)
        self._encoders = ThreadPoolExecutor(2)

    async def render(self, ticket: Ticket) -> AsyncIterator[Any]:
        params = GenerationParams.model_validate(ticket["params"])
        yield Admitted(kind="admitted")
        loop = asyncio.get_running_loop()
        drawn = await loop.run_in_executor(self._device, call_pipeline, self._parts, [params])
        data = await loop.run_in_executor(self._encoders, images.png, drawn[0])
        yield RenderedImage(
            kind="image",
            index=0,
            seed=params.seed,
            width=params.width,
            height=params.height,
            has_alpha=False,
            data=data,
            render_seconds=0.0,
            made_by=self._parts.made_by,
            notes=[],
        )

    async def drop(self, epoch: int, fences: dict[str, int]) -> int:
        return 0

    async def stats(self) -> dict[str, Any]:
        return {}


class HttpService:
    """A whole service on a new Ray cluster. `arm` is `http-a` or `http-d`."""

    def __init__(self, arm: str, folder: Path, model: str, threads: int) -> None:
        host = "tests.benchmarks.http_arms" if arm == "http-a" else "tests.cluster.host"
        settings = {
            "model": model,
            "models_file": str(_with_threads(folder, threads)),
            "slots": SLOTS,
            "num_cpus": threads,
        }
        self._service = Service(folder / arm, settings, host=host)
        self._http: httpx.AsyncClient | None = None

    def start(self) -> None:
        """Returns when a first order was drawn by each kind of process."""
        self._service.start()
        for job_id in [self._service.submit(steps=4, seed=seed) for seed in range(2 * SLOTS)]:
            assert self._service.result(job_id, 300)["status"] == "SUCCESS"
        self._http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self._service.port}", timeout=60
        )

    async def draw(self, params: GenerationParams, number: int) -> float:
        """When the image was published, in unix seconds, by the service's own clock. It is polled as
        often as its `Retry-After` says: more polls would slow down the arm with the longer line."""
        assert self._http is not None
        reply = await self._http.post("/v1/generate", json=_body(params))
        assert reply.status_code == 202, reply.text
        while True:
            look = await self._http.get(f"/v1/jobs/{reply.json()['job_id']}")
            job = look.json()
            if job["status"] == "SUCCESS":
                return datetime.fromisoformat(job["completed_at"]).timestamp()
            assert job["status"] in ("PENDING", "STARTED", "RETRY"), job
            await asyncio.sleep(float(look.headers["Retry-After"]))

    def cpu_seconds(self) -> float:
        """Of all processes of the service that live."""
        total = 0.0
        for process in self._service.tree():
            try:
                total += sum(process.cpu_times()[:2])
            except psutil.Error:
                continue
        return total

    def stop(self) -> None:
        self._service.stop()


def _body(params: GenerationParams) -> dict[str, Any]:
    fields = ("prompt", "seed", "width", "height", "steps", "guidance_scale", "scheduler")
    return {name: getattr(params, name) for name in fields} | {"style_id": "none"}


def _with_threads(folder: Path, threads: int) -> Path:
    """models.yaml of the project, every path absolute, every model with so many torch threads."""
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    content = yaml.safe_load((PROJECT_ROOT / "configs" / "models.yaml").read_text())
    for spec in content["models"].values():
        spec["threads"] = threads
        if "path" in spec:
            spec["path"] = str(PROJECT_ROOT / spec["path"])
    path = folder / "models.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


if __name__ == "__main__":
    from tests.cluster import host

    app.Renderer = PlainRenderer  # what `app.build` binds
    host.main()
