"""What is measured: SDXL and Z-Image of their true sizes with random weights, on which speed does not depend.
On a dry run, tiny ones of the same classes.

Knows diffusers classes; nothing of clocks.
"""

from __future__ import annotations

from typing import Any

import diffusers
import torch
import transformers

from serve_app.engine.model.loading import ModelParts
from tests.engine import tiny
from tests.engine.model.dit import tiny as dit
from tests.gpu.bench import Bench

ROW = 6.761
"""TFLOP of one row of SDXL's UNet at 1024 x 1024, by FlopCounterMode; the VAE takes 10.47, the texts 0.4."""


def image_tflop(rows: float) -> float:
    """Of one image of 1024 x 1024 whose steps have so many rows in all."""
    return rows * ROW + 10.47 + 0.4


def sdxl(bench: Bench) -> Any:
    """A pipeline on the device in half precision, its VAE too: random weights do not overflow."""
    if not bench.gpu:
        return tiny.xl_pipeline()
    torch.manual_seed(0)
    words = tiny.tokenizer()
    words.model_max_length = 77
    text: dict[str, Any] = {
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    unet: dict[str, Any] = {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "layers_per_block": 2,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
    vae: dict[str, Any] = {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 1024,
        "scaling_factor": 0.13025,
        "force_upcast": False,
    }
    with torch.device(bench.device):
        network = diffusers.UNet2DConditionModel(**unet)
        torch.nn.init.zeros_(
            network.conv_out.weight
        )  # so that predictions stay finite in half precision
        first = transformers.CLIPTextConfig(
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            **text,
        )
        second = transformers.CLIPTextConfig(
            hidden_size=1280,
            intermediate_size=5120,
            num_hidden_layers=32,
            num_attention_heads=20,
            projection_dim=1280,
            hidden_act="gelu",
            **text,
        )
        pipe = diffusers.StableDiffusionXLPipeline(
            vae=diffusers.AutoencoderKL(**vae),
            text_encoder=transformers.CLIPTextModel(first),
            text_encoder_2=transformers.CLIPTextModelWithProjection(second),
            tokenizer=words,  # pyright: ignore[reportArgumentType]
            tokenizer_2=words,  # pyright: ignore[reportArgumentType]
            unet=network,
            scheduler=tiny.scheduler(),
            add_watermarker=False,
        )
    return pipe.to(bench.half)


def parts_of(bench: Bench, pipe: Any, family: str, side: int, **changes: Any) -> ModelParts:
    """As `load` returns them. `side`: pixels of the native size."""
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(requires_grad=False)
    pipe.set_progress_bar_config(disable=True)
    usual: dict[str, Any] = {
        "family": family,
        "native_size": (side, side),
        "side": {"min": 16, "max": 2048},
        "token_limit": 77 if bench.gpu else tiny.TOKENS,
    }
    return ModelParts(
        spec=tiny.spec(**{**usual, **changes}),
        pipe=pipe,
        revision="0" * 12,
        device=bench.device,
        dtype=next(iter(pipe.components["vae"].parameters())).dtype,
        made_by={"model": family},
    )


def z_image(bench: Bench) -> Any:
    """Its transformer of 6 billion weights, and a text encoder of the same width with two layers."""
    if not bench.gpu:
        return dit.z_image()
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=4 + len(tiny.WORDS),
        hidden_size=2560,
        intermediate_size=9728,
        num_hidden_layers=2,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        pad_token_id=0,
        eos_token_id=3,
    )
    vae: dict[str, Any] = {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 16,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(bench.device):
            transformer = diffusers.ZImageTransformer2DModel()
            text = transformers.Qwen3Model(config)
            decoder = diffusers.AutoencoderKL(**vae)
    finally:
        torch.set_default_dtype(before)
    return diffusers.ZImagePipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=decoder,
        text_encoder=text,
        tokenizer=dit.tokenizer(chat_template=dit.CHAT),
    )
