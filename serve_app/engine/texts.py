"""TextThread: one thread that encodes prompts and draws noise, before a request's first step.

Knows drawings and the runner; nothing of batches. When it is free it takes the request with the earliest
deadline, so a request that arrives later can go first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from serve_app.engine.drawings import Drawings
from serve_app.engine.request import Request, Stage
from serve_app.engine.runner import Runner
from serve_app.engine.scheduler import Scheduler, by_deadline
from serve_app.engine.turns import Turns

log = logging.getLogger("assets.engine")

ADMISSION_SECONDS = 0.1
"""The longest wait for readers to note that their drawing was admitted, unless it runs alone."""


class TextThread:
    """`changed` is the engine's lock. `failed` is called without it, for a request that cannot start."""

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler | Turns,
        drawings: Drawings,
        changed: threading.Condition,
        failed: Callable[[Request, Exception], None],
    ) -> None:
        self._runner, self._scheduler, self._drawings = runner, scheduler, drawings
        self._changed, self._failed = changed, failed
        self._waiting: list[Request] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="text")

    def start(self, requests: Sequence[Request]) -> None:
        """Queue requests that `Scheduler.start` has let in. Call it with the lock held."""
        for request in requests:
            self._waiting.append(request)
            self._pool.submit(self._start_next)

    def close(self) -> None:
        """Returns when every queued request has been started or has failed."""
        self._pool.shutdown()

    def _start_next(self) -> None:
        with self._changed:
            request = min(self._waiting, key=by_deadline)
            self._waiting.remove(request)
        self._admit(request)
        if request.stage is Stage.GONE:
            return
        try:
            self._runner.start(request)  # encode its prompts, draw its noise
        except Exception as error:
            log.warning("a request could not be started", exc_info=error)
            self._failed(request, error)
            return
        with self._changed:
            self._scheduler.started(request)
            self._changed.notify_all()

    def _admit(self, request: Request) -> None:
        """Tell the readers of a new drawing that it is admitted, and give them a moment to note it.

        A job whose report is lost with the process counts as innocent, and runs alone next. One that runs
        alone does not start before its reader has noted it.
        """
        with self._changed:
            drawing = self._drawings.of(request)
            if drawing is not None and drawing.admitted_at is None:
                self._drawings.admit(drawing)
                self._changed.wait_for(
                    lambda: drawing.acknowledged or self._drawings.of(request) is None,
                    None if drawing.alone else ADMISSION_SECONDS,
                )
