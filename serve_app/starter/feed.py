"""Planned scenes and tokenised captions, made by other processes while the device computes.

It does not know pixels or networks.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .compose import Scenes
from .held_out import HeldOut
from .scenes import Planner
from .sprites import Sprites
from .tokens import load_tokens, token_ids

AHEAD = 6  # batches a process may be ahead


@dataclass(frozen=True)
class SceneBatch:
    scenes: Scenes
    ids: np.ndarray  # (B, TOKENS)
    other_ids: np.ndarray  # (fewer, TOKENS): other captions of the first scenes


@dataclass(frozen=True)
class Source:
    """What a process needs to make batches."""

    sprites: Path
    text_encoder: Path
    batch: int

    def batches(self, seed: int) -> Iterator[SceneBatch]:
        sprites = Sprites.load(self.sprites)
        sprites.files.clear()  # only their names are needed here
        planner, tokens = Planner(sprites, HeldOut.load(), seed), load_tokens(self.text_encoder)
        while True:
            scenes, captions, others = planner.plan(self.batch)
            ids = token_ids(tokens, [*captions, *others])
            yield SceneBatch(scenes, ids[: self.batch], ids[self.batch :])


@contextmanager
def feed(source: Source, seed: int, workers: int) -> Generator[Iterator[SceneBatch]]:
    """Batches without end; with `workers` 0, made by the caller's own process, in one fixed order."""
    if workers == 0:
        yield source.batches(seed)
        return
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue(AHEAD * workers)
    processes = [
        context.Process(target=_fill, args=(queue, source, seed + 1000 * number), daemon=True)
        for number in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        yield iter(queue.get, None)
    finally:
        for process in processes:
            process.terminate()
            process.join()
        queue.cancel_join_thread()
        queue.close()


def _fill(queue: Any, source: Source, seed: int) -> None:
    for batch in source.batches(seed):
        queue.put(batch)
