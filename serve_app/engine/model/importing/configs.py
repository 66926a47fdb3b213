"""Configs of diffusers and transformers for a single-file checkpoint, from the shapes of its tensors.

Knows which shape says what. What no shape says is as the published models have it. Imports no torch.
Source of the constants: the configs that Stability AI and Runway published with their models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from serve_app.engine.model.importing.header import Shape
from serve_app.engine.model.importing.kinds import Kind
from serve_app.errors import ModelError

Config = dict[str, Any]
Shapes = Mapping[str, Shape]

HEAD = (
    64  # width of one attention head, but for the UNets of 1.x, which have eight heads everywhere
)
SCALING = {"1": 0.18215, "2": 0.18215, "xl": 0.13025}
NATIVE = {"1": 512, "2": 512, "xl": 1024}


def native_side(kind: Kind) -> int:
    """Pixels. The checkpoints of 2.x that predict v were trained on larger pictures."""
    return 768 if kind.generation == "2" and kind.predicts != "epsilon" else NATIVE[kind.generation]


def unet_config(shapes: Shapes, kind: Kind, pooled: int = 0) -> Config:
    """`shapes`: by names without their prefix. `pooled`: width of SDXL's second text embedding."""
    levels = _levels(shapes)
    widths = [level[0][0] for level in levels]
    depths = [level[0][1] for level in levels]
    layers = len(levels[0])
    if any(len(level) != layers or len(set(level)) > 1 for level in levels):
        raise ModelError("the file's UNet is built unlike any known one: uneven levels")
    cross = next((s[1] for k, s in shapes.items() if k.endswith("attn2.to_k.weight")), 0)
    if not cross or not any(depths):
        raise ModelError("the file's UNet has no attention to text")
    config: Config = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": native_side(kind) // 8,
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": widths,
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D" if d else "DownBlock2D" for d in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if d else "UpBlock2D" for d in reversed(depths)],
        "transformer_layers_per_block": [max(1, d) for d in depths],
        "cross_attention_dim": cross,
        "attention_head_dim": 8 if kind.generation == "1" else [max(1, w // HEAD) for w in widths],
        "use_linear_projection": any(
            len(s) == 2 for k, s in shapes.items() if k.endswith("proj_in.weight")
        ),
        # In half precision the attention of 2.1 overflows.
        "upcast_attention": kind.generation == "2" and kind.predicts != "epsilon",
    }
    if "label_emb.0.0.weight" in shapes:
        passed = shapes["label_emb.0.0.weight"][1]
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (passed - pooled) // 6,
            "projection_class_embeddings_input_dim": passed,
        }
    return config


def _levels(shapes: Shapes) -> list[list[tuple[int, int]]]:
    """Of the way down: for each level, for each layer, its width and how many transformer blocks it has."""
    levels: list[list[tuple[int, int]]] = [[]]
    for number in range(1, 100):
        at = f"input_blocks.{number}."
        if f"{at}0.op.weight" in shapes:
            levels.append([])
            continue
        if f"{at}0.in_layers.2.weight" not in shapes:
            break
        blocks = {
            m[1] for k in shapes if (m := re.match(rf"{at}1\.transformer_blocks\.(\d+)\.", k))
        }
        levels[-1].append((shapes[f"{at}0.in_layers.2.weight"][0], len(blocks)))
    if not all(levels):
        raise ModelError("the file's UNet is built unlike any known one: an empty level")
    return levels


def vae_config(shapes: Shapes, kind: Kind) -> Config:
    """`shapes`: by names without their prefix, in the original layout."""
    count = _count(shapes, r"encoder\.down\.(\d+)\.")
    widths = [shapes[f"encoder.down.{i}.block.0.conv1.weight"][0] for i in range(count)]
    if not widths:
        raise ModelError("the file's VAE is built unlike any known one")
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": native_side(kind),
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": shapes["post_quant_conv.weight"][0],
        "block_out_channels": widths,
        "layers_per_block": _count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
        "down_block_types": ["DownEncoderBlock2D"] * count,
        "up_block_types": ["UpDecoderBlock2D"] * count,
        "scaling_factor": SCALING[kind.generation],
        "force_upcast": kind.generation == "xl",
    }


def clip_config(shapes: Shapes) -> Config:
    """Of OpenAI's CLIP, as transformers has it. `shapes`: by names from `text_model.` on."""
    layers = _count(shapes, r"text_model\.encoder\.layers\.(\d+)\.")
    vocabulary, width = shapes["text_model.embeddings.token_embedding.weight"]
    return _text_config(
        vocabulary,
        width,
        shapes["text_model.embeddings.position_embedding.weight"][0],
        layers,
        shapes["text_model.encoder.layers.0.mlp.fc1.weight"][0],
        "quick_gelu",
    )


def open_clip_config(shapes: Shapes, *, projected: bool) -> Config:
    """Of OpenCLIP. 2.x reads its last but one layer and so leaves the last one out; SDXL reads the same one,
    and has all of them and a projection (`projected`) for its second embedding."""
    layers = _count(shapes, r"transformer\.resblocks\.(\d+)\.")
    vocabulary, width = shapes["token_embedding.weight"]
    config = _text_config(
        vocabulary,
        width,
        shapes["positional_embedding"][0],
        layers if projected else layers - 1,
        shapes["transformer.resblocks.0.mlp.c_fc.weight"][0],
        "gelu",
    )
    if projected:
        config |= {
            "architectures": ["CLIPTextModelWithProjection"],
            "projection_dim": shapes["text_projection"][1],
        }
    return config


def _text_config(
    vocabulary: int, width: int, positions: int, layers: int, inner: int, activation: str
) -> Config:
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "projection_dim": width,
        "max_position_embeddings": positions,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // HEAD),
        "intermediate_size": inner,
        "hidden_act": activation,
        "layer_norm_eps": 1e-05,
        # As published. With 2 for the end, transformers pools at the largest token, which is the end mark.
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }


def scheduler_config(kind: Kind) -> Config:
    """The noise schedule of all Stable Diffusion models; zero terminal SNR as arXiv:2305.08891 has it."""
    config: Config = {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": kind.predicts,
        "rescale_betas_zero_snr": kind.zero_snr,
        "steps_offset": 1,
        "clip_sample": False,
        "set_alpha_to_one": False,
    }
    # The published configs of 1.x and 2.x say nothing of it, so each scheduler has its own way.
    if kind.zero_snr:
        config["timestep_spacing"] = "trailing"
    elif kind.generation == "xl":
        config["timestep_spacing"] = "leading"
    return config


def _count(shapes: Shapes, pattern: str) -> int:
    return len({m[1] for key in shapes if (m := re.match(pattern, key))})
