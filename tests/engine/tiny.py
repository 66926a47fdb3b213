"""Tiny checkpoints of real diffusers classes, made in memory in a second, without downloads.

Their random weights draw noise, which is enough to compare pixels.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    ControlNetModel,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerFast,
)

from serve_app.catalog.models import ModelSpec, SideLimits
from serve_app.catalog.schedulers import DIFFUSION
from serve_app.engine.costs import CostTable
from serve_app.engine.model.loading import ModelParts

WORDS = ["red", "blue", "sword", "shield", "potion", "of", "a", "icon", "stone", "wood", "blurry"]
TOKENS = 16
SIZE = 32  # pixels; latents are 8 x 8


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per word; 14 words fit between the begin and end marks."""
    vocabulary = {w: i for i, w in enumerate(["<pad>", "<unk>", "<s>", "</s>", *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    inner.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=TOKENS,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
    )


def text_config(**changes: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=4 + len(WORDS),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        **changes,
    )


def unet(**changes: Any) -> UNet2DConditionModel:
    """`attention_head_dim` is the number of heads: width 16 per head at 32 and 64 channels."""
    sizes: dict[str, Any] = {
        "sample_size": SIZE // 4,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 32,
        "attention_head_dim": (2, 4),
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**{**sizes, **changes})


def controlnet(unet: UNet2DConditionModel, seed: int = 0) -> ControlNetModel:
    """Of the UNet's family. Untrained ones add nothing, so here each weight is random."""
    torch.manual_seed(seed)
    network = ControlNetModel.from_unet(
        unet, conditioning_embedding_out_channels=(8, 16, 16), load_weights_from_unet=False
    )
    for weights in network.parameters():
        if not weights.any():
            torch.nn.init.normal_(weights, std=0.05)
    return network.eval().requires_grad_(False)


def image_encoder(projection_dim: int = 16) -> CLIPVisionModelWithProjection:
    """What an IP-Adapter reads."""
    torch.manual_seed(5)
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=37,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
            projection_dim=projection_dim,
        )
    )


def ip_adapter(unet: UNet2DConditionModel, *, tokens: int | None = None) -> dict[str, torch.Tensor]:
    """The tensors of an IP-Adapter's file for this UNet and `image_encoder`, in their published names.
    `tokens`: of one that reads all tokens of the picture (Plus); None: of one that reads their sum."""
    torch.manual_seed(6)
    width = unet.config["cross_attention_dim"]
    found: dict[str, torch.Tensor] = {}
    if tokens is None:
        found["image_proj.proj.weight"] = torch.randn(4 * width, 16) / 4
        found["image_proj.proj.bias"] = torch.randn(4 * width) / 4
        found["image_proj.norm.weight"] = torch.ones(width)
        found["image_proj.norm.bias"] = torch.zeros(width)
    else:
        inner, name = 64, "image_proj"
        found[f"{name}.latents"] = torch.randn(1, tokens, inner)
        for part, shape in {"proj_in": (inner, 32), "proj_out": (width, inner)}.items():
            found[f"{name}.{part}.weight"] = torch.randn(shape) / 8
            found[f"{name}.{part}.bias"] = torch.zeros(shape[0])
        norms = {"norm_out": width}
        for layer in range(4):
            block = f"layers.{layer}"
            norms |= dict.fromkeys((f"{block}.0.norm1", f"{block}.0.norm2", f"{block}.1.0"), inner)
            shapes = {"0.to_q": (inner, inner), "0.to_kv": (2 * inner, inner)}
            shapes |= {
                "0.to_out": (inner, inner),
                "1.1": (4 * inner, inner),
                "1.3": (inner, 4 * inner),
            }
            for part, shape in shapes.items():
                found[f"{name}.{block}.{part}.weight"] = torch.randn(shape) / 8
        for part, size in norms.items():
            found[f"{name}.{part}.weight"] = torch.ones(size)
            found[f"{name}.{part}.bias"] = torch.zeros(size)
    crossing = [name for name in unet.attn_processors if not name.endswith("attn1.processor")]
    for number, name in enumerate(crossing):
        attention: Any = unet.get_submodule(name.removesuffix(".processor"))
        size: int = attention.to_k.out_features
        for part in ("to_k_ip", "to_v_ip"):
            key = f"ip_adapter.{2 * number + 1}.{part}.weight"
            found[key] = torch.randn(size, width) / 4
    return found


