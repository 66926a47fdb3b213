"""build(): a ModelSpec becomes a warm Engine that only needs `start()`. build_several(): several do.

Knows the sequence of start-up and times each part; nothing of how a part works.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from serve_app.catalog.embeddings import EmbeddingSpec
from serve_app.catalog.loras import LoraSpec
from serve_app.catalog.models import Models, ModelSpec
from serve_app.engine.costs import CostTable
from serve_app.engine.engine import Engine
from serve_app.engine.ensemble import Ensemble, Loaded
from serve_app.engine.scheduler import Scheduler
from serve_app.engine.turns import Turns
from serve_app.errors import ModelError, ServiceError

log = logging.getLogger("assets.engine")

GPU_SHARE = 0.6
"""Of a GPU's memory that weights of several models may take; calls need the rest."""
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
    engine.served = {spec.name: parts.revision}
    engine.brought = {spec.name: loaded - imported}
    return engine


def build_several(
    names: Sequence[str],
    catalogue: Models,
    root: Path,
    *,
    share: float | None,
    device: str | None = None,
    stall_seconds: float = 120.0,
    on_fault: Callable[[], object] = lambda: None,
    on_switch: Callable[[str, float], object] = lambda model, seconds: None,
) -> Engine:
    """As `build`, of several models, in this sequence; those that come last stay on the device. `share`: of
    the device's memory that is free now, for weights of models; None: 0.6 of a GPU's, and on a CPU, whose
    memory is the host's, no model ever leaves.

    A model that cannot be loaded is left out, and `engine.failed` says why. Raises ModelError if none can.
    """
    began = time.perf_counter()
    from serve_app.engine.model.device import free_memory
    from serve_app.engine.model.loading import device_of

    target = device_of(device)
    if share is None:
        share = GPU_SHARE if target.type == "cuda" else float("inf")
    models, turns = Ensemble(), Turns(share * free_memory(target))
    engine = Engine(
        models,
        turns,
        report_every=REPORT_EVERY_S,
        stall_seconds=stall_seconds,
        on_fault=on_fault,
        on_switch=on_switch,
    )
    imported = time.perf_counter()
    failed: dict[str, ServiceError] = {}
    for name in names:
        try:
            engine.join(name, load_beside(catalogue[name], catalogue, root, device=device))
            switch = turns.switch_to(name)
            engine.brought[name] = models.bring(*switch)
            turns.switched(switch, engine.brought[name])
        except ServiceError as error:
            log.error("a model is left out: %s", error.detail)
            engine.leave_out(name)
            failed[name] = error
    if len(failed) == len(names):
        raise ModelError("; ".join(error.detail for error in failed.values()))
    engine.failed = {name: error.detail for name, error in failed.items()}
    engine.start_up = {
        "import_s": round(imported - began, 3),
        "load_s": round(time.perf_counter() - imported, 3),
    }
    return engine


def load_beside(
    spec: ModelSpec, catalogue: Models, root: Path, *, device: str | None = None
) -> Loaded:
    """A model for `Engine.join`, read into the memory of the host. Another engine may draw meanwhile: calls
    are measured when the weights have come to the device for the first time. Raises ModelError, whatever is
    wrong: the others must go on."""
    try:
        return _load_beside(spec, catalogue, root, device=device)
    except ServiceError:
        raise
    except Exception as error:
        log.exception("model %r cannot be loaded", spec.name)
        why = f"model {spec.name!r} cannot be loaded ({type(error).__name__}); see the log"
        raise ModelError(why) from error


def _load_beside(spec: ModelSpec, catalogue: Models, root: Path, *, device: str | None) -> Loaded:
    from serve_app.engine.model import drivers, loading, warm_up
    from serve_app.engine.model.weights import HostedWeights

    parts = loading.load(spec, root, device=device, on_host=True)
    parts.loras, parts.embeddings = catalogue.loras, catalogue.embeddings
    weights = HostedWeights(parts.networks, parts.device)
    runner = drivers.driver_of(parts)
    weights.left = runner.forget
    scheduler = Scheduler(CostTable(spec.native_size, {1: 1.0}), max_rows=spec.max_rows)

    def first() -> None:
        measured = warm_up.warm_up(runner)
        decodes = runner.decodes_at_once(spec.native_size)
        scheduler.measured(measured.costs, measured.max_rows, decodes)

    return Loaded(runner, weights, scheduler, parts.revision, first)
