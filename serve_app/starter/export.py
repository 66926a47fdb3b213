"""Puts the trained parts together as an ordinary diffusers pipeline directory, in fp16.

It does not know how the parts were trained.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from .autoencoder import new_autoencoder
from .data import text_encoder_folder
from .denoiser import averaged, scheduler
from .run import RecipeError, load_checkpoint, require
from .text import load_text_encoder

WEIGHTS = Path(__file__).with_name("weights")


def trained(folder: Path, part: str) -> dict[str, Any]:
    state = load_checkpoint(require(folder / f"{part}.pt", part))
    if state is None:
        raise RecipeError(f"no readable checkpoint of the {part}: run its command again")
    return state


def assemble(folder: Path) -> StableDiffusionPipeline:
    autoencoder = new_autoencoder()
    autoencoder.load_state_dict(trained(folder, "autoencoder")["model"])
    tokenizer, text_encoder = load_text_encoder(text_encoder_folder(folder))
    parts: dict[str, Any] = {  # other classes than annotated, of the same interface
        "vae": autoencoder.eval(),
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "unet": averaged(trained(folder, "denoiser")["average"]),
        "scheduler": DDIMScheduler.from_config(scheduler().config),
        "safety_checker": None,
        "feature_extractor": None,
    }
    return StableDiffusionPipeline(**parts, requires_safety_checker=False)


def export(folder: Path, target: Path = WEIGHTS) -> None:
    """Writes beside `target` first: a cut leaves the old weights whole."""
    pipeline = assemble(folder).to(dtype=torch.float16)
    partial = target.with_name(target.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    pipeline.save_pretrained(partial, safe_serialization=True)
    for file in sorted(p for p in partial.rglob("*") if p.is_file()):
        kept = target / file.relative_to(partial)
        kept.parent.mkdir(parents=True, exist_ok=True)
        file.replace(kept)
    shutil.rmtree(partial)
