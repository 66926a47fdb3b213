"""load(): a checkpoint directory becomes ModelParts, or a ModelError that says what to do.

Knows diffusers and transformers; nothing of requests, batches or schedules. `checkpoint` checks the files
before anything is loaded.
"""

from __future__ import annotations

import copy
import ctypes
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors import SafetensorError

from serve_app.catalog.embeddings import EmbeddingSpec
from serve_app.catalog.families import FAMILIES, NEVER_LOADED
from serve_app.catalog.loras import LoraSpec
from serve_app.catalog.models import ModelSpec
from serve_app.catalog.revision import model_folder, pinned_commit, weights_revision
from serve_app.engine.model.checkpoint import (
    check_fit,
    check_index,
    check_part,
    check_weights,
    check_widths,
    left_out,
    networks_of,
    pipeline_of,
    read_json,
)
from serve_app.engine.model.device import free_memory
from serve_app.engine.model.placement import check_memory
from serve_app.engine.model.references import Reference, adapter_tensors
from serve_app.engine.model.schedules import check_schedules
from serve_app.errors import ModelError

QUIET = (
    "diffusers.configuration_utils",
    "diffusers.pipelines.pipeline_utils",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
    "diffusers.pipelines.stable_diffusion.safety_checker",
    "diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3",
    "diffusers.pipelines.flux.pipeline_flux",
    "transformers.modeling_utils",
    "transformers.tokenization_utils_base",
)
"""Loggers that are silenced. They warn of what is checked here and raised, or print words of a prompt."""


@dataclass(slots=True)
class ModelParts:
    """A loaded checkpoint. `pipe` owns the parts; the engine calls them one by one."""

    spec: ModelSpec
    pipe: Any  # a diffusers pipeline of its family
    revision: str
    device: torch.device
    dtype: torch.dtype
    decoder: Any = None  # an AutoencoderKL in full precision, where `pipe.vae` overflows in half
    tiny_decoder: Any = None  # AutoencoderTiny
    safety_checker: Any = None  # StableDiffusionSafetyChecker
    feature_extractor: Any = None  # the CLIP image processor that prepares its input
    controls: Mapping[str, Any] = field(default_factory=dict[str, Any])  # ControlNetModels
    reference: Reference | None = None  # an IP-Adapter, whose image encoder is in `pipe`
    loras: Mapping[str, LoraSpec] = field(default_factory=dict[str, LoraSpec])
    embeddings: Mapping[str, EmbeddingSpec] = field(default_factory=dict[str, EmbeddingSpec])
    made_by: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def networks(self) -> list[torch.nn.Module]:
        """Those that draw. The safety checker is none: it looks at pictures in threads of its own, whatever
        is drawn by then."""
        parts = [
            part for part in self.pipe.components.values() if isinstance(part, torch.nn.Module)
        ]
        others = (self.decoder, self.tiny_decoder, self.reference)
        return [*parts, *(x for x in others if x is not None), *self.controls.values()]

    @property
    def vae(self) -> Any:
        """What decodes. `pipe` itself casts its own VAE to full precision and back at each call."""
        return self.pipe.vae if self.decoder is None else self.decoder


def load(
    spec: ModelSpec, root: Path, *, device: str | None = None, on_host: bool = False
) -> ModelParts:
    """Read the checkpoint onto the device; by default CUDA where there is one, else the CPU. `on_host`: what
    draws stays in the memory of the host, to be brought to that device later.

    Relative paths of the spec start from `root`. Raises ModelError.
    """
    target = device_of(device)
    kind = FAMILIES[spec.family].kind
    wanted = auto_dtype(target, kind) if spec.dtype == "auto" else spec.dtype
    dtype: torch.dtype = getattr(torch, wanted)
    if target.type == "cpu":
        _keep_freed_memory()
        if spec.threads is not None:
            torch.set_num_threads(spec.threads)
    if not on_host:  # there, models that are on the device now will leave for it
        check_memory(spec, free_memory(target), dtype.itemsize)
    _silence_libraries()
    folder = _download(spec) if spec.hub is not None else model_folder(spec, root)
    check_index(spec, folder)
    pipe = _pipeline(spec, folder, dtype, root)
    if kind == "unet":
        check_fit(spec, pipe)
    elif kind == "transformer":
        from serve_app.engine.model.dit.families import CLASSES

        check_widths(spec, CLASSES[spec.family].widths(pipe))
    check_schedules(spec, pipe.scheduler)
    tiny = _tiny_decoder(spec, root, dtype, pipe)
    controls = {name: _control(spec, name, root, dtype, pipe.unet.config) for name in spec.controls}
    checker, extractor = _safety_checker(spec, folder, dtype)
    place = torch.device("cpu") if on_host else target
    adapter = _reference(spec, root, dtype, pipe)
    (pipe if spec.cpu_offload is None else pipe.vae).to(place)
    decoder = None
    if spec.family == "sdxl" and dtype is torch.float16 and pipe.vae.config.force_upcast:
        decoder = copy.deepcopy(pipe.vae).to(torch.float32)
    if spec.channels_last:
        for network in (pipe.unet, pipe.vae if decoder is None else decoder):
            network.to(memory_format=torch.channels_last)
    revision = weights_revision(spec, root)
    return ModelParts(
        spec=spec,
        pipe=pipe,
        revision=revision,
        device=target,
        dtype=dtype,
        decoder=decoder,
        tiny_decoder=None if tiny is None else tiny.to(place),
        controls={
            name: network if spec.cpu_offload else network.to(place)
            for name, network in controls.items()
        },
        reference=None if adapter is None else adapter.to(place),
        safety_checker=None if checker is None else checker.to(target),
        feature_extractor=extractor,
        made_by=_made_by(spec, revision, target, wanted),
    )


