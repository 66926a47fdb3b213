"""What both trainings share: the pictures of a work folder on a device, and a loop under a clock.

It does not know what is trained.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from .compose import Composer
from .errors import RecipeError
from .feed import SceneBatch, Source, feed
from .latents import PatchCode
from .run import Plan, half_cosine, load_checkpoint, wait_while_paused
from .sprites import Sprites

REPORT_SECONDS = 10.0


FITTED_TO = 800  # pictures that the code is fitted to


@dataclass(frozen=True)
class Training:
    """Both trainings read these; the defaults are the denoiser's on a GPU."""

    minutes: float = 120.0  # of training in this phase, over every resume
    until: float | None = None  # seconds since the epoch; ends the phase whatever `minutes` says
    again: bool = False  # begin a phase: keep the weights, forget the rest, learn fast again
    batch: int = 512
    lr: float = 2e-3
    warmup_steps: int = 100
    seed: int = 0
    device: str = "cpu"
    workers: int = 0  # processes that plan scenes and write captions
    checkpoint_seconds: float = 180.0
    max_steps: int = 10**9
    reuse: int = 1  # how often a picture is learned from, each time with other noise
    fused: bool = False  # compile the UNet: a minute at the start, then faster

    def mixed(self) -> torch.autocast:
        """bf16 where the device has it in hardware."""
        on_gpu = self.device != "cpu"
        # A graph must hold the casts of the weights: none may be left over from before.
        return torch.autocast(self.device, torch.bfloat16, enabled=on_gpu, cache_enabled=False)


class Pictures:
    """Every training picture that a folder's sprites can make."""

    def __init__(self, folder: Path, device: str) -> None:
        self.composer = Composer(Sprites.load(folder / "sprites.npz"), torch.device(device))
        self.device = torch.device(device)

    def signed(self, batch: SceneBatch) -> torch.Tensor:
        """(B, 3, SIZE, SIZE) in [-1, 1]."""
        return self.composer.draw(batch.scenes) * 2 - 1


def fit_code(folder: Path, pictures: Pictures, batches: Iterator[SceneBatch]) -> PatchCode:
    """The folder's code; fitted to training pictures if there is none."""
    if not (folder / "code.pt").exists():
        seen = torch.empty(0)
        while len(seen) < FITTED_TO:
            seen = torch.cat([seen, pictures.signed(next(batches)).cpu()])
        PatchCode.fit(seen).save(folder)
    state = load_checkpoint(folder / "code.pt")
    if state is None:
        raise RecipeError(f"{folder / 'code.pt'} cannot be read: remove it and train again")
    return PatchCode(state["weight"])


@contextmanager
def batches(folder: Path, config: Training, seed: int) -> Generator[Iterator[SceneBatch]]:
    source = Source(folder / "sprites.npz", folder / "text_encoder", config.batch)
    with feed(source, seed, config.workers) as found:
        yield found


@dataclass
class Deadline:
    """How far a run has come, over every resume."""

    steps: int = 0
    pictures: int = 0
    seconds: float = 0.0
    begun: float = 0.0  # seconds and steps at which this phase starts
    begun_step: int = 0

    def begin_phase(self) -> None:
        self.begun, self.begun_step = self.seconds, self.steps

    def rate(self, config: Training, progress: float) -> float:
        """Warm-up by steps, then half a cosine over the planned time."""
        warm = min(1.0, (self.steps - self.begun_step + 1) / config.warmup_steps)
        return config.lr * warm * half_cosine(progress)


def train_until_done(
    name: str,
    folder: Path,
    config: Training,
    clock: Deadline,
    step: Callable[[float], torch.Tensor],
    save: Callable[[], None],
) -> None:
    """Calls `step(rate)` until the plan's time is over, saving now and then and at the end."""
    plan = Plan(config.minutes, config.until)
    saved = reported = clock.seconds
    bar = tqdm(desc=name, unit="picture", initial=clock.pictures, mininterval=5.0)
    while clock.steps < config.max_steps:
        wait_while_paused(folder)
        progress = plan.progress(clock.seconds - clock.begun)
        if progress >= 1:
            break
        started = time.monotonic()
        loss = step(clock.rate(config, progress))
        clock.steps += 1
        clock.pictures += config.batch
        clock.seconds += time.monotonic() - started
        bar.update(config.batch)
        if clock.seconds - reported > REPORT_SECONDS:
            bar.write(f"{name} step {clock.steps} {clock.seconds:.0f} s loss {loss.item():.4f}")
            reported = clock.seconds
        if clock.seconds - saved > config.checkpoint_seconds:
            save()
            saved = clock.seconds
    save()
    bar.close()
