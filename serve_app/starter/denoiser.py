"""Trains the UNet that turns noise and a caption into latents; resumes, anneals by the clock.

It does not know how latents become pixels beyond the linear preview on its sample sheets.
"""

from __future__ import annotations

import math
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from tqdm import tqdm

from .captions import NATURAL, NOTHING, captions_of
from .data import SIZE, Pictures, text_encoder_folder
from .latents import CHANNELS, PATCH, PatchCode, to_signed, to_uint8
from .optimizer import optimizers
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
from .text import WIDTH, encode, load_text_encoder

SIDE = SIZE // PATCH
CAPTIONS_PLAIN, CAPTIONS_COLOURED = 16, 5  # prepared per picture, beside the names alone
SHEET_PROMPTS = (
    "a sword", "shield", "a potion bottle", "gem", "crown", "a red apple", "mushroom", "key",
    "dragon", "wolf", "castle", "bomb", "a book", "ring", "axe", "bow",
    "magic wand", "crystal ball", "gold coin", "robot", "ghost", "skull", "rocket", "a blue car",
    "pizza", "cat", "tree", "blue potion", "green gem", "purple mushroom", "treasure chest", "wizard",
)  # fmt: skip


@dataclass(frozen=True)
class Training:
    minutes: float = 120.0  # of training in this phase, over every resume
    until: float | None = None  # seconds since the epoch; ends the phase whatever `minutes` says
    again: bool = False  # begin a phase: keep the weights, forget the rest, learn fast again
    batch: int = 32
    lr: float = 1.5e-3
    warmup_steps: int = 60
    coloured: float = 0.25  # share of pictures shown in another colour
    mirrored: float = 0.0  # share shown mirrored: more variety, and longer to learn
    blended: float = 0.3  # share of captions moved towards another one of the same picture
    text_noise: float = 0.4  # largest shift of a caption, in standard deviations of the states
    unconditional: float = 0.10  # share of captions dropped, for guidance
    ema: float = 0.998
    muon: bool = True
    seed: int = 0
    threads: int = 2
    checkpoint_seconds: float = 180.0
    sheet_seconds: float = 900.0
    max_steps: int = 10**9


def scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
        timestep_spacing="trailing",  # start where training did: from nothing but noise
    )


def new_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIDE,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(64, 128, 192),
        layers_per_block=1,
        norm_num_groups=16,
        # The number of heads, whatever diffusers calls it; its annotation is wrong as well.
        attention_head_dim=(2, 4, 6),  # pyright: ignore[reportArgumentType]
        cross_attention_dim=WIDTH,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",  # the whole caption also steers every block
        addition_embed_type_num_heads=16,
    )


