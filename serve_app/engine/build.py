"""build(): a ModelSpec becomes a warm Engine that only needs `start()`.

Knows the order of start-up and how long each part took; nothing of how any part works.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from serve_app.catalog.models import ModelSpec
from serve_app.engine.engine import Engine
from serve_app.engine.scheduler import Scheduler

if TYPE_CHECKING:
    from serve_app.engine.model.model_runner import ModelRunner

REPORT_EVERY_S = 0.3
"""Progress that is told more often costs two processes time, and a poller sees half a second at best."""


def build(
    spec: ModelSpec,
    root: Path,
    *,
    device: str | None = None,
    replica: str | None = None,
    stall_seconds: float = 120.0,
    on_fault: Callable[[], object] = lambda: None,
) -> Engine:
    """Import, load and warm up, in that order. Raises ModelError."""
    began = time.perf_counter()
    from serve_app.engine.model import loading, model_runner  # torch: seconds, so not at import

    imported = time.perf_counter()
    runner: ModelRunner = model_runner.ModelRunner(loading.load(spec, root, device=device))
    loaded = time.perf_counter()
    costs = runner.warm_up()
    warm = time.perf_counter()
    engine = Engine(
        runner,
        Scheduler(costs, max_rows=spec.max_rows),
        replica=replica,
        report_every=REPORT_EVERY_S,
        stall_seconds=stall_seconds,
        on_fault=on_fault,
    )
    engine.start_up = {
        "import_s": round(imported - began, 3),
        "load_s": round(loaded - imported, 3),
        "warm_up_s": round(warm - loaded, 3),
    }
    return engine
