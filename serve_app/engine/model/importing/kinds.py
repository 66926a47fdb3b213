"""Kind: what a single-file checkpoint is, by the names and shapes of its tensors.

Knows the layout in which people pass checkpoints on: that of the original Stable Diffusion code, which
kohya's trainers and AUTOMATIC1111 write too. What it does not know it names and refuses. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from serve_app.engine.model.importing.header import Header
from serve_app.errors import ModelError

UNET = "model.diffusion_model."
FIRST = f"{UNET}input_blocks.0.0.weight"
VAE = "first_stage_model."
CLIP_1 = "cond_stage_model.transformer."
OPEN_CLIP_2 = "cond_stage_model.model."
CLIP_XL = "conditioner.embedders.0.transformer."
OPEN_CLIP_XL = "conditioner.embedders.1.model."
LAYOUT_2 = f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias"
V_OF_2 = 0.09
"""Above this deviation of `LAYOUT_2` a checkpoint of 2.x predicts v: its files do not say so, and the
published ones differ there. ComfyUI tells them apart in this way."""

FOREIGN: tuple[tuple[str, str], ...] = (
    ("lora_", "a LoRA, which goes into the folder of LoRAs"),
    (".lora_A.", "a LoRA, which goes into the folder of LoRAs"),
    (".lora_down.", "a LoRA, which goes into the folder of LoRAs"),
    ("lllite_", "a ControlNet-LLLite"),
    ("control_model.", "a ControlNet"),
    ("controlnet_", "a ControlNet"),
    ("emb_params", "a textual inversion"),
    ("conditioner.embedders.0.model.", "the refiner of SDXL, which only goes over pictures"),
    ("joint_blocks.", "a Stable Diffusion 3"),
    ("double_blocks.", "a FLUX"),
    ("double_stream_modulation_img", "a FLUX.2"),
    ("noise_refiner.", "a Z-Image or Lumina"),
    ("transformer_blocks.0.img_mod", "a Qwen-Image"),
    ("down_blocks.0.resnets", "one network of a diffusers directory; give the whole directory"),
    ("decoder.up.0.block", "a VAE alone; give it as --vae to another import"),
)
"""Words in the names of tensors, and what they are a sign of."""


@dataclass(frozen=True)
class Kind:
    """`family`: sd or sdxl. `generation`: which published model it descends from."""

    generation: Literal["1", "2", "xl"]
    predicts: Literal["epsilon", "v_prediction"] = "epsilon"
    zero_snr: bool = False  # its noise schedule ends in pure noise
    remarks: tuple[str, ...] = ()

    @property
    def family(self) -> Literal["sd", "sdxl"]:
        return "sdxl" if self.generation == "xl" else "sd"


def recognise(header: Header, name: str) -> Kind:
    """`name`: what errors call the file. Raises ModelError for what this service does not draw."""
    shapes = header.shapes
    if FIRST not in shapes or _has(header, "conditioner.embedders.0.model."):
        raise ModelError(f"{name} is {_foreign(header)}")
    if _has(header, "edm_vpred.") or _has(header, "edm_mean"):
        raise ModelError(
            f"{name} was trained the way of EDM (CosXL, Playground 2.5): not drawn here"
        )
    channels = shapes[FIRST][1]
    if channels not in (4, 9):  # 9: for inpainting
        what = {8: "editing (InstructPix2Pix)", 7: "upscaling"}.get(channels, "")
        raise ModelError(
            f"{name} reads {channels} channels{f', as checkpoints for {what} do' if what else ''}: only "
            "those that draw from text alone, with 4, are drawn here"
        )
    kind = Kind(_generation(header, name))
    if _says_v(header):
        kind = replace(kind, predicts="v_prediction")
    zero_snr = "ztsnr" in shapes or _truth(header.metadata.get("modelspec.zero_terminal_snr"))
    return replace(kind, zero_snr=zero_snr)


def _generation(header: Header, name: str) -> Literal["1", "2", "xl"]:
    if _has(header, CLIP_XL) and _has(header, OPEN_CLIP_XL):
        return "xl"
    if _has(header, OPEN_CLIP_2):
        return "2"
    if _has(header, CLIP_1):
        return "1"
    lacks = "the text encoders" if _has(header, f"{UNET}label_emb.") else "the text encoder"
    raise ModelError(f"{name} holds no text encoder: ask for the full file, with {lacks}")


def _says_v(header: Header) -> bool:
    """By the empty tensor that trainers add for AUTOMATIC1111 and ComfyUI, or by the metadata."""
    said = header.metadata.get("modelspec.prediction_type", "").lower()
    return "v_pred" in header.shapes or said in ("v", "v_prediction")


def _truth(text: str | None) -> bool:
    return text is not None and text.lower() in ("true", "1")


def _has(header: Header, prefix: str) -> bool:
    return any(key.startswith(prefix) for key in header.shapes)


def _foreign(header: Header) -> str:
    for word, what in FOREIGN:
        if any(word in key for key in header.shapes):
            return what
    first = ", ".join(list(header.shapes)[:3])
    return f"no checkpoint that is known here; its tensors begin with {first}"