@dataclass
class TrainingSet:
    """Everything in memory: latents (N, V, 2, C, H, W), and which caption rows suit each view."""

    latents: torch.Tensor
    texts: torch.Tensor
    rows: list[list[range]]  # [concept][colour]
    nothing: range

    @classmethod
    def prepare(cls, folder: Path, seed: int) -> TrainingSet:
        pictures, code = Pictures.load(folder), PatchCode.load(folder)
        shape = (*pictures.views.shape[:2], 2, CHANNELS, SIDE, SIDE)
        latents = torch.empty(shape)
        for column in range(len(pictures.colours)):
            signed = to_signed(pictures.views[:, column])
            latents[:, column, 0] = code.encode(signed)
            latents[:, column, 1] = code.encode(signed.flip(-1))
        draw, captions, rows = random.Random(seed), [], []
        for concept in pictures.concepts:
            rows.append([])
            for colour in pictures.colours:
                count = CAPTIONS_PLAIN if colour == NATURAL else CAPTIONS_COLOURED
                said = captions_of(concept, colour, count, draw)
                rows[-1].append(range(len(captions), len(captions) + len(said)))
                captions += said
        nothing = range(len(captions), len(captions) + len(NOTHING))
        return cls(latents, encoded(folder, [*captions, *NOTHING]), rows, nothing)

    def sample(self, config: Training, draw: np.random.Generator) -> tuple[torch.Tensor, ...]:
        concepts = draw.integers(len(self.rows), size=config.batch)
        tinted = draw.random(config.batch) < config.coloured
        colours = np.where(tinted, draw.integers(1, len(self.rows[0]), size=config.batch), 0)
        silent = draw.random(config.batch) < config.unconditional
        suited = [
            self.nothing if none else self.rows[concept][colour]
            for concept, colour, none in zip(concepts, colours, silent, strict=True)
        ]
        mirrored = (draw.random(config.batch) < config.mirrored).astype(np.int64)
        texts = self.said(suited, config, draw, ~silent)
        return self.latents[concepts, colours, mirrored], texts

    def said(
        self, suited: list[range], config: Training, draw: np.random.Generator, moved: np.ndarray
    ) -> torch.Tensor:
        """One caption for each; where `moved`, between and around those that training holds,
        where the words lie that no caption has."""

        def one_of_each() -> torch.Tensor:
            picks = draw.random(len(suited))
            chosen = [r[int(p * len(r))] for r, p in zip(suited, picks, strict=True)]
            return self.texts[chosen].float()

        def column(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy((values * moved).astype(np.float32)).view(-1, 1, 1)

        texts, others = one_of_each(), one_of_each()
        count = len(suited)
        share = column(draw.random(count) * (draw.random(count) < config.blended))
        level = column(draw.random(count) * config.text_noise)
        shift = draw.standard_normal((count, 1, texts.shape[-1]), dtype=np.float32)
        return texts.lerp(others, share) + level * texts.std() * torch.from_numpy(shift)


def encoded(folder: Path, captions: list[str]) -> torch.Tensor:
    """Token states of `captions`; kept on disk, since the encoder is slower than the reader."""
    cache = load_checkpoint(folder / "captions.pt") or {"captions": [], "texts": torch.empty(0)}
    rows = {caption: row for row, caption in enumerate(cache["captions"])}
    missing = sorted(set(captions) - set(rows))
    if missing:
        new = encode(*load_text_encoder(text_encoder_folder(folder)), missing)
        known = [*cache["captions"], *missing]
        texts = torch.cat([cache["texts"], new]) if rows else new
        save_checkpoint(folder / "captions.pt", {"captions": known, "texts": texts})
        return encoded(folder, captions)
    return cache["texts"][[rows[caption] for caption in captions]]


def train(folder: Path, config: Training) -> None:
    seed_all(config.seed)
    data = TrainingSet.prepare(folder, config.seed)
    run = Run(config, PatchCode.load(folder), folder)
    run.resume()
    torch.set_num_threads(1)
    run.train(data)


class Run:
    """One training run: the model, its average, its optimisers, and how far it has come."""

    def __init__(self, config: Training, code: PatchCode, folder: Path) -> None:
        self.config, self.code, self.folder = config, code, folder
        self.checkpoint = folder / "denoiser.pt"
        # Two half batches side by side waste less than one batch whose every layer is shared out.
        self.pool = ThreadPoolExecutor(config.threads)
        self.unet = new_unet()
        # A quarter faster.
        self.unet.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.average = [p.detach().clone() for p in self.unet.parameters()]
        self.optimizers = optimizers(self.unet, config.lr, config.muon, self.pool)
        self.alphas = scheduler().alphas_cumprod
        self.draw = np.random.default_rng(config.seed)
        self.noise = torch.Generator().manual_seed(config.seed)
        self.steps, self.pictures, self.seconds, self.loss = 0, 0, 0.0, math.nan
        self.begun, self.begun_step = 0.0, 0  # where this phase starts

    def resume(self) -> None:
        state = load_checkpoint(self.checkpoint)
        if state is None:
            return
        current = self.unet.state_dict()
        self.unet.load_state_dict({k: widened(v, current[k]) for k, v in state["unet"].items()})
        self.average = [
            widened(old, new) for old, new in zip(state["average"], self.average, strict=True)
        ]
        self.noise.set_state(state["noise"])
        self.draw.bit_generator.state = state["draw"]
        self.steps, self.pictures = state["steps"], state["pictures"]
        self.seconds, self.loss = state["seconds"], state["loss"]
        if self.config.again:
            self.begun, self.begun_step = self.seconds, self.steps
        else:
            self.begun, self.begun_step = state["begun"], state["begun_step"]
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        print(
            f"resumed at step {self.steps}: {self.pictures} pictures, {self.seconds / 60:.1f} min"
        )

    def save(self) -> None:
        state: dict[str, Any] = {
            "unet": self.unet.state_dict(),
            "average": self.average,
            "optimizers": [o.state_dict() for o in self.optimizers],
            "noise": self.noise.get_state(),
            "draw": self.draw.bit_generator.state,
            "steps": self.steps,
            "pictures": self.pictures,
            "seconds": self.seconds,
            "loss": self.loss,
            "begun": self.begun,
            "begun_step": self.begun_step,
        }
        save_checkpoint(self.checkpoint, state)

    def train(self, data: TrainingSet) -> None:
        plan = Plan(self.config.minutes, self.config.until)
        saved = sheeted = self.seconds
        bar = tqdm(desc="denoiser", unit="picture", initial=self.pictures)
        while self.steps < self.config.max_steps:
            wait_while_paused(self.folder)
            progress = plan.progress(self.seconds - self.begun)
            if progress >= 1:
                break
            started = time.monotonic()
            loss = self.step(data, self.rate(progress))
            self.loss = loss if math.isnan(self.loss) else 0.99 * self.loss + 0.01 * loss
            self.seconds += time.monotonic() - started
            bar.update(self.config.batch)
            bar.set_postfix(loss=f"{self.loss:.4f}", minutes=f"{self.seconds / 60:.1f}")
            if self.seconds - saved > self.config.checkpoint_seconds:
                self.save()
                saved = self.seconds
            if self.seconds - sheeted > self.config.sheet_seconds:
                self.sheet(data, self.folder / f"sheets/denoiser-{self.pictures:07d}.png")
                sheeted = self.seconds
        self.save()
        bar.close()

    def rate(self, progress: float) -> float:
        """Warm-up by steps, then half a cosine over the planned time."""
        warm = min(1.0, (self.steps - self.begun_step + 1) / self.config.warmup_steps)
        return self.config.lr * warm * half_cosine(progress)

    def step(self, data: TrainingSet, rate: float) -> float:
        clean, texts = data.sample(self.config, self.draw)
        times = torch.from_numpy(self.draw.integers(0, 1000, size=len(clean)))
        noise = torch.randn(clean.shape, generator=self.noise)
        alpha = self.alphas[times].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        shards = zip(
            *(part.chunk(self.config.threads) for part in (noisy, times, texts, target)),
            strict=True,
        )
        losses, gradients = zip(*self.pool.map(self.gradients, shards), strict=True)
        for parameter, *parts in zip(self.unet.parameters(), *gradients, strict=True):
            parameter.grad = sum(parts[1:], parts[0]) / len(parts)
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        for optimizer in self.optimizers:
            optimizer.step()
        self.steps += 1
        self.pictures += len(clean)
        decay = min(self.config.ema, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for mean, parameter in zip(self.average, self.unet.parameters(), strict=True):
                mean.lerp_(parameter, 1 - decay)
        return sum(losses) / len(losses)

    def gradients(self, shard: tuple[torch.Tensor, ...]) -> tuple[float, tuple[torch.Tensor, ...]]:
        noisy, times, texts, target = shard
        predicted = self.unet(noisy, times, texts, return_dict=False)[0]
        loss = F.mse_loss(predicted, target)
        return loss.item(), torch.autograd.grad(loss, list(self.unet.parameters()))

    def sheet(self, data: TrainingSet, path: Path) -> None:
        """Draws SHEET_PROMPTS with the averaged weights and the linear decoder."""
        unet = averaged(self.average)
        texts = encode(*load_text_encoder(text_encoder_folder(self.folder)), SHEET_PROMPTS)
        empty = data.texts[data.nothing[0]].expand_as(texts)
        images = self.code.decode(draw_latents(unet, texts.float(), empty.float()))
        save_sheet(path, list(to_uint8(images)), 8)


def averaged(parameters: list[torch.Tensor]) -> UNet2DConditionModel:
    unet = new_unet().eval().requires_grad_(False)
    for mine, mean in zip(unet.parameters(), parameters, strict=True):
        mine.copy_(mean)
    return unet


@torch.inference_mode()
def draw_latents(
    unet: UNet2DConditionModel,
    texts: torch.Tensor,
    empty: torch.Tensor,
    steps: int = 20,
    guidance: float = 3.0,
    seed: int = 0,
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(len(texts), CHANNELS, SIDE, SIDE, generator=generator)
    ddim = scheduler()
    ddim.set_timesteps(steps)
    both = torch.cat([empty, texts])
    for time_step in ddim.timesteps:
        without, with_text = unet(torch.cat([latents] * 2), time_step, both).sample.chunk(2)
        predicted = without + guidance * (with_text - without)
        latents = ddim.step(predicted, int(time_step), latents, return_dict=False)[0]
    return latents
