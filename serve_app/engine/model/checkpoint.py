"""Checks of a checkpoint: is the directory whole and safe to load, and do the loaded parts fit together?

Knows files, class names and configs; loads no weights and imports no torch. A check that fails raises
ModelError, which names the model and never a directory of this machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serve_app.catalog.families import FAMILIES, NEVER_LOADED
from serve_app.catalog.models import ModelSpec
from serve_app.errors import ModelError

# No other class is ever instantiated, whatever the index of a checkpoint names.
ALLOWED = {
    "diffusers": {
        "UNet2DConditionModel",
        "AutoencoderKL",
        "AutoencoderTiny",
        "SD3Transformer2DModel",
        "FluxTransformer2DModel",
        "Flux2Transformer2DModel",
        "AutoencoderKLFlux2",
        "QwenImageTransformer2DModel",
        "AutoencoderKLQwenImage",
        "ZImageTransformer2DModel",
        "SanaTransformer2DModel",
        "AutoencoderDC",
        "AuraFlowTransformer2DModel",
        "ChromaTransformer2DModel",
        "CogView3PlusTransformer2DModel",
        "CogView4Transformer2DModel",
        "HunyuanDiT2DModel",
        "Lumina2Transformer2DModel",
    },
    "transformers": {
        "CLIPTextModel",
        "CLIPTextModelWithProjection",
        "BertModel",
        "T5EncoderModel",
        "T5Tokenizer",
        "T5TokenizerFast",
        "Qwen2Tokenizer",
        "Qwen2TokenizerFast",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3Model",
        "Qwen3ForCausalLM",
        "GemmaTokenizer",
        "GemmaTokenizerFast",
        "Gemma2Model",
        "Gemma2ForCausalLM",
        "UMT5EncoderModel",
        "GlmModel",
        "LlamaTokenizer",
        "LlamaTokenizerFast",
        "CLIPTokenizer",
        "CLIPTokenizerFast",
        "BertTokenizer",
        "BertTokenizerFast",
        "PreTrainedTokenizerFast",
        "TokenizersBackend",
        "CLIPImageProcessor",
        "CLIPImageProcessorFast",
        "CLIPImageProcessorPil",  # where torchvision is not installed
        "CLIPFeatureExtractor",  # its name in old checkpoints
    },
    "stable_diffusion": {"StableDiffusionSafetyChecker"},
}
OF_UNETS = ("UNet2DConditionModel", "AutoencoderKL", "AutoencoderTiny")
"""Of diffusers' classes, those that a model with a UNet may have."""
WITHOUT_WEIGHTS = ("Tokenizer", "TokenizerFast", "TokenizersBackend", "Scheduler")
"""Ends of names of classes."""
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack")
NOT_SAFETENSORS = {
    b"pk\x03\x04": "a pickle (a .ckpt or .pt), which can run code when it is read; ask for safetensors",
    b"\x80": "a pickle (a .ckpt or .pt), which can run code when it is read; ask for safetensors",
    b"gguf": "a GGUF, whose weights are quantised for other programs",
    b"<!doctyp": "a web page; the download needs a login, or its link has expired",
    b"<html": "a web page; the download needs a login, or its link has expired",
    b"version ": "a pointer of Git LFS; `git lfs pull` fetches the file itself",
}
"""What is passed off as safetensors, by its first bytes in small letters."""
HEADER_LIMIT = 100 * 1024 * 1024  # bytes; the safetensors format's own limit


def check_index(spec: ModelSpec, folder: Path) -> None:
    """Every part is there, is of an allowed class, has safetensors and asks for no foreign code."""
    index = read_json(spec, folder / "model_index.json")
    facts, wanted = FAMILIES[spec.family], pipeline_of(spec)
    drawn = [wanted]
    if facts.kind == "unet":
        inpainting = wanted.replace("Pipeline", "InpaintPipeline")
        drawn += [inpainting, "LatentConsistencyModelPipeline"]
    if index.get("_class_name") not in drawn:
        raise ModelError(
            f"model {spec.name!r}: the checkpoint is a {index.get('_class_name')}, "
            f"but family {spec.family} needs a {wanted}"
        )
    networks, plain = _parts(spec, index)
    for part in (*networks, *plain):
        check_part(spec, folder, part, index)
    for part in networks:
        check_weights(spec, folder / part)


def pipeline_of(spec: ModelSpec) -> str:
    """The class of diffusers that its checkpoint is one of."""
    return spec.pipeline or FAMILIES[spec.family].pipeline


def networks_of(spec: ModelSpec, folder: Path) -> list[str]:
    """The parts with weights that this checkpoint brings."""
    return _parts(spec, read_json(spec, folder / "model_index.json"))[0]


def left_out(spec: ModelSpec, folder: Path) -> list[str]:
    """The parts that this checkpoint does not bring, and need not."""
    index = read_json(spec, folder / "model_index.json")
    return [part for part in FAMILIES[spec.family].optional if not _names(index, part)]


def _names(index: dict[str, Any], part: str) -> bool:
    return bool((index.get(part) or [None])[0])


def _parts(spec: ModelSpec, index: dict[str, Any]) -> tuple[list[str], list[str]]:
    """With weights of their own, and without."""
    facts = FAMILIES[spec.family]
    if facts.kind == "any":
        named = {
            part: what[1] for part, what in index.items() if isinstance(what, list) and what[0]
        }
        loaded = {part: name for part, name in named.items() if part not in NEVER_LOADED}
        plain = [part for part, name in loaded.items() if str(name).endswith(WITHOUT_WEIGHTS)]
        return [part for part in loaded if part not in plain], plain
    absent = [part for part in facts.optional if not _names(index, part)]
    networks = [part for part in facts.networks if part not in absent]
    return networks, [part for part in facts.plain if part not in absent]


