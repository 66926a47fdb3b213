"""A listening service that speaks every dialect, and draws each order as given pictures when it is launched.

What its attempts do is played; HTTP, registry, files and clients are real.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

from PIL import Image

from serve_app.api.asgi import DIALECTS
from serve_app.jobs.registry import JobRegistry
from serve_app.messages import JobView
from tests.api.harness import Site, make_app, site
from tests.api.studio import draw, sprite
from tests.jobs.harness import ERROR, World


def picture(size: tuple[int, int] = (64, 64)) -> Image.Image:
    """Noise: opaque, and no JPEG of it is the same."""
    return Image.effect_noise(size, 90).convert("RGB")


async def draw_all(world: World) -> None:
    """For ever. An order with `cutout` is drawn as sprites with a transparent rim; one of the prompt `fail`
    fails."""
    seq = 0
    while True:
        for (job_id, fence), (ticket, _) in list(world.launcher.running.items()):
            params = ticket["params"]
            if params["subject"].startswith("fail"):
                await world.started(job_id, fence)
                await world.fail(job_id, fence, ERROR)
                continue
            effects = (params["finishing"] or {}).get("effects", ())
            cut = any(effect["op"] == "cutout" for effect in effects)
            size = (params["width"], params["height"])
            drawn = [sprite(size) if cut else picture(size) for _ in range(params["n"])]
            await draw(world, job_id, drawn, fence)
        seq = (await world.registry.watch(world.registry.epoch, seq, 0.05))["seq"]


@contextlib.contextmanager
def studio(root: Path, **settings: Any) -> Generator[Site]:
    with speaking(root, **settings) as served:
        drawing = served.portal.start_task_soon(draw_all, served.world)
        yield served
        drawing.cancel()


@contextlib.contextmanager
def speaking(root: Path, **settings: Any) -> Generator[Site]:
    """Nothing is drawn but by the test."""
    given: dict[str, Any] = {"dialects": [*DIALECTS]} | settings
    with site(root, lambda transport: make_app(transport, **given)) as served:
        yield served


def newest(served: Site, owner: str = "local") -> JobView:
    """The newest job."""
    (job,) = served.do(_page, served.world.registry, owner)
    return job


async def _page(registry: JobRegistry, owner: str) -> list[JobView]:
    return (await registry.page(owner, {}, 1, None, None))["jobs"]
