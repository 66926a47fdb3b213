"""The service as `tests.cluster.host` runs it, with a model that costs nothing: what is left is the service.

    python -m tests.benchmarks.null_host

Engine, scheduler, threads, PNG and files are the real ones. Replaces `tests.cluster.host`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ray import serve

from serve_app import app
from serve_app.catalog.models import ModelSpec
from serve_app.catalog.revision import weights_revision
from serve_app.cluster.handles import RENDERER
from serve_app.engine import build
from serve_app.engine.costs import CostTable
from serve_app.engine.engine import Engine
from serve_app.engine.request import Request
from serve_app.engine.scheduler import Scheduler
from serve_app.params import GenerationParams
from tests.cluster import host

SIZE = (32, 32)
BLACK = np.zeros((*SIZE, 3), np.uint8)


class NullRunner:
    """`engine.runner.Runner` of black pictures."""

    def __init__(self, model: str, revision: str) -> None:
        self.made_by: dict[str, Any] = {"device": "none", "model": model, "weights": revision}

    def made_by_of(self, request: Request) -> dict[str, Any]:
        return self.made_by

    def guides(self, params: GenerationParams) -> bool:
        return False

    def fits(self, params: GenerationParams) -> bool:
        return True

    def start(self, request: Request) -> None:
        request.state = True

    def denoise(self, requests: Sequence[Request]) -> dict[Request, Exception]:
        return {}

    def decode(self, requests: Sequence[Request]) -> list[Callable[[], Any]]:
        return [lambda: BLACK for _ in requests]

    def preview(self, request: Request) -> Callable[[], Any]:
        return lambda: BLACK

    def check(self, request: Request, pixels: Any) -> None:
        pass

    def notes(self, request: Request) -> list[str]:
        return []

    def timings(self) -> list[Any]:
        return []


def build_null(
    spec: ModelSpec, root: Path, *, loras: Any = None, embeddings: Any = None, **engine: Any
) -> Engine:
    """As `engine.build.build`, which it replaces. It knows no LoRA and no embedding."""
    runner = NullRunner(spec.name, weights_revision(spec, root))
    costs = CostTable(SIZE, {1: 1e-4, 64: 1.0001e-4})
    null = Engine(
        runner,
        Scheduler(costs, max_rows=spec.max_rows),
        report_every=build.REPORT_EVERY_S,
        **engine,
    )
    null.served = {spec.name: runner.made_by["weights"]}
    return null


@serve.deployment(name=RENDERER)
class NullRenderer(app.Renderer.func_or_class):  # pyright: ignore
    async def __init__(self, settings: dict[str, Any], models: list[str]) -> None:
        build.build = build_null
        await super().__init__(settings, models)


if __name__ == "__main__":
    app.Renderer = NullRenderer  # what `app.build` binds
    host.HEALTH_CHECK_S = 5  # as in `app.py`
    host.main()
