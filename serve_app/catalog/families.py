"""FAMILIES: what each family of checkpoints is made of, and what of an order it can do.

Plain data, without diffusers or torch, so that the ingress can import it. How a family is drawn is in
`engine/model/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["unet", "transformer", "any"]
"""What draws it: a UNet, a transformer, or its own diffusers pipeline step by step."""
FamilyName = Literal["sd", "sdxl", "sd3", "flux", "flux2", "qwen_image", "z_image", "sana", "any"]


@dataclass(frozen=True, slots=True)
class FamilyFacts:
    """`networks` and `plain`: the parts of a diffusers directory, with and without weights of their own."""

    pipeline: str  # class of diffusers
    networks: tuple[str, ...]
    plain: tuple[str, ...]
    optional: tuple[str, ...] = ()  # of these parts, what a checkpoint may leave out
    absent: tuple[str, ...] = ()  # parts of the pipeline that are never loaded
    kind: Kind = "transformer"
    multiple: int = 8  # pixels: the least step of a side


_ONE_ENCODER = ("transformer", "vae", "text_encoder")
_PLAIN = ("tokenizer", "scheduler")

FAMILIES: Mapping[FamilyName, FamilyFacts] = {
    "sd": FamilyFacts(
        "StableDiffusionPipeline",
        ("unet", "vae", "text_encoder"),
        _PLAIN,
        absent=("safety_checker", "feature_extractor", "image_encoder"),
        kind="unet",
    ),
    "sdxl": FamilyFacts(
        "StableDiffusionXLPipeline",
        ("unet", "vae", "text_encoder", "text_encoder_2"),
        ("tokenizer", "tokenizer_2", "scheduler"),
        absent=("feature_extractor", "image_encoder"),
        kind="unet",
    ),
    "sd3": FamilyFacts(
        "StableDiffusion3Pipeline",
        ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"),
        ("tokenizer", "tokenizer_2", "tokenizer_3", "scheduler"),
        optional=("text_encoder_3", "tokenizer_3"),
        absent=("image_encoder", "feature_extractor"),
        multiple=16,
    ),
    "flux": FamilyFacts(
        "FluxPipeline",
        ("transformer", "vae", "text_encoder", "text_encoder_2"),
        ("tokenizer", "tokenizer_2", "scheduler"),
        absent=("image_encoder", "feature_extractor"),
        multiple=16,
    ),
    "flux2": FamilyFacts("Flux2KleinPipeline", _ONE_ENCODER, _PLAIN, multiple=16),
    "qwen_image": FamilyFacts("QwenImagePipeline", _ONE_ENCODER, _PLAIN, multiple=16),
    "z_image": FamilyFacts("ZImagePipeline", _ONE_ENCODER, _PLAIN, multiple=16),
    "sana": FamilyFacts("SanaPipeline", _ONE_ENCODER, _PLAIN, multiple=32),
    "any": FamilyFacts("", (), (), kind="any"),
}
"""By the name that models.yaml gives. One latent of a transformer stands for `multiple` pixels of a side."""

UNETS: tuple[FamilyName, ...] = tuple(n for n, facts in FAMILIES.items() if facts.kind == "unet")
TRANSFORMERS: tuple[FamilyName, ...] = tuple(
    n for n, facts in FAMILIES.items() if facts.kind == "transformer"
)

ANY_PIPELINES = (
    "AuraFlowPipeline",
    "ChromaPipeline",
    "CogView3PlusPipeline",
    "CogView4Pipeline",
    "HunyuanDiTPipeline",
    "Lumina2Pipeline",
    "SanaSprintPipeline",
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
)
"""What `family: any` may name as its `pipeline`. The last two: for other schedules, as EDM."""
NEVER_LOADED = ("safety_checker", "feature_extractor", "image_encoder")
"""Of such a pipeline: an image that its checker refuses would be drawn black."""