def vae() -> AutoencoderKL:
    sizes: dict[str, Any] = {
        "block_out_channels": (16, 16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "latent_channels": 4,
        "sample_size": SIZE,
    }
    return AutoencoderKL(**sizes)


def scheduler() -> Any:
    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )


def pipeline(**unet_changes: Any) -> StableDiffusionPipeline:
    torch.manual_seed(0)
    return StableDiffusionPipeline(
        vae=vae(),
        text_encoder=CLIPTextModel(text_config()),
        tokenizer=tokenizer(),  # pyright: ignore[reportArgumentType]
        unet=unet(**unet_changes),
        scheduler=scheduler(),
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )


def starter_like() -> StableDiffusionPipeline:
    """A BERT text encoder that reads its attention mask, and a tiny autoencoder, 8 channels."""
    torch.manual_seed(0)
    bert = BertConfig(
        vocab_size=4 + len(WORDS),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=37,
        max_position_embeddings=TOKENS,
    )
    bert.use_attention_mask = True
    return StableDiffusionPipeline(
        vae=tiny_decoder(latent_channels=8),  # pyright: ignore[reportArgumentType]
        text_encoder=BertModel(bert),  # pyright: ignore[reportArgumentType]
        tokenizer=tokenizer(),  # pyright: ignore[reportArgumentType]
        unet=unet(in_channels=8, out_channels=8),
        scheduler=scheduler(),
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )


def xl_pipeline() -> StableDiffusionXLPipeline:
    torch.manual_seed(0)
    return StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=CLIPTextModel(text_config()),
        text_encoder_2=CLIPTextModelWithProjection(text_config(projection_dim=32)),
        tokenizer=tokenizer(),  # pyright: ignore[reportArgumentType]
        tokenizer_2=tokenizer(),  # pyright: ignore[reportArgumentType]
        unet=unet(
            cross_attention_dim=64,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 32,
            use_linear_projection=True,
        ),
        scheduler=scheduler(),
        add_watermarker=False,
    )


def tiny_decoder(latent_channels: int = 4) -> AutoencoderTiny:
    torch.manual_seed(1)
    return AutoencoderTiny(
        encoder_block_out_channels=(16, 16, 16),
        decoder_block_out_channels=(16, 16, 16),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=latent_channels,
    )


def safety_checker(*, flags: bool) -> StableDiffusionSafetyChecker:
    """One that flags every picture, or none: its threshold is below or above every possible cosine."""
    torch.manual_seed(2)
    vision: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
        "projection_dim": 16,
    }
    config = CLIPConfig(vision_config=CLIPVisionConfig(**vision).to_dict(), projection_dim=16)
    checker = StableDiffusionSafetyChecker(config)
    for weights in (checker.concept_embeds_weights, checker.special_care_embeds_weights):
        weights.data.fill_(-2.0 if flags else 2.0)
    return checker.eval()


def feature_extractor() -> CLIPImageProcessor:
    """32 x 32 pixels for the tiny safety checker."""
    square = {"height": 32, "width": 32}
    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=square)


def spec(**changes: Any) -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "name": "tiny",
            "family": "sd",
            "path": "tiny",
            "native_size": (SIZE, SIZE),
            "side": SideLimits(min=16, max=64),
            "token_limit": TOKENS,
            "steps": 5,
            "guidance_scale": 5.0,
            "schedulers": list(DIFFUSION),
            **changes,
        }
    )


def parts(pipe: Any, **spec_changes: Any) -> ModelParts:
    """What `load` would return for this pipeline, with a tiny decoder beside it."""
    for network in (pipe.unet, pipe.vae, pipe.text_encoder):
        network.eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    return ModelParts(
        spec=spec(**spec_changes),
        pipe=pipe,
        revision="0" * 12,
        device=torch.device("cpu"),
        dtype=torch.float32,
        tiny_decoder=tiny_decoder().eval().requires_grad_(False),
        made_by={"model": "tiny"},
    )


@functools.cache
def shared_parts() -> ModelParts:
    """Made once for all tests: do not change it."""
    return parts(pipeline())


class SharingCosts(CostTable):
    """More rows cost almost nothing, whatever is measured, so all requests that may share a call do."""

    def __init__(self) -> None:
        super().__init__((SIZE, SIZE), {1: 1.0, 64: 1.001})

    def observe(self, size: tuple[int, int], rows: int, seconds: float) -> None:
        pass


def save(pipe: Any, folder: Path) -> Path:
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder
