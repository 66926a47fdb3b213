"""The layout of the original Stable Diffusion code, in which people pass checkpoints on: a pipeline of
diffusers written the other way round, so that an import can be compared with what it came from.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from serve_app.engine.model.importing.tokenizer import END, write_tokenizer

Tensors = dict[str, Tensor]

UNET_NAMES = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


# ---- small pipelines that are built like the published ones ----


def pipeline(kind: str, folder: Path) -> Any:
    """`kind`: 1, 2 or xl. `folder`: where its tokenizer may be written."""
    torch.manual_seed(0)
    schedule: dict[str, Any] = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
    if kind == "xl":
        schedule["timestep_spacing"] = "leading"
    parts: dict[str, Any] = {
        "vae": _vae(0.13025 if kind == "xl" else 0.18215, kind == "xl"),
        "scheduler": DDIMScheduler(**schedule),
    }
    first = _text(64, "gelu" if kind == "2" else "quick_gelu", layers=2)
    parts["text_encoder"] = CLIPTextModel(first)
    parts["tokenizer"] = _tokenizer(folder / "one", "!" if kind == "2" else END)
    if kind != "xl":
        heads: Any = 8 if kind == "1" else (1, 2)
        parts["unet"] = _unet(64, heads, use_linear_projection=kind == "2")
        parts |= {"safety_checker": None, "feature_extractor": None}
        pipe: Any = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    else:
        second = _text(64, "gelu", layers=3, projection_dim=48)
        parts["text_encoder_2"] = CLIPTextModelWithProjection(second)
        parts["tokenizer_2"] = _tokenizer(folder / "two", "!")
        parts["unet"] = _unet(
            128,
            (1, 2),
            use_linear_projection=True,
            transformer_layers_per_block=(1, 2),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 48,
        )
        pipe = StableDiffusionXLPipeline(**parts, add_watermarker=False)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if (network := getattr(pipe, part, None)) is not None:
            network.eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _unet(cross: int, heads: Any, **changes: Any) -> UNet2DConditionModel:
    sizes: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (64, 128),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": cross,
        "attention_head_dim": heads,
    }
    return UNet2DConditionModel(**{**sizes, **changes})


def _vae(scaling: float, upcast: bool) -> AutoencoderKL:
    sizes: dict[str, Any] = {
        "block_out_channels": (32, 32, 64),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 1,
        "scaling_factor": scaling,
        "force_upcast": upcast,
    }
    return AutoencoderKL(**sizes)


def _text(width: int, activation: str, layers: int, **changes: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=1,
        max_position_embeddings=77,
        hidden_act=activation,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
        **changes,
    )


def _tokenizer(folder: Path, padding: str) -> CLIPTokenizer:
    write_tokenizer(folder, padding=padding)
    return CLIPTokenizer.from_pretrained(folder)


# ---- the same in one file ----


def save(
    pipe: Any, kind: str, path: Path, extra: Tensors | None = None, *, vae: bool = True
) -> Path:
    """`extra`: further tensors by name, as the empty marks of trainers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors_of(pipe, kind, vae=vae) | (extra or {}), path)
    return path


def tensors_of(pipe: Any, kind: str, *, vae: bool = True) -> Tensors:
    found = {f"model.diffusion_model.{k}": v for k, v in unet_tensors(pipe.unet).items()}
    if vae:
        found |= {f"first_stage_model.{k}": v for k, v in vae_tensors(pipe.vae).items()}
    one = pipe.text_encoder.state_dict()
    if kind == "2":
        found |= _open_clip(one, "cond_stage_model.model.", last=True)
    else:
        prefix = "conditioner.embedders.0" if kind == "xl" else "cond_stage_model"
        found |= {
            f"{prefix}.transformer.text_model.{k.removeprefix('text_model.')}": v
            for k, v in one.items()
        }
    if kind == "xl":
        two = pipe.text_encoder_2.state_dict()
        found |= _open_clip(two, "conditioner.embedders.1.model.", last=False)
    return {k: v.contiguous().clone() for k, v in found.items()}


