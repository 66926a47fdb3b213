"""The service as `host` runs it, with an engine that has bugs: a prompt that says POISON stops its loop, a
model call with one that says HANG never comes back, and one with MURDER ends the process.

The renderer runs in a process of Ray's, which no test can reach into: so this replaces `tests.cluster.host`.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from ray import serve

from serve_app import app
from serve_app.cluster.handles import RENDERER
from tests.cluster import host

POISON = "poison"  # in prompts of `test_faulty_engine`, as the others
HANG = "hang"
MURDER = "murderous"


@serve.deployment(name=RENDERER)
class FaultyRenderer(app.Renderer.func_or_class):  # pyright: ignore
    """Fails in the scheduler, between two steps, where no request can be blamed; hangs in the model."""

    async def __init__(self, settings: dict[str, Any], models: list[str]) -> None:
        await super().__init__(settings, models)
        scheduler = self._engine.scheduler
        update = scheduler.update

        def faulty(batch: Any) -> None:
            if any(
                POISON in request.params.prompt and request.step > 5 for request in batch.requests
            ):
                raise IndexError("a bug in the scheduler")
            update(batch)

        scheduler.update = faulty
        runner = self._engine.runner
        denoise = runner.denoise

        def hanging(requests: Any) -> Any:
            said = [request.params.prompt for request in requests if request.step > 5]
            if any(HANG in prompt for prompt in said):
                threading.Event().wait()
            if any(MURDER in prompt for prompt in said):
                os.kill(os.getpid(), signal.SIGKILL)
            return denoise(requests)

        runner.denoise = hanging


if __name__ == "__main__":
    app.Renderer = FaultyRenderer  # what `app.build` binds
    host.main()
