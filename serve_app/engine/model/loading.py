"""load(): a checkpoint directory becomes ModelParts, or a ModelError that says what to do.

Knows files, diffusers and transformers; nothing of requests, batches or schedules.
"""

from __future__ import annotations

import ctypes
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

from serve_app.catalog.models import ModelSpec
from serve_app.catalog.revision import (
    check_safetensors,
    model_folder,
    pinned_commit,
    weights_revision,
)
from serve_app.errors import ModelError

PIPELINES = {"sd": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
NETWORKS = {
    "sd": ("unet", "vae", "text_encoder"),
    "sdxl": ("unet", "vae", "text_encoder", "text_encoder_2"),
}
PLAIN_PARTS = {
    "sd": ("tokenizer", "scheduler"),
    "sdxl": ("tokenizer", "tokenizer_2", "scheduler"),
}
# Nothing else is ever instantiated, whatever an index names.
ALLOWED = {
    "diffusers": {"UNet2DConditionModel", "AutoencoderKL", "AutoencoderTiny"},
    "transformers": {
        "CLIPTextModel",
        "CLIPTextModelWithProjection",
        "BertModel",
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
QUIET = (
    "diffusers.configuration_utils",
    "diffusers.pipelines.pipeline_utils",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
    "diffusers.pipelines.stable_diffusion.safety_checker",
    "transformers.modeling_utils",
    "transformers.tokenization_utils_base",
)
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack")


@dataclass(slots=True)
class ModelParts:
    """A loaded checkpoint. `pipe` owns the parts; the engine calls them one by one."""

    spec: ModelSpec
    pipe: Any  # StableDiffusionPipeline or StableDiffusionXLPipeline
    revision: str
    device: torch.device
    dtype: torch.dtype
    tiny_decoder: Any = None  # AutoencoderTiny
    safety_checker: Any = None  # StableDiffusionSafetyChecker
    feature_extractor: Any = None  # the CLIP image processor before it
    made_by: dict[str, Any] = field(default_factory=dict[str, Any])


def load(spec: ModelSpec, root: Path, *, device: str | None = None) -> ModelParts:
    """Read the checkpoint. Raises ModelError; `root` is what relative paths start from."""
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype: torch.dtype = getattr(torch, spec.dtype)
    if target.type == "cpu":
        _keep_freed_memory()
        if spec.threads is not None:
            torch.set_num_threads(spec.threads)
    _quiet()
    folder = _download(spec) if spec.hub is not None else model_folder(spec, root)
    _check_index(spec, folder)
    networks = {part: _network(spec, folder, part, dtype) for part in NETWORKS[spec.family]}
    pipeline_class = getattr(diffusers, PIPELINES[spec.family])
    absent = {"safety_checker": None, "requires_safety_checker": False}
    if spec.family == "sdxl":
        absent = {"add_watermarker": False}
    pipe = _reading(
        spec,
        "tokenizer or scheduler",
        lambda: pipeline_class.from_pretrained(
            folder,
            **networks,
            **absent,
            feature_extractor=None,
            image_encoder=None,
            local_files_only=True,
        ),
    )
    pipe.set_progress_bar_config(disable=True)
    _check_fit(spec, pipe)
    tiny = _tiny_decoder(spec, root, dtype)
    checker, extractor = _safety_checker(spec, folder, dtype)
    pipe.to(target)
    if spec.family == "sdxl" and dtype is torch.float16 and pipe.vae.config.force_upcast:
        pipe.vae.to(torch.float32)  # it overflows in half precision
    if spec.channels_last:
        pipe.unet.to(memory_format=torch.channels_last)
        pipe.vae.to(memory_format=torch.channels_last)
    revision = weights_revision(spec, root)
    made_by = {
        "model": spec.name,
        "weights": revision,
        "device": torch.cuda.get_device_name(target) if target.type == "cuda" else target.type,
        "dtype": spec.dtype,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),  # a subclass of str: whoever unpickled it loaded torch
        "diffusers": diffusers.__version__,
    }
    return ModelParts(
        spec=spec,
        pipe=pipe,
        revision=revision,
        device=target,
        dtype=dtype,
        tiny_decoder=None if tiny is None else tiny.to(target),
        safety_checker=None if checker is None else checker.to(target),
        feature_extractor=extractor,
        made_by=made_by,
    )


def _keep_freed_memory() -> None:
    """Let glibc keep what a call frees for the next one. As it is, it asks the kernel for each large
    activation anew, and the kernel clears every page: a quarter of a VAE call. (mallopt(3))"""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 32 * 2**20)  # the most it takes
        libc.mallopt(m_trim_threshold, 2**30)


def _quiet() -> None:
    """What these say is either checked here and raised, or shows the words of a prompt."""
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def _download(spec: ModelSpec) -> Path:
    pipeline_class = getattr(diffusers, PIPELINES[spec.family])
    commit = pinned_commit(spec)
    return Path(
        _reading(
            spec,
            "download",
            lambda: pipeline_class.download(
                spec.hub,
                revision=commit,
                variant=spec.variant,
                use_safetensors=True,
                **({} if spec.safety_check else {"safety_checker": None}),
            ),
        )
    )


def _reading(spec: ModelSpec, part: str, read: Any) -> Any:
    """Call `read`; what goes wrong in there becomes a ModelError without paths."""
    try:
        return read()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"model {spec.name!r}: {part} cannot be loaded ({type(error).__name__}); check that "
            "the directory is complete and was written by `save_pretrained`"
        ) from error


