"""LateModels: tries again to load the models of an engine that could not be loaded when it started.

Knows waiting times and threads; nothing of why a model cannot be loaded. Files are read while others draw.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from serve_app.catalog.models import Models
from serve_app.engine import build
from serve_app.engine.engine import Engine
from serve_app.errors import ServiceError

FIRST_S, LONGEST_S = 4.0, 300.0
"""Seconds until a model is tried again; each time twice as long."""


class LateModels:
    """Of one engine. Call `look` now and then."""

    def __init__(self, engine: Engine, catalogue: Models, root: Path) -> None:
        self._engine, self._catalogue, self._root = engine, catalogue, root
        self._wait_s = FIRST_S
        self._due = time.monotonic() + FIRST_S
        self._thread: threading.Thread | None = None

    def look(self) -> None:
        """Begin another try if one is due."""
        busy = self._thread is not None and self._thread.is_alive()
        if self._engine.failed and not busy and time.monotonic() >= self._due:
            self._due = time.monotonic() + self._wait_s
            self._thread = threading.Thread(target=self.load, name="late models", daemon=True)
            self._thread.start()

    def load(self) -> None:
        """Load those that can be loaded by now."""
        self._wait_s = min(LONGEST_S, 2 * self._wait_s)
        for name in list(self._engine.failed):
            try:
                loaded = build.load_beside(self._catalogue[name], self._catalogue, self._root)
            except ServiceError as error:
                self._engine.failed[name] = error.detail
            else:
                self._engine.join(name, loaded)
                del self._engine.failed[name]
        self._due = time.monotonic() + self._wait_s
