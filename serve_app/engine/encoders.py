"""Encoders: a pool of threads that waits for pixels, checks them and compresses them to files.

Knows drawings, the runner's checks and image formats; nothing of batches or models. Previews have a thread of
their own, so that finished pictures never wait for one; of each image only its newest is drawn.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serve_app.engine import images
from serve_app.engine.drawings import Drawings
from serve_app.engine.request import Request
from serve_app.engine.runner import Runner
from serve_app.errors import RenderError
from serve_app.messages import Preview, RenderedImage

log = logging.getLogger("assets.engine")


class Encoders:
    """`changed` is the engine's lock. `finished` is called with the lock held, `failed` without it."""

    def __init__(
        self,
        runner: Runner,
        drawings: Drawings,
        changed: threading.Condition,
        finished: Callable[[Request, RenderedImage], None],
        failed: Callable[[Request, Exception], None],
        workers: int,
    ) -> None:
        self._runner, self._drawings, self._changed = runner, drawings, changed
        self._finished, self._failed = finished, failed
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="encode")
        self._preview_pool = ThreadPoolExecutor(1, thread_name_prefix="preview")
        self._newest: dict[Request, Callable[[], Any]] = {}  # previews that wait for that thread

    def finish(self, request: Request, wait: Callable[[], Any], notes: list[str]) -> None:
        """Make the image of a request. `wait` blocks until its pixels are there: uint8 (height, width, 3)."""
        self._pool.submit(self._finish, request, wait, notes)

    def preview(self, request: Request, draw: Callable[[], Any]) -> None:
        """Send a preview to those listeners that want them. `draw` returns its pixels,
        uint8 (h, w, 3), or None where there are none."""
        with self._changed:
            waits = request in self._newest
            self._newest[request] = draw
        if not waits:
            self._preview_pool.submit(self._preview, request)

    def close(self) -> None:
        """Returns when all images that were begun are made."""
        self._pool.shutdown()
        self._preview_pool.shutdown()

    def _finish(self, request: Request, wait: Callable[[], Any], notes: list[str]) -> None:
        try:
            pixels = wait()
            self._runner.check(request, pixels)
            data = images.png(pixels)
        except Exception as error:
            if not isinstance(error, RenderError):
                log.exception("an image could not be finished")
            self._failed(request, error)
            return
        height, width = pixels.shape[:2]
        with self._changed:
            drawing, now = self._drawings.of(request), time.monotonic()
            began = drawing.admitted_at if drawing and drawing.admitted_at else now
            image = RenderedImage(
                kind="image",
                index=request.index,
                seed=request.seed,
                width=width,
                height=height,
                has_alpha=False,
                data=data,
                render_seconds=now - began,
                made_by=self._runner.made_by_of(request),
                notes=notes,
            )
            self._finished(request, image)

    def _preview(self, request: Request) -> None:
        with self._changed:
            draw = self._newest.pop(request)
            if self._drawings.of(request) is None:
                return
        try:
            pixels = draw()
            if pixels is None:
                return
            data = images.preview_jpeg(pixels)
        except Exception:  # the loop meets what is wrong with the device by itself
            log.exception("a preview could not be drawn")
            return
        with self._changed:
            if drawing := self._drawings.of(request):
                for listener in drawing.listeners:
                    if listener.wants_previews:
                        listener.post(Preview(kind="preview", index=request.index, data=data))
