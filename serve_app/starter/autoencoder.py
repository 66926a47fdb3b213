"""Trains AutoencoderTiny to write and read the linear patch code, sharper than a linear decoder.

It does not know the denoiser; a little noise on the latents stands in for its mistakes.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import nn
from tqdm import tqdm

from .data import Pictures
from .latents import CHANNELS, SCALING_FACTOR, PatchCode, to_signed, to_uint8
from .run import (
    Plan,
    half_cosine,
    load_checkpoint,
    save_checkpoint,
    save_sheet,
    seed_all,
    wait_while_paused,
    widened,
)


@dataclass(frozen=True)
class Training:
    minutes: float = 12.0  # of training in this phase, over every resume
    until: float | None = None  # seconds since the epoch; ends the phase whatever `minutes` says
    again: bool = False  # begin a phase: keep the weights, forget the rest, learn fast again
    batch: int = 2  # whole pictures
    lr: float = 2e-3
    warmup_steps: int = 30
    noise: float = 0.15  # largest standard deviation added to the latents
    encoder_share: float = 0.1  # of the steps train the encoder, which only img2img needs
    seed: int = 0
    threads: int = 2
    checkpoint_seconds: float = 120.0
    max_steps: int = 10**9


def new_autoencoder() -> AutoencoderTiny:
    model = AutoencoderTiny(
        latent_channels=CHANNELS,
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        num_encoder_blocks=(1, 2, 2, 2),
        num_decoder_blocks=(3, 2, 1, 1),
        scaling_factor=SCALING_FACTOR,
    )
    last: Any = model.decoder.layers[-1]
    nn.init.ones_(last.bias)  # start from a white page
    return model


def train(folder: Path, config: Training) -> None:
    seed_all(config.seed)
    torch.set_num_threads(config.threads)
    pictures = Pictures.load(folder)
    run = Run(config, PatchCode.load(folder), folder)
    run.resume()
    run.train(pictures)


class Run:
    """One training run: the autoencoder, its optimiser, and how far it has come."""

    def __init__(self, config: Training, code: PatchCode, folder: Path) -> None:
        self.config, self.code, self.folder = config, code, folder
        self.checkpoint = folder / "autoencoder.pt"
        self.model = new_autoencoder()
        self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        parameters = self.model.parameters()
        self.optimizer = torch.optim.AdamW(parameters, config.lr, betas=(0.9, 0.98))
        self.draw = np.random.default_rng(config.seed)
        self.noise = torch.Generator().manual_seed(config.seed)
        self.steps, self.seconds = 0, 0.0
        self.begun, self.begun_step = 0.0, 0  # where this phase starts
        self.l1 = math.nan  # of the decoded pictures, on [-1, 1]

    def resume(self) -> None:
        state = load_checkpoint(self.checkpoint)
        if state is None:
            return
        current = self.model.state_dict()
        self.model.load_state_dict({k: widened(v, current[k]) for k, v in state["model"].items()})
        self.draw.bit_generator.state = state["draw"]
        self.noise.set_state(state["noise"])
        self.steps, self.seconds, self.l1 = state["steps"], state["seconds"], state["l1"]
        if self.config.again:
            self.begun, self.begun_step = self.seconds, self.steps
        else:
            self.begun, self.begun_step = state["begun"], state["begun_step"]
            self.optimizer.load_state_dict(state["optimizer"])
        print(f"resumed at step {self.steps}: {self.seconds / 60:.1f} min, L1 {self.l1:.4f}")

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "draw": self.draw.bit_generator.state,
            "noise": self.noise.get_state(),
            "steps": self.steps,
            "seconds": self.seconds,
            "l1": self.l1,
            "begun": self.begun,
            "begun_step": self.begun_step,
        }
        save_checkpoint(self.checkpoint, state)

    def train(self, pictures: Pictures) -> None:
        plan = Plan(self.config.minutes, self.config.until)
        saved = self.seconds
        bar = tqdm(desc="autoencoder", unit="step", initial=self.steps)
        while self.steps < self.config.max_steps:
            wait_while_paused(self.folder)
            progress = plan.progress(self.seconds - self.begun)
            if progress >= 1:
                break
            started = time.monotonic()
            self.step(self.batch(pictures), self.rate(progress))
            self.seconds += time.monotonic() - started
            bar.update()
            bar.set_postfix(l1=f"{self.l1:.4f}", minutes=f"{self.seconds / 60:.1f}")
            if self.seconds - saved > self.config.checkpoint_seconds:
                self.save()
                saved = self.seconds
        self.save()
        self.sheet(pictures)
        bar.close()

    def batch(self, pictures: Pictures) -> torch.Tensor:
        count, colours = pictures.views.shape[:2]
        rows = self.draw.integers(count, size=self.config.batch)
        tinted = self.draw.random(self.config.batch) < 0.4
        columns = np.where(tinted, self.draw.integers(1, colours, size=self.config.batch), 0)
        images = to_signed(
            np.stack([pictures.views[r, c] for r, c in zip(rows, columns, strict=True)])
        )
        return images.flip(-1) if self.draw.random() < 0.5 else images

    def rate(self, progress: float) -> float:
        warm = min(1.0, (self.steps - self.begun_step + 1) / self.config.warmup_steps)
        return self.config.lr * warm * half_cosine(progress)

    def step(self, images: torch.Tensor, rate: float) -> None:
        latents = self.code.encode(images)
        if self.draw.random() < self.config.encoder_share:
            loss = F.l1_loss(self.model.encoder(images), latents / SCALING_FACTOR)
        else:
            level = self.config.noise * self.draw.random()
            noise = torch.randn(latents.shape, generator=self.noise)
            loss = self.decoder_loss(latents + level * noise, images)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1

    def decoder_loss(self, latents: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Mean L1 of the pixels and, for crisp edges, of the differences between neighbours."""
        drawn = self.model.decoder(latents / SCALING_FACTOR)
        off = drawn - images
        pixels = off.abs().mean()
        self.l1 = pixels.item() if math.isnan(self.l1) else 0.98 * self.l1 + 0.02 * pixels.item()
        return pixels + 0.5 * (off.diff(dim=-1).abs().mean() + off.diff(dim=-2).abs().mean())

    @torch.inference_mode()
    def sheet(self, pictures: Pictures) -> None:
        """Rows of originals, then what the decoder makes of their latents."""
        originals = np.asarray(pictures.views[:: max(1, len(pictures.views) // 8), 0])[:8]
        latents = self.code.encode(to_signed(originals))
        drawn = self.model.decoder(latents / SCALING_FACTOR)
        save_sheet(self.folder / "sheets/autoencoder.png", [*originals, *to_uint8(drawn)], 8)