def check_part(spec: ModelSpec, folder: Path, part: str, index: dict[str, Any]) -> None:
    """`index`: the content of model_index.json, which names library and class of each part."""
    library, name = (index.get(part) or (None, None))[:2]
    allowed = name in ALLOWED.get(str(library), ())
    if library == "diffusers" and FAMILIES[spec.family].kind == "unet":
        allowed = name in OF_UNETS
    if part == "scheduler":
        allowed = library == "diffusers" and str(name).endswith("Scheduler")
    if not allowed:
        raise ModelError(
            f"model {spec.name!r}: {part} is {library}.{name}, which is not on the list of "
            "classes this service loads"
        )
    if not (folder / part).is_dir():
        raise ModelError(f"model {spec.name!r}: the directory {part}/ is missing")
    for config in (folder / part).glob("*config.json"):
        if "auto_map" in read_json(spec, config):
            raise ModelError(f"model {spec.name!r}: {part}/{config.name} asks for foreign code")


def check_weights(spec: ModelSpec, folder: Path) -> None:
    """The directory of one network holds whole safetensors files."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = [p.name for p in folder.iterdir() if p.suffix in PICKLES]
        why = "holds only pickled weights, which can run code" if pickled else "holds no weights"
        raise ModelError(
            f"model {spec.name!r}: {folder.name}/ {why}; save it with safe_serialization=True"
        )
    for path in files:
        check_safetensors(path, f"model {spec.name!r}: {folder.name}/{path.name}")


def check_safetensors(path: Path, name: str) -> None:
    """Refuse an empty or truncated file. Memory-mapping one would crash the process at a later read.

    `name`: what the error calls the file. The format: 8 bytes with the length of a JSON header, the header
    with the offsets of each tensor, the tensors.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(8)
        length = int.from_bytes(begin, "little")
        if length > size - 8:
            for mark, what in NOT_SAFETENSORS.items():
                if begin.lower().startswith(mark):
                    raise ModelError(f"{name} is no safetensors file but {what}")
        if length > HEADER_LIMIT:
            raise ModelError(
                f"{name} is damaged or no safetensors file: it claims a header of {length} bytes"
            )
        if size < 8 or length > size - 8:
            raise ModelError(f"{name} is empty or truncated; copy it again")
        try:
            header = json.loads(file.read(length))
            ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise ModelError(f"{name} is not a safetensors file") from error
    if not ends or 8 + length + max(ends) != size:
        raise ModelError(f"{name} is truncated or holds no tensors; copy it again")


def check_fit(spec: ModelSpec, pipe: Any) -> None:
    """The sizes of the loaded parts agree. `pipe`: the diffusers pipeline of a UNet that owns them."""
    unet, vae = pipe.unet.config, pipe.vae.config
    encoders = [pipe.text_encoder, *([pipe.text_encoder_2] if spec.family == "sdxl" else [])]
    width = sum(encoder.config.hidden_size for encoder in encoders)
    expected = unet.cross_attention_dim
    if isinstance(expected, list | tuple):
        expected = expected[0]
    _demand(spec, expected == width, f"unet expects text of width {expected}, got {width}")
    reads = {vae.latent_channels, 2 * vae.latent_channels + 1}  # for inpainting: a mask, a picture
    _demand(
        spec,
        unet.out_channels == vae.latent_channels and unet.in_channels in reads,
        f"unet has {unet.in_channels} latent channels in and {unet.out_channels} out, "
        f"the vae {vae.latent_channels}",
    )
    tokenizers = [pipe.tokenizer, *([pipe.tokenizer_2] if spec.family == "sdxl" else [])]
    for tokenizer, encoder in zip(tokenizers, encoders, strict=True):
        longest = encoder.config.max_position_embeddings
        _demand(
            spec,
            tokenizer.model_max_length <= longest,
            f"a tokenizer makes {tokenizer.model_max_length} tokens, its text encoder reads {longest}"
            " (set model_max_length in tokenizer_config.json)",
        )
        _demand(
            spec,
            len(tokenizer) <= encoder.config.vocab_size,
            f"a tokenizer knows {len(tokenizer)} tokens, its text encoder "
            f"{encoder.config.vocab_size}",
        )
    if spec.family == "sdxl":
        passed = unet.addition_time_embed_dim * 6 + pipe.text_encoder_2.config.projection_dim
        expected = pipe.unet.add_embedding.linear_1.in_features
        _demand(
            spec,
            passed == expected,
            f"unet expects {expected} size and pooled text values, the parts give {passed}",
        )


def check_widths(spec: ModelSpec, widths: Mapping[str, tuple[int, int]]) -> None:
    """What a transformer expects and what the other parts give are equal."""
    for what, (expected, got) in widths.items():
        why = f"the transformer expects {what} of width {expected}, the parts give {got}"
        _demand(spec, expected == got, why)


def read_json(spec: ModelSpec, path: Path) -> dict[str, Any]:
    """The JSON object in a file of the checkpoint."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        name = f"{path.parent.name}/{path.name}"
        raise ModelError(f"model {spec.name!r}: {name} is missing or not JSON") from error
    if not isinstance(content, dict):
        raise ModelError(f"model {spec.name!r}: {path.name} is not a JSON object")
    return content


def _demand(spec: ModelSpec, fits: bool, why: str) -> None:
    if not fits:
        raise ModelError(f"model {spec.name!r}: its parts do not fit together: {why}")