def device_of(name: str | None) -> torch.device:
    """Of this name; None: CUDA where there is one, else the CPU."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def auto_dtype(device: torch.device, kind: str) -> str:
    """What `dtype: auto` means there: half precision where a GPU is faster in it, else float32. `kind`: of
    the network.

    A UNet gets float16 and not bfloat16, whose 8 bits show in pictures; its checkpoints are published so.
    GPUs before Volta (compute capability 7.0) have it, but calculate in it up to 64 times slower than in
    float32. Transformers overflow in float16, so they get bfloat16, which GPUs calculate in since Ampere.
    """
    if device.type != "cuda":
        return "float32"
    since, half = ((7, 0), "float16") if kind == "unet" else ((8, 0), "bfloat16")
    return half if torch.cuda.get_device_capability(device) >= since else "float32"


def _made_by(spec: ModelSpec, revision: str, device: torch.device, dtype: str) -> dict[str, Any]:
    """What is recorded in every image. Plain values: whoever unpickles a torch type imports torch."""
    return {
        "model": spec.name,
        "weights": revision,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),  # a subclass of str
        "diffusers": diffusers.__version__,
    }


def _keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next call (mallopt(3)).

    By default it returns each large activation to the kernel, which clears every page that is asked for
    again: a quarter of the time of a VAE call.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 32 * 2**20)  # bytes; the largest value it accepts
        libc.mallopt(m_trim_threshold, 2**30)


def _silence_libraries() -> None:
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def _download(spec: ModelSpec) -> Path:
    """The pinned commit from the hub, safetensors only."""
    pipeline_class = getattr(diffusers, pipeline_of(spec))
    commit = pinned_commit(spec)
    try:
        folder = pipeline_class.download(
            spec.hub,
            revision=commit,
            variant=spec.variant,
            use_safetensors=True,
            **({} if spec.safety_check else {"safety_checker": None}),
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"model {spec.name!r}: {spec.hub} cannot be downloaded ({type(error).__name__}), and this "
            "machine has no whole copy. Is there a network, and does the repository have this revision"
            f"{'' if spec.variant is None else f' in the variant {spec.variant}'}? Without a network, bring "
            "the files yourself: `assets models import`"
        ) from error
    return Path(folder)


def _pipeline(spec: ModelSpec, folder: Path, dtype: torch.dtype, root: Path) -> Any:
    networks = {part: _network(spec, folder, part, dtype) for part in networks_of(spec, folder)}
    if spec.vae is not None:
        networks["vae"] = _other_vae(spec, root / spec.vae, dtype)
    pipeline_class = getattr(diffusers, pipeline_of(spec))
    absent: dict[str, Any] = dict.fromkeys(
        (*_absent(spec, pipeline_class), *left_out(spec, folder))
    )
    if spec.family == "sd":
        absent["requires_safety_checker"] = False
    elif spec.family == "sdxl":
        absent["add_watermarker"] = False
    pipe = _reading(
        spec,
        "tokenizer or scheduler",
        lambda: pipeline_class.from_pretrained(
            folder,
            **networks,
            **absent,
            local_files_only=True,
        ),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _absent(spec: ModelSpec, pipeline_class: Any) -> Iterable[str]:
    """Parts of the pipeline that are not loaded, whatever the checkpoint brings."""
    facts = FAMILIES[spec.family]
    if facts.kind != "any":
        return facts.absent
    known, _ = pipeline_class._get_signature_keys(pipeline_class)
    return [part for part in NEVER_LOADED if part in known]


def _network(spec: ModelSpec, folder: Path, part: str, dtype: torch.dtype) -> Any:
    """One network. Refused if a weight is missing in its file, which diffusers only warns of."""
    library, name = read_json(spec, folder / "model_index.json")[part]
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
    missing = [*report.get("missing_keys", ()), *report.get("mismatched_keys", ())]
    if name == "BertModel":  # only its hidden states are read, so files may leave out the pooler
        missing = [key for key in missing if not str(key).startswith("pooler.")]
    if missing:
        raise ModelError(
            f"model {spec.name!r}: {part}/ lacks {len(missing)} weights its config asks for; "
            "weights and config.json belong to different models"
        )
    return model.eval().requires_grad_(False)


def _other_vae(spec: ModelSpec, folder: Path, dtype: torch.dtype) -> Any:
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {spec.name!r}: vae is not a directory with a config.json")
    check_weights(spec, folder)
    vae: Any = _reading(
        spec,
        "vae",
        lambda: diffusers.AutoencoderKL.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, dtype=dtype
        ),
    )
    return vae.eval().requires_grad_(False)


def _tiny_decoder(spec: ModelSpec, root: Path, dtype: torch.dtype, pipe: Any) -> Any:
    if spec.tiny_decoder is None:
        return None
    folder = root / spec.tiny_decoder
    if not folder.is_dir():
        raise ModelError(f"model {spec.name!r}: tiny_decoder is not a directory")
    check_weights(spec, folder)
    decoder: Any = _reading(
        spec,
        "tiny_decoder",
        lambda: diffusers.AutoencoderTiny.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, dtype=dtype
        ),
    )
    channels = pipe.vae.config.latent_channels
    if decoder.config.latent_channels != channels:
        raise ModelError(
            f"model {spec.name!r}: tiny_decoder reads {decoder.config.latent_channels} latent channels, "
            f"the model draws {channels}; it belongs to another family"
        )
    return decoder.eval().requires_grad_(False)


def _control(spec: ModelSpec, name: str, root: Path, dtype: torch.dtype, unet: Any) -> Any:
    """A ControlNet, which must be of the UNet's family."""
    folder, part = root / spec.controls[name].path, f"controls.{name}"
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {spec.name!r}: {part} is not a directory with a config.json")
    check_weights(spec, folder)
    network: Any = _reading(
        spec,
        part,
        lambda: diffusers.ControlNetModel.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, dtype=dtype
        ),
    )
    config = network.config
    same = ("cross_attention_dim", "block_out_channels", "layers_per_block", "addition_embed_type")
    off = [key for key in same if _plain(config[key]) != _plain(unet[key])]
    if off or config.in_channels != unet.out_channels:
        differs = off[0] if off else "in_channels"
        raise ModelError(
            f"model {spec.name!r}: {part} is for another family: its {differs} is not the model's"
        )
    if config.global_pool_conditions:
        raise ModelError(f"model {spec.name!r}: {part} reads no shapes (shuffle): not drawn here")
    return network.eval().requires_grad_(False)


