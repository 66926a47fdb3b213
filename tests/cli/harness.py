"""A command of `assets` in this process, and jobs as its servers tell of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from serve_app.cli import main
from tests.factories import JOB_ID
from tests.jobs.harness import ERROR, World
from tests.scripted import Scripted, job_object

OTHER = "019aab42-0000-7d30-9f6a-2b54c1f0a3de"

Talk = Callable[..., Scripted]
"""Makes the server of the next command: it gives these answers in turn."""


def run(*args: str) -> int | str | None:
    with pytest.raises(SystemExit) as exit_:
        main(args)
    return exit_.value.code


async def draw_all(world: World) -> None:
    """For ever. A job of two images fails."""
    seq = 0
    while True:
        for (job_id, fence), (ticket, _) in list(world.launcher.running.items()):
            if ticket["summary"]["n"] == 1:
                await world.draw(job_id, fence)
            else:
                await world.started(job_id, fence)
                await world.fail(job_id, fence, ERROR)
        seq = (await world.registry.watch(world.registry.epoch, seq, 0.05))["seq"]


def finished(job_id: str = JOB_ID) -> dict[str, Any]:
    image = {"url": "/output/x.png", "index": 0, "seed": 7, "width": 8, "height": 8, "notes": []}
    return job_object("SUCCESS", job_id, images=[{**image, "sha256": ""}])
