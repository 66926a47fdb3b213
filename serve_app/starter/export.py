"""Puts the trained parts together as an ordinary diffusers pipeline directory, in half precision.

It does not know how the parts were trained.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from .autoencoder import new_autoencoder
from .denoiser import averaged, scheduler
from .errors import RecipeError
from .run import load_checkpoint, require, save_checkpoint
from .text import in_eight_bits, load_text_encoder

SHARD_BYTES = 15_000_000
WEIGHTS = Path(__file__).with_name("weights")


def trained(folder: Path, part: str) -> dict[str, Any]:
    state = load_checkpoint(require(folder / f"{part}.pt", part))
    if state is None:
        raise RecipeError(f"no readable checkpoint of the {part}: run its command again")
    return state


def assemble(folder: Path) -> StableDiffusionPipeline:
    autoencoder = new_autoencoder()
    autoencoder.load_state_dict(trained(folder, "autoencoder")["model"])
    tokenizer, text_encoder = load_text_encoder(folder / "text_encoder")
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
    in_eight_bits(partial / "text_encoder")
    for file in sorted(p for p in partial.rglob("*") if p.is_file()):
        kept = target / file.relative_to(partial)
        kept.parent.mkdir(parents=True, exist_ok=True)
        file.replace(kept)
    shutil.rmtree(partial)


def pack(folder: Path, target: Path) -> None:
    """Writes the averaged UNet in fp16 files below 16 MB, for machines that hand back no larger ones."""
    target.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, torch.Tensor]] = [{}]
    room = SHARD_BYTES
    for number, tensor in enumerate(trained(folder, "denoiser")["average"]):
        half = tensor.half().contiguous()
        if half.nbytes > room:
            shards.append({})
            room = SHARD_BYTES
        shards[-1][f"{number:04d}"] = half
        room -= half.nbytes
    for number, shard in enumerate(shards):
        save_file(shard, target / f"denoiser-{number}.safetensors")


def unpack(source: Path, folder: Path) -> None:
    """Reads what `pack` wrote into a checkpoint that `export` takes; training cannot go on from it."""
    tensors: dict[str, torch.Tensor] = {}
    for shard in sorted(source.glob("denoiser-*.safetensors")):
        tensors |= load_file(shard)
    if not tensors:
        raise RecipeError(f"{source} holds no denoiser-*.safetensors")
    average = [tensors[name].float() for name in sorted(tensors)]
    save_checkpoint(folder / "denoiser.pt", {"average": average})