def _reference(spec: ModelSpec, root: Path, dtype: torch.dtype, pipe: Any) -> Reference | None:
    """An IP-Adapter, which must be of the UNet's family. Its image encoder becomes a part of `pipe`."""
    if spec.reference is None:
        return None
    file, folder = root / spec.reference.path, root / spec.reference.image_encoder
    what = f"model {spec.name!r}: reference"
    if file.suffix != ".safetensors" or not file.is_file():
        raise ModelError(f"{what}.path is no .safetensors file")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{what}.image_encoder is not a directory with a config.json")
    check_weights(spec, folder)
    encoder_class: Any = transformers.CLIPVisionModelWithProjection
    encoder = _reading(
        spec,
        "reference.image_encoder",
        lambda: encoder_class.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, dtype=dtype
        ),
    )
    side = encoder.config.image_size
    extractor: Any = transformers.CLIPImageProcessor
    pipe.register_modules(
        image_encoder=encoder.eval().requires_grad_(False),
        feature_extractor=extractor(size=side, crop_size=side),
    )
    try:
        tensors = adapter_tensors(file)
        adapter = Reference(pipe.unet, tensors).to(dtype).eval().requires_grad_(False)
        adapter.probe(pipe)
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{what} is no IP-Adapter for this family and this image encoder ({type(error).__name__})"
        ) from error
    return adapter


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _safety_checker(spec: ModelSpec, folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """The checker and its image processor, or (None, None) where there is none or it is turned off."""
    index = read_json(spec, folder / "model_index.json")
    if not spec.safety_check or not (index.get("safety_checker") or [None])[0]:
        return None, None
    for part in ("safety_checker", "feature_extractor"):
        check_part(spec, folder, part, index)
    check_weights(spec, folder / "safety_checker")
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


def _reading(spec: ModelSpec, part: str, read: Callable[[], Any]) -> Any:
    """Call `read` and turn its errors into a ModelError, which names no path."""
    try:
        return read()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"model {spec.name!r}: {part} cannot be loaded ({type(error).__name__}); check that "
            "the directory is complete and was written by `save_pretrained`"
        ) from error