def unet_tensors(unet: Any) -> Tensors:
    each = unet.config.layers_per_block + 1
    types = unet.config.up_block_types

    def renamed(key: str) -> str:
        for ours, theirs in UNET_NAMES.items():
            key = re.sub(rf"^{re.escape(ours)}(?=\.)", theirs, key)
        if m := re.match(r"down_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*)", key):
            place = each * int(m[1]) + int(m[3]) + 1
            key = f"input_blocks.{place}.{int(m[2] == 'attentions')}.{m[4]}"
        elif m := re.match(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.(.*)", key):
            key = f"input_blocks.{each * (int(m[1]) + 1)}.0.op.{m[2]}"
        elif m := re.match(r"up_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*)", key):
            place = each * int(m[1]) + int(m[3])
            key = f"output_blocks.{place}.{int(m[2] == 'attentions')}.{m[4]}"
        elif m := re.match(r"up_blocks\.(\d+)\.upsamplers\.0\.conv\.(.*)", key):
            after = 2 if types[int(m[1])].startswith("CrossAttn") else 1
            key = f"output_blocks.{each * (int(m[1]) + 1) - 1}.{after}.conv.{m[2]}"
        for ours, theirs in RESNET.items():
            key = re.sub(
                rf"((?:put_blocks\.\d+\.0|middle_block\.[02])\.){ours}\.", rf"\1{theirs}.", key
            )
        return key

    return {renamed(key): value for key, value in unet.state_dict().items()}


def vae_tensors(vae: Any) -> Tensors:
    last = len(vae.config.block_out_channels) - 1
    found: Tensors = {}
    for key, value in vae.state_dict().items():
        new = re.sub(
            r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)", r"encoder.down.\1.block.\2", key
        )
        new = re.sub(
            r"encoder\.down_blocks\.(\d+)\.downsamplers\.0", r"encoder.down.\1.downsample", new
        )
        new = re.sub(
            r"decoder\.up_blocks\.(\d+)\.", lambda m: f"decoder.up.{last - int(m[1])}.", new
        )
        new = re.sub(r"(up\.\d+)\.resnets\.", r"\1.block.", new)
        new = re.sub(r"(up\.\d+)\.upsamplers\.0", r"\1.upsample", new)
        new = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        if "mid_block.attentions.0." in new:
            new = new.replace("mid_block.attentions.0.", "mid.attn_1.")
            for ours, theirs in VAE_ATTENTION.items():
                new = new.replace(f".{ours}.", f".{theirs}.")
            if value.ndim == 2:
                value = value[:, :, None, None]
        found[new.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")] = (
            value
        )
    return found


def _open_clip(state: Tensors, prefix: str, *, last: bool) -> Tensors:
    """`last`: with one more layer, which models of 2.x do not read."""
    state = {k.removeprefix("text_model."): v for k, v in state.items()}
    found: Tensors = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "logit_scale": torch.tensor(4.6),
    }
    if "text_projection.weight" in state:
        found["text_projection"] = state["text_projection.weight"].T
    count = 1 + max(int(m[1]) for k in state if (m := re.match(r"encoder\.layers\.(\d+)", k)))
    for layer in range(count):
        at, to = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for end in ("weight", "bias"):
            for ours, theirs in OPEN_CLIP.items():
                found[f"{to}{theirs}.{end}"] = state[f"{at}{ours}.{end}"]
            parts = [state[f"{at}self_attn.{x}_proj.{end}"] for x in "qkv"]
            found[f"{to}attn.in_proj_{end}"] = torch.cat(parts)
    if last:
        of = f"transformer.resblocks.{count - 1}."
        found |= {
            k.replace(of, f"transformer.resblocks.{count}."): torch.zeros_like(v)
            for k, v in found.items()
            if k.startswith(of)
        }
    return {prefix + key: value for key, value in found.items()}
