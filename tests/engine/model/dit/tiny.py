"""Tiny checkpoints of the real classes of each transformer family, saved once in a session and then loaded.

Their random weights draw noise, which is enough to compare pixels.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from serve_app.catalog.families import FAMILIES, FamilyName
from serve_app.catalog.models import ModelSpec, SideLimits
from serve_app.engine.model.loading import ModelParts, load
from tests.engine import tiny

WIDTH = 32  # of all texts
TOKENS = 12  # that an encoder of a long text reads


def tokenizer(**marks: str) -> Any:
    """One token per word, with an end mark."""
    words = ["<pad>", "<unk>", "<s>", "</s>", *tiny.WORDS]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    inner.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="$A </s>", special_tokens=[("</s>", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=512,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="</s>",
        **marks,
    )


def clip() -> Any:
    return transformers.CLIPTextModelWithProjection(tiny.text_config(projection_dim=16))


def t5() -> Any:
    config = transformers.T5Config(
        vocab_size=4 + len(tiny.WORDS),
        d_model=WIDTH,
        d_ff=37,
        d_kv=8,
        num_layers=2,
        num_heads=4,
        pad_token_id=0,
        eos_token_id=3,
    )
    return transformers.T5EncoderModel(config)


def vae(**changes: Any) -> Any:
    """Factor 8, as of all these families; `changes` may give it a shift."""
    sizes: dict[str, Any] = {
        "block_out_channels": (8, 8, 8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "sample_size": 64,
    }
    return diffusers.AutoencoderKL(**{**sizes, **changes})


def shifted_vae() -> Any:
    return vae(
        scaling_factor=1.5, shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False
    )


def random_everywhere(network: torch.nn.Module) -> Any:
    """No weight is zero, as some are before training: they would hide what a call is given."""
    for weights in network.parameters():
        if not weights.any():
            torch.nn.init.normal_(weights, std=0.2)
    return network


def sd3() -> Any:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        caption_projection_dim=32,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=32,
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=random_everywhere(transformer),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=shifted_vae(),
        text_encoder=clip(),
        tokenizer=tiny.tokenizer(),  # pyright: ignore[reportArgumentType]
        text_encoder_2=clip(),
        tokenizer_2=tiny.tokenizer(),  # pyright: ignore[reportArgumentType]
        text_encoder_3=t5(),
        tokenizer_3=tokenizer(),
    )


def flux(*, guidance: bool = True) -> Any:
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=guidance,
    )
    return diffusers.FluxPipeline(
        transformer=random_everywhere(transformer),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        vae=shifted_vae(),
        text_encoder=transformers.CLIPTextModel(tiny.text_config()),
        tokenizer=tiny.tokenizer(),  # pyright: ignore[reportArgumentType]
        text_encoder_2=t5(),
        tokenizer_2=tokenizer(),
    )


CHAT = (
    "{% for message in messages %}user {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}potion{% endif %}"
)


def qwen3(layers: int = 2) -> Any:
    config = transformers.Qwen3Config(
        vocab_size=4 + len(tiny.WORDS),
        hidden_size=WIDTH,
        intermediate_size=37,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        pad_token_id=0,
        eos_token_id=3,
    )
    return transformers.Qwen3ForCausalLM(config)


def flux2(*, distilled: bool = False) -> Any:
    """Its pipeline reads layers 9, 18 and 27 of the text encoder."""
    transformer = diffusers.Flux2Transformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * WIDTH,
        timestep_guidance_channels=256,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    decoder = diffusers.AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=64,
    )
    assert decoder.bn.running_mean is not None
    assert decoder.bn.running_var is not None
    decoder.bn.running_mean.normal_()
    decoder.bn.running_var.uniform_(0.5, 2)
    return diffusers.Flux2KleinPipeline(
        transformer=random_everywhere(transformer),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=decoder,
        text_encoder=qwen3(28),
        tokenizer=tokenizer(chat_template=CHAT),
        is_distilled=distilled,
    )


def qwen_image() -> Any:
    text: dict[str, Any] = {
        "hidden_size": WIDTH,
        "intermediate_size": 37,
        "num_attention_heads": 2,
        "vocab_size": 8 + len(tiny.WORDS),
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]},
        "pad_token_id": 0,
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2}
    marks: dict[str, Any] = {
        "vision_start_token_id": 15,
        "vision_end_token_id": 16,
        "image_token_id": 18,
        "video_token_id": 18,
    }
    config = transformers.Qwen2_5_VLConfig(
        text_config=text, vision_config={**vision, "out_hidden_size": WIDTH}, **marks
    )
    transformer = diffusers.QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(8, 4, 4),
    )
    decoder = diffusers.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.1, 0.9, 1.3, 0.7],
    )
    return diffusers.QwenImagePipeline(
        transformer=random_everywhere(transformer),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, shift_terminal=0.02
        ),
        vae=decoder,
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(config),
        tokenizer=tokenizer(),
    )


def z_image() -> Any:
    transformer = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 64, 64],
    )
    return diffusers.ZImagePipeline(
        transformer=random_everywhere(transformer),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=shifted_vae(),
        text_encoder=qwen3().model,
        tokenizer=tokenizer(chat_template=CHAT),
    )


def sana() -> Any:
    transformer = diffusers.SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=WIDTH,
        sample_size=32,
    )
    levels: dict[str, Any] = {
        f"{side}_{what}": value
        for side in ("encoder", "decoder")
        for what, value in (
            ("block_out_channels", (8,) * 6),
            ("layers_per_block", (1,) * 6),
            ("qkv_multiscales", ((),) * 6),
            ("block_types", ("ResBlock",) * 5 + ("EfficientViTBlock",)),
        )
    }
    config = transformers.Gemma2Config(
        vocab_size=4 + len(tiny.WORDS),
        hidden_size=WIDTH,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        pad_token_id=0,
        eos_token_id=3,
        bos_token_id=2,
    )
    return diffusers.SanaPipeline(
        transformer=random_everywhere(transformer),
        scheduler=diffusers.DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        vae=diffusers.AutoencoderDC(
            latent_channels=4, attention_head_dim=4, scaling_factor=0.4, **levels
        ),
        text_encoder=transformers.Gemma2Model(config),  # pyright: ignore[reportArgumentType]
        tokenizer=tokenizer(),
    )


MADE: Mapping[str, Callable[[], Any]] = {
    "sd3": sd3,
    "flux": flux,
    "schnell": functools.partial(flux, guidance=False),
    "flux2": flux2,
    "klein": functools.partial(flux2, distilled=True),
    "qwen_image": qwen_image,
    "z_image": z_image,
    "sana": sana,
}


@functools.cache
def folder() -> Path:
    """Of this session's checkpoints, each in a directory of its name."""
    held = tempfile.TemporaryDirectory(prefix="checkpoints")
    _HELD.append(held)
    return Path(held.name)


_HELD: list[Any] = []


@functools.cache
def saved(name: str) -> Path:
    torch.manual_seed(0)
    return tiny.save(MADE[name](), folder() / name)


def spec(family: FamilyName, path: str | None = None, **changes: Any) -> ModelSpec:
    usual: dict[str, Any] = {
        "family": family,
        "name": path or family,
        "path": path or family,
        "native_size": (64, 64),
        "side": SideLimits(min=32, max=96),
        "multiple": FAMILIES[family].multiple,
        "token_limit": TOKENS,
        "schedulers": ["flow_dpmpp_2m" if family == "sana" else "flow_euler"],
    }
    return tiny.spec(**{**usual, **changes})


@functools.cache
def loaded(
    family: FamilyName, path: str | None = None, dtype: str = "float32", device: str = "cpu"
) -> ModelParts:
    """As the service loads it. Made once for all tests: do not change it."""
    saved(path or family)
    return load(spec(family, path, dtype=dtype), folder(), device=device)
