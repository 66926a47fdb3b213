"""Trains AutoencoderTiny to write and read the linear patch code, sharper than a linear decoder.

It does not know the denoiser; a little noise on the latents stands in for its mistakes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import nn

from .feed import SceneBatch
from .latents import CHANNELS, SCALING_FACTOR, PatchCode, to_uint8
from .run import load_checkpoint, save_checkpoint, save_sheet, seed_all
from .training import Deadline, Pictures, Training, batches, fit_code, train_until_done

NOISE = 0.15  # largest standard deviation added to the latents
ENCODER_EVERY = 8  # steps; the encoder is needed by image-to-image alone


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
    pictures = Pictures(folder, config.device)
    with batches(folder, config, seed=config.seed + 1) as some:
        run = Run(config, fit_code(folder, pictures, some), folder, pictures, some)
        run.resume()
        train_until_done("autoencoder", folder, config, run.clock, run.step, run.save)
        run.sheet()


class Run:
    """One training run: the autoencoder, its optimiser, and how far it has come."""

    def __init__(
        self,
        config: Training,
        code: PatchCode,
        folder: Path,
        pictures: Pictures,
        some: Iterator[SceneBatch],
    ) -> None:
        self.config, self.folder, self.pictures, self.some = config, folder, pictures, some
        self.code = PatchCode(code.weight.to(config.device))
        self.checkpoint = folder / "autoencoder.pt"
        self.model = new_autoencoder().to(torch.device(config.device))  # pyright: ignore[reportArgumentType]
        self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.optimizer = torch.optim.AdamW(self.model.parameters(), config.lr, betas=(0.9, 0.98))
        self.clock = Deadline()

    def resume(self) -> None:
        state = load_checkpoint(self.checkpoint)
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.clock = Deadline(**state["clock"])
        if self.config.again:
            self.clock.begin_phase()
        else:
            self.optimizer.load_state_dict(state["optimizer"])

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "clock": vars(self.clock),
        }
        save_checkpoint(self.checkpoint, state)

    def step(self, rate: float) -> torch.Tensor:
        images = self.pictures.signed(next(self.some))
        latents = self.code.encode(images)
        with self.config.mixed():
            if self.clock.steps % ENCODER_EVERY == ENCODER_EVERY - 1:
                loss = F.l1_loss(self.model.encoder(images).float(), latents / SCALING_FACTOR)
            else:
                level = NOISE * torch.rand(len(latents), 1, 1, 1, device=latents.device)
                loss = self.decoder_loss(latents + level * torch.randn_like(latents), images)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.detach()

    def decoder_loss(self, latents: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Mean L1 of the pixels and, for crisp edges, of the differences between neighbours."""
        off = self.model.decoder(latents / SCALING_FACTOR).float() - images
        edges = off.diff(dim=-1).abs().mean() + off.diff(dim=-2).abs().mean()
        return off.abs().mean() + 0.5 * edges

    @torch.inference_mode()
    def sheet(self) -> None:
        """Rows of training pictures, then what the decoder makes of their latents."""
        images = self.pictures.signed(next(self.some))[:16]
        drawn = self.model.decoder(self.code.encode(images) / SCALING_FACTOR)
        shown = [*to_uint8(images), *to_uint8(drawn.float())]
        save_sheet(self.folder / "sheets/autoencoder.png", shown, 8)
