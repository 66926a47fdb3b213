"""build(): a ModelSpec becomes a warm Engine that only needs `start()`.

Knows the sequence of start-up and times each part; nothing of how a part works.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from serve_app.catalog.embeddings import EmbeddingSpec
from serve_app.catalog.loras import LoraSpec
from serve_app.catalog.models import ModelSpec
from serve_app.engine.engine import Engine
from serve_app.engine.scheduler import Scheduler

REPORT_EVERY_S = 0.3
"""Seconds between two progress events of a drawing. Each one costs the renderer's event loop and the registry
time, and clients poll every half second at most."""


def build(
    spec: ModelSpec,
    root: Path,
    *,
    device: str | None = None,
    stall_seconds: float = 120.0,
    on_fault: Callable[[], object] = lambda: None,
    loras: Mapping[str, LoraSpec] | None = None,
    embeddings: Mapping[str, EmbeddingSpec] | None = None,
) -> Engine:
    """Import, load and warm up, in this sequence. Raises ModelError.

    `root` is the directory that relative paths of the spec start from; `device` is a torch device name, by
    default CUDA where there is one. `loras`, `embeddings`: those that orders may name. The other arguments
    are those of `Engine`.
    """
    began = time.perf_counter()
    # Here and not above, because torch takes seconds to import and only a renderer needs it.
    from serve_app.engine.model import drivers, loading, warm_up

    imported = time.perf_counter()
    parts = loading.load(spec, root, device=device)
    parts.loras, parts.embeddings = loras or {}, embeddings or {}
    runner = drivers.driver_of(parts)
    loaded = time.perf_counter()
    measured = warm_up.warm_up(runner)
    warm = time.perf_counter()
    engine = Engine(
        runner,
        Scheduler(
            measured.costs,
            max_rows=measured.max_rows,
            max_decodes=runner.decodes_at_once(spec.native_size),
        ),
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
