"""Trains the UNet that turns noise and a caption into latents; resumes, anneals by the clock.

It does not know how latents become pixels beyond the linear preview on its sample sheet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import BertModel

from .errors import RecipeError
from .feed import SceneBatch
from .graph import Captured
from .latents import CHANNELS, PATCH, PatchCode, to_uint8
from .optimizer import optimizers
from .run import load_checkpoint, save_checkpoint, save_sheet, seed_all
from .shelf import Shelf
from .sprites import SIZE
from .text import WIDTH, load_text_encoder, states
from .tokens import load_tokens, token_ids
from .training import Deadline, Pictures, Training, batches, fit_code, train_until_done

SIDE = SIZE // PATCH
SHELVES = 16  # batches on the shelf for each time that a picture is learned from
RECIPE = 2  # of checkpoints; another recipe's cannot go on
SHEET_SUBJECTS = (
    "a sword",
    "a chest",
    "a red potion",
    "a dragon",
    "an icy key",
    "a cat and a bomb",
)
SHEET_STYLES = (
    "{}, game icon", "{}, flat icon", "{}, silhouette", "{}, pixel art icon", "{}, pixel art character",
)  # fmt: skip
SHEET_TILES = ("grass floor, seamless tile", "brick wall, seamless tile")


@dataclass(frozen=True)
class Captioning:
    """What is done to captions so that words which no caption holds lie among those that one does."""

    blended: float = 1.0  # share of the captions given twice that are moved towards the other
    noise: float = 0.3  # largest shift of a caption, in standard deviations of the states
    ema: float = 0.999


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
        block_out_channels=(96, 160, 192),
        layers_per_block=1,
        norm_num_groups=16,
        # The number of heads, whatever diffusers calls it; its annotation is wrong as well.
        attention_head_dim=(3, 5, 6),  # pyright: ignore[reportArgumentType]
        cross_attention_dim=WIDTH,
        # Words are read at every size: where two objects stand side by side is told by the finest.
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",  # the whole caption also steers every block
        addition_embed_type_num_heads=16,
    )


def train(folder: Path, config: Training) -> None:
    seed_all(config.seed)
    torch.backends.cudnn.benchmark = True
    with batches(folder, config, seed=config.seed + 2) as some:
        pictures = Pictures(folder, config.device)
        encoder = load_text_encoder(folder / "text_encoder")[1].to(torch.device(config.device))  # pyright: ignore[reportArgumentType]
        code = fit_code(folder, pictures, some)
        run = Run(config, code, folder, pictures, encoder, Captioning())
        run.resume()
        train_until_done(
            "denoiser", folder, config, run.clock, lambda rate: run.step(some, rate), run.save
        )
        run.sheet()


class Run:
    """One training run: the model, its average, its optimisers, and how far it has come."""

    def __init__(
        self,
        config: Training,
        code: PatchCode,
        folder: Path,
        pictures: Pictures,
        encoder: BertModel,
        captioning: Captioning,
    ) -> None:
        self.config, self.folder, self.pictures = config, folder, pictures
        self.captioning, self.encoder = captioning, encoder
        self.code = PatchCode(code.weight.to(config.device))
        self.checkpoint = folder / "denoiser.pt"
        self.unet = new_unet().to(torch.device(config.device))  # pyright: ignore[reportArgumentType]
        self.unet.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.parameters: list[torch.Tensor] = list(self.unet.parameters())
        self.shelf = Shelf(config.batch * (SHELVES * config.reuse if config.reuse > 1 else 1))
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimizers, self.rate = optimizers(self.unet, config.lr)
        self.decay = torch.zeros((), device=config.device)
        self.alphas = scheduler().alphas_cumprod.to(config.device)
        self.noise = torch.Generator(config.device).manual_seed(config.seed)
        self.predict: Any = torch.compile(self.unet) if config.fused else self.unet
        self.update = Captured(self._update) if config.device == "cuda" else self._update
        self.clock = Deadline()

    def resume(self) -> None:
        state = load_checkpoint(self.checkpoint)
        if state is None:
            return
        if state.get("recipe") != RECIPE:
            raise RecipeError(
                f"{self.checkpoint} is of another recipe and cannot go on: use another --folder"
            )
        self.unet.load_state_dict(state["unet"])
        self.average = [saved.to(self.config.device) for saved in state["average"]]
        self.clock = Deadline(**state["clock"])
        self.noise.set_state(state["noise"])
        if self.config.again:
            self.clock.begin_phase()
            return
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
            for group in optimizer.param_groups:
                group["lr"] = self.rate

    def save(self) -> None:
        state: dict[str, Any] = {
            "recipe": RECIPE,
            "unet": self.unet.state_dict(),
            "average": self.average,
            "optimizers": [o.state_dict() for o in self.optimizers],
            "noise": self.noise.get_state(),
            "clock": vars(self.clock),
        }
        save_checkpoint(self.checkpoint, state)

    def step(self, some: Iterator[SceneBatch], rate: float) -> torch.Tensor:
        if isinstance(self.update, Captured):
            with self.update.beside():
                inputs = self.inputs(some)
        else:
            inputs = self.inputs(some)
        self.rate.fill_(rate)
        done = self.clock.steps - self.clock.begun_step
        self.decay.fill_(min(self.captioning.ema, (1 + done) / (10 + done)))
        return self.update(*inputs)

    def inputs(self, some: Iterator[SceneBatch]) -> tuple[torch.Tensor, ...]:
        """Noisy latents, times, caption states and what the UNet shall predict."""
        if self.clock.steps % self.config.reuse == 0 or not self.shelf.filled:
            batch = next(some)
            clean = self.code.encode(self.pictures.signed(batch))
            self.shelf.put(clean, *self.said(batch))
        clean, texts, spoken = self.shelf.draw(self.config.batch, self.noise)
        texts = self.shifted(texts, spoken)
        count, device = len(clean), clean.device
        # Spread evenly over a batch: the loss of few times says little of the others.
        places = torch.arange(count, device=device) + self.random(count)
        times = (places * (1000 / count)).long().clamp(max=999)
        noise = torch.randn(clean.shape, generator=self.noise, device=device)
        alpha = self.alphas[times].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        return noisy.contiguous(memory_format=torch.channels_last), times, texts, target

    def _update(
        self, noisy: torch.Tensor, times: torch.Tensor, texts: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        self.unet.zero_grad()
        with self.config.mixed():
            predicted = self.predict(noisy, times, texts, return_dict=False)[0]
        loss = F.mse_loss(predicted.float(), target)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        for optimizer in self.optimizers:
            optimizer.step()
        with torch.no_grad():
            away = torch._foreach_sub(self.parameters, self.average)
            torch._foreach_mul_(away, 1 - self.decay)
            torch._foreach_add_(self.average, away)
        return loss.detach()

    def said(self, batch: SceneBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Caption states, some between two captions of one picture; and which say anything."""
        device = self.config.device
        ids = torch.from_numpy(batch.ids).to(device).long()
        others = torch.from_numpy(batch.other_ids).to(device).long()
        with self.config.mixed():
            found = states(self.encoder, torch.cat([ids, others])).float()
        texts, other = found[: len(ids)], found[len(ids) :]
        few = len(other)
        if few:
            share = self.random(few, 1, 1) * (self.random(few, 1, 1) < self.captioning.blended)
            texts[:few] = texts[:few].lerp(other, share)
        return texts, (ids != 0).sum(1) > 2

    def shifted(self, texts: torch.Tensor, spoken: torch.Tensor) -> torch.Tensor:
        """All a little beside; not what guidance starts from: it must be as when drawing."""
        level = self.random(len(texts), 1, 1) * self.captioning.noise * spoken.view(-1, 1, 1)
        shift = torch.randn(len(texts), 1, WIDTH, generator=self.noise, device=texts.device)
        return texts + level * texts.std() * shift

    def random(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self.noise, device=self.config.device)

    def sheet(self) -> None:
        """Draws some subjects in every style with the averaged weights and the linear decoder."""
        prompts = [style.format(s) for style in SHEET_STYLES for s in SHEET_SUBJECTS]
        prompts += [*SHEET_TILES] * (len(SHEET_SUBJECTS) // len(SHEET_TILES))
        unet = averaged(self.average).to(torch.device(self.config.device))  # pyright: ignore[reportArgumentType]
        tokens = load_tokens(self.folder / "text_encoder")
        ids = torch.from_numpy(token_ids(tokens, [*prompts, ""])).to(self.config.device).long()
        found = states(self.encoder, ids)
        latents = draw_latents(unet, found[:-1], found[-1:].expand_as(found[:-1]))
        images = list(to_uint8(self.code.decode(latents)))
        save_sheet(self.folder / "sheets/denoiser.png", images, len(SHEET_SUBJECTS))


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
    latents = torch.randn(len(texts), CHANNELS, SIDE, SIDE, generator=generator).to(texts)
    ddim = scheduler()
    ddim.set_timesteps(steps)
    both = torch.cat([empty, texts])
    for time_step in ddim.timesteps:
        without, with_text = unet(torch.cat([latents] * 2), time_step, both).sample.chunk(2)
        predicted = without + guidance * (with_text - without)
        latents = ddim.step(predicted, int(time_step), latents, return_dict=False)[0]
    return latents