def _read_json(spec: ModelSpec, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        name = f"{path.parent.name}/{path.name}"
        raise ModelError(f"model {spec.name!r}: {name} is missing or not JSON") from error
    if not isinstance(content, dict):
        raise ModelError(f"model {spec.name!r}: {path.name} is not a JSON object")
    return content


def _check_index(spec: ModelSpec, folder: Path) -> None:
    """Every part is there, is of a known class, has safetensors and asks for no foreign code."""
    index = _read_json(spec, folder / "model_index.json")
    wanted = PIPELINES[spec.family]
    if index.get("_class_name") not in (wanted, "LatentConsistencyModelPipeline"):
        raise ModelError(
            f"model {spec.name!r}: the checkpoint is a {index.get('_class_name')}, "
            f"but family {spec.family} needs a {wanted}"
        )
    for part in (*NETWORKS[spec.family], *PLAIN_PARTS[spec.family]):
        _check_part(spec, folder, part, index)
    for part in NETWORKS[spec.family]:
        _check_weights(spec, folder / part)


def _check_part(spec: ModelSpec, folder: Path, part: str, index: dict[str, Any]) -> None:
    library, name = (index.get(part) or (None, None))[:2]
    allowed = name in ALLOWED.get(str(library), ())
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
        if "auto_map" in _read_json(spec, config):
            raise ModelError(f"model {spec.name!r}: {part}/{config.name} asks for foreign code")


def _check_weights(spec: ModelSpec, folder: Path) -> None:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = [p.name for p in folder.iterdir() if p.suffix in PICKLES]
        why = "holds only pickled weights, which can run code" if pickled else "holds no weights"
        raise ModelError(
            f"model {spec.name!r}: {folder.name}/ {why}; save it with safe_serialization=True"
        )
    for path in files:
        check_safetensors(path, f"model {spec.name!r}: {folder.name}/{path.name}")


def _network(spec: ModelSpec, folder: Path, part: str, dtype: torch.dtype) -> Any:
    """One network, with every weight from the file: diffusers only warns about missing ones."""
    library, name = _read_json(spec, folder / "model_index.json")[part]
    model_class: Any = getattr(diffusers if library == "diffusers" else transformers, name, None)
    if library == "stable_diffusion":
        model_class = StableDiffusionSafetyChecker
    model, report = _reading(
        spec,
        part,
        lambda: model_class.from_pretrained(
            folder / part,
            variant=spec.variant,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            dtype=dtype,
        ),
    )
    lacking = [*report.get("missing_keys", ()), *report.get("mismatched_keys", ())]
    if name == "BertModel":  # only its hidden states are read, so files may leave out the pooler
        lacking = [key for key in lacking if not str(key).startswith("pooler.")]
    if lacking:
        raise ModelError(
            f"model {spec.name!r}: {part}/ lacks {len(lacking)} weights its config asks for; "
            "weights and config.json belong to different models"
        )
    return model.eval().requires_grad_(False)


def _check_fit(spec: ModelSpec, pipe: Any) -> None:
    unet, vae = pipe.unet.config, pipe.vae.config
    encoders = [pipe.text_encoder, *([pipe.text_encoder_2] if spec.family == "sdxl" else [])]
    width = sum(encoder.config.hidden_size for encoder in encoders)
    expected = unet.cross_attention_dim
    if isinstance(expected, list | tuple):
        expected = expected[0]
    _demand(spec, expected == width, f"unet expects text of width {expected}, got {width}")
    _demand(
        spec,
        unet.in_channels == unet.out_channels == vae.latent_channels,
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


def _demand(spec: ModelSpec, fits: bool, why: str) -> None:
    if not fits:
        raise ModelError(f"model {spec.name!r}: its parts do not fit together: {why}")


def _tiny_decoder(spec: ModelSpec, root: Path, dtype: torch.dtype) -> Any:
    if spec.tiny_decoder is None:
        return None
    folder = root / spec.tiny_decoder
    if not folder.is_dir():
        raise ModelError(f"model {spec.name!r}: tiny_decoder is not a directory")
    _check_weights(spec, folder)
    return _reading(
        spec,
        "tiny_decoder",
        lambda: (
            diffusers.AutoencoderTiny.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, dtype=dtype
            )
            .eval()
            .requires_grad_(False)
        ),
    )


def _safety_checker(spec: ModelSpec, folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """The checker and its image processor, or (None, None) where there is none or it is turned off."""
    index = _read_json(spec, folder / "model_index.json")
    if not spec.safety_check or not (index.get("safety_checker") or [None])[0]:
        return None, None
    for part in ("safety_checker", "feature_extractor"):
        _check_part(spec, folder, part, index)
    _check_weights(spec, folder / "safety_checker")
    checker = _network(spec, folder, "safety_checker", dtype)
    extractor_class: Any = transformers.CLIPImageProcessor
    extractor = _reading(
        spec,
        "feature_extractor",
        lambda: extractor_class.from_pretrained(
            folder / "feature_extractor", local_files_only=True
        ),
    )
    return checker, extractor
