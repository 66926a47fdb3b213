"""Measures which dtype, and how many replicas of how many threads, serve a model fastest here.

    python -m serve_app.tools.autotune [model]

Knows processes and clocks. It recommends lines for configs/models.yaml and changes no file. Run it on an idle
machine: other load would change the result.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple, cast

from serve_app.catalog.models import ModelSpec, load_models

ROOT = Path(__file__).resolve().parents[2]
ROWS = 2  # one guided request


class ColdStart(NamedTuple):
    """Seconds from a fresh process to a model that is ready."""

    import_s: float  # torch, diffusers, transformers
    load_s: float  # weights and tokenizers
    warm_up_s: float  # the first call of each kind

    @property
    def total(self) -> float:
        return sum(self)


@dataclass(frozen=True)
class Trial:
    """`replicas` processes side by side, each with `threads` torch threads."""

    dtype: str
    replicas: int
    threads: int
    rows_per_second: float  # UNet rows, over all replicas
    cold_start: ColdStart  # the slowest replica's


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", help="a name from configs/models.yaml")
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    options = parser.parse_args()
    models = load_models(ROOT / "configs" / "models.yaml")
    spec = models[options.model or models.default]
    cores, cuda = len(os.sched_getaffinity(0)), has_cuda()
    print(f"{spec.name} on {'CUDA' if cuda else f'{cores} cores'}")
    dtypes = ["float32", "bfloat16", "float16"] if cuda else ["float32", "bfloat16"]
    trials = [show(run(spec, dtype, 1, cores, options.seconds)) for dtype in dtypes]
    dtype = max(trials, key=lambda t: t.rows_per_second).dtype
    if not cuda:  # on a GPU the number of replicas depends on its memory, not on cores
        for replicas, threads in splits(cores):
            if (replicas, threads) != (1, cores):
                trials.append(show(run(spec, dtype, replicas, threads, options.seconds)))
    print(recommendation(trials))


def splits(cores: int) -> list[tuple[int, int]]:
    """Every (replicas, threads) that uses all cores without sharing one."""
    return [(n, cores // n) for n in range(1, cores + 1) if cores % n == 0]


def recommendation(trials: Sequence[Trial]) -> str:
    """The fastest trial, or one within 5 % of it with fewer replicas: each replica holds the weights."""
    best = max(t.rows_per_second for t in trials)
    chosen = min((t for t in trials if t.rows_per_second >= 0.95 * best), key=lambda t: t.replicas)
    return (
        f"recommended: dtype: {chosen.dtype}, threads: {chosen.threads} in configs/models.yaml, "
        f"and {chosen.replicas} replica(s)"
    )


def show(trial: Trial) -> Trial:
    print(
        f"  {trial.dtype:9} {trial.replicas} replicas x {trial.threads} threads: "
        f"{trial.rows_per_second:8.2f} rows/s, cold start {trial.cold_start.total:.1f} s (import "
        f"{trial.cold_start.import_s:.1f}, load {trial.cold_start.load_s:.1f}, warm-up "
        f"{trial.cold_start.warm_up_s:.1f})",
        flush=True,
    )
    return trial


def run(
    spec: ModelSpec, dtype: str, replicas: int, threads: int, seconds: float, root: Path = ROOT
) -> Trial:
    """All replicas load, wait for each other, and then count calls during the same `seconds`.

    Raises SystemExit if one of them fails.
    """
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(replicas), context.SimpleQueue()
    changed = spec.model_copy(update={"dtype": dtype, "threads": threads})
    workers = [
        context.Process(target=_count_calls, args=(changed, root, seconds, barrier, results))
        for _ in range(replicas)
    ]
    for worker in workers:
        worker.start()
    try:
        for ended in _as_they_end(workers):
            if ended.exitcode:
                raise SystemExit(f"{dtype} with {threads} threads failed; see above")
    finally:
        for worker in workers:  # if one failed, the others wait for it at the barrier
            worker.terminate()
    counted = [results.get() for _ in workers]
    slowest = max((ColdStart(*c[1:]) for c in counted), key=lambda start: start.total)
    return Trial(dtype, replicas, threads, sum(c[0] for c in counted), slowest)


def _as_they_end(workers: list[SpawnProcess]) -> Iterator[SpawnProcess]:
    running = {worker.sentinel: worker for worker in workers}
    while running:
        for sentinel in wait(list(running)):
            worker = running.pop(cast(int, sentinel))
            worker.join()
            yield worker


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _count_calls(
    spec: ModelSpec, root: Path, seconds: float, barrier: Barrier, results: Any
) -> None:
    began = time.perf_counter()
    from serve_app.engine.model.device import synchronize
    from serve_app.engine.model.loading import load
    from serve_app.engine.model.model_runner import ModelRunner
    from serve_app.engine.model.warm_up import probe

    imported = time.perf_counter()
    runner = ModelRunner(load(spec, root))
    loaded = time.perf_counter()
    call = probe(runner, ROWS)
    call()
    synchronize(runner.device)
    warm = time.perf_counter()
    barrier.wait()
    calls, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        call()
        synchronize(runner.device)
        calls += 1
    rate = calls * ROWS / (time.perf_counter() - started)
    results.put((rate, imported - began, loaded - imported, warm - loaded))


if __name__ == "__main__":
    main()
