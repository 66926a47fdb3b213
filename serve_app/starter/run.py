"""What every long command of the recipe shares: the pause lock, atomic checkpoints, sample sheets.

It does not know what is being trained.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .errors import RecipeError

PAUSE_POLL_SECONDS = 0.5


def require(path: Path, command: str) -> Path:
    """Returns `path`, or says which command makes it."""
    if not path.exists():
        raise RecipeError(f"{path} is missing: run `python -m serve_app.starter {command}` first")
    return path


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def wait_while_paused(folder: Path) -> float:
    """Blocks while `folder`/PAUSE exists, without using the CPU. Returns the seconds waited."""
    lock = folder / "PAUSE"
    started = time.monotonic()
    while lock.exists():
        time.sleep(PAUSE_POLL_SECONDS)
    return time.monotonic() - started


def clock_time(text: str) -> float:
    """`20:42` -> the seconds since the epoch of the next time that the clock shows it."""
    try:
        hour_minute = datetime.strptime(text, "%H:%M").time()
    except ValueError as error:
        raise RecipeError(f"{text!r} is not a time of day like 20:42") from error
    now = datetime.now().astimezone()
    found = datetime.combine(now.date(), hour_minute, now.tzinfo)
    return (found if found > now else found + timedelta(days=1)).timestamp()


@dataclass(frozen=True)
class Plan:
    """When a phase of training ends, by training time or by the clock; the rate anneals to it."""

    minutes: float  # of training in this phase, over every resume
    until: float | None = None  # seconds since the epoch; ends the phase whatever `minutes` says

    def progress(self, seconds: float) -> float:
        """0 at the start of the phase, 1 at its end; `seconds` of training are behind it."""
        if self.until is None:
            return seconds / (60 * self.minutes)
        left = self.until - time.time()
        return seconds / (seconds + left) if left > 0 else 1.0


def half_cosine(progress: float) -> float:
    """1 at the start, 0.02 at the end."""
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def write_atomically(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes `state`; the checkpoint before it stays beside it as `.previous`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        path.replace(previous(path))
    temporary.replace(path)


def previous(path: Path) -> Path:
    return path.with_name(path.name + ".previous")


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The newest checkpoint that reads, or None when there is none. An unreadable one is named."""
    for candidate in (path, previous(path)):
        if not candidate.exists():
            continue
        try:
            return torch.load(candidate, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises a different class for every kind of damage
            print(f"{candidate} cannot be read ({type(error).__name__}); trying an older one")
    return None


def save_sheet(path: Path, images: Sequence[np.ndarray], columns: int) -> None:
    """Writes `images` (height, width, 3; uint8; all of one size) as one PNG grid."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = image
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    Image.fromarray(sheet).save(temporary, format="PNG")
    temporary.replace(path)
