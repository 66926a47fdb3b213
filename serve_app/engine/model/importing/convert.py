"""import_checkpoint(): a single-file checkpoint becomes a diffusers directory, without a hub or a GPU.

Knows the parts of Stable Diffusion 1.x, 2.x and XL; nothing of models.yaml. One part is in memory at a time.
Weights keep their type and their bits. The names are translated by diffusers' own functions.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from diffusers.loaders import single_file_utils as original
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from serve_app.engine.model.importing import configs, kinds
from serve_app.engine.model.importing.header import Header
from serve_app.engine.model.importing.kinds import Kind
from serve_app.engine.model.importing.tokenizer import END, write_tokenizer
from serve_app.errors import ModelError

NETWORK, ENCODER = "diffusion_pytorch_model.safetensors", "model.safetensors"
SMALL = (torch.float8_e4m3fn, torch.float8_e5m2)
IGNORED = (
    # Noise schedules, which follow from the config, and marks without weights.
    *(
        "alphas_cumprod",
        "betas",
        "denoiser.",
        "log_one_minus",
        "posterior_",
        "sqrt_",
        "global_step",
    ),
    *("v_pred", "ztsnr", "cond_stage_model.logit_scale", "cond_stage_model.model.logit_scale"),
    *("cond_stage_model.model.text_projection", "conditioner.embedders.1.model.logit_scale"),
)

Tensors = dict[str, Tensor]
Progress = Callable[[str, int, int], None]  # part, tensors read, tensors in all


@dataclass
class Converted:
    """What was found, and in sentences what was not understood or had to be guessed."""

    kind: Kind
    folder: Path
    remarks: list[str] = field(default_factory=list[str])


def import_checkpoint(
    file: Path,
    to: Path,
    *,
    vae: Path | None = None,
    predicts: str | None = None,
    progress: Progress = lambda part, done, of: None,
) -> Converted:
    """`to` must not exist; it is there whole afterwards, or not at all. `vae`: a file or directory to take
    the VAE from. `predicts`: epsilon or v_prediction, where the file is not believed. Raises ModelError."""
    if to.exists():
        raise ModelError(f"{to} exists already; remove it or name another place with --to")
    header = Header.read(file)
    kind = kinds.recognise(header, file.name)
    unfinished = to.with_name(f".{to.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        with safe_open(file, framework="pt") as tensors:
            work = _Conversion(file.name, header, kind, tensors, unfinished, progress)
            converted = work.run(vae, predicts)
        unfinished.replace(to)
    except SafetensorError as error:
        raise ModelError(f"{file.name} is not a whole safetensors file: {error}") from error
    except OSError as error:
        raise ModelError(f"{to} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            shutil.rmtree(unfinished)
    return replace(converted, folder=to)


class _Conversion:
    """Of one file."""

    def __init__(
        self,
        name: str,
        header: Header,
        kind: Kind,
        tensors: Any,
        folder: Path,
        progress: Progress,
    ) -> None:
        self.name, self.header, self.kind = name, header, kind
        self.tensors, self.folder, self.progress = tensors, folder, progress
        self.done = 0
        self.remarks = list(kind.remarks)

    def run(self, vae: Path | None, predicts: str | None) -> Converted:
        self._settle_prediction(predicts)
        xl = self.kind.generation == "xl"
        pooled = self._text_encoders()
        config = configs.unet_config(self.header.below(kinds.UNET), self.kind, pooled)
        unet = original.convert_ldm_unet_checkpoint(self._read("unet", kinds.UNET), config)
        self._write_network("unet", diffusers.UNet2DConditionModel, config, unet)
        del unet
        if vae is None:
            self._own_vae()
        else:
            self._other_vae(vae)
        write_tokenizer(
            self.folder / "tokenizer", padding="!" if self.kind.generation == "2" else END
        )
        if xl:
            write_tokenizer(self.folder / "tokenizer_2", padding="!")
        _write_json(
            self.folder / "scheduler" / "scheduler_config.json", configs.scheduler_config(self.kind)
        )
        _write_json(self.folder / "model_index.json", _index(xl))
        self._tell_what_is_left()
        return Converted(self.kind, self.folder, self.remarks)

    def _settle_prediction(self, predicts: str | None) -> None:
        found = self.kind.predicts
        if self.kind.generation == "2" and kinds.LAYOUT_2 in self.header.shapes:
            values = self.tensors.get_tensor(kinds.LAYOUT_2).float()
            if float(values.std(unbiased=False)) > kinds.V_OF_2:
                found = "v_prediction"
            self.remarks.append(
                f"the file does not say what it predicts; by its weights it is {found}. If its pictures are "
                "grey or burnt, import it again with the other --prediction"
            )
        if predicts is not None and predicts != found:
            self.remarks.append(f"the file seems to predict {found}; taken as {predicts}, as asked")
        chosen = predicts or found
        self.kind = replace(
            self.kind, predicts="v_prediction" if chosen == "v_prediction" else "epsilon"
        )

    # ---- parts ----

    def _text_encoders(self) -> int:
        """Returns the width of the second text embedding, 0 without one."""
        if self.kind.generation == "2":
            self._open_clip("text_encoder", kinds.OPEN_CLIP_2, projected=False)
            return 0
        self._clip(kinds.CLIP_XL if self.kind.generation == "xl" else kinds.CLIP_1)
        if self.kind.generation == "1":
            return 0
        return self._open_clip("text_encoder_2", kinds.OPEN_CLIP_XL, projected=True)

    def _clip(self, prefix: str) -> None:
        read = self._read("text_encoder", prefix)
        tensors = {
            # Some old files have no `text_model.`.
            "text_model." + key.removeprefix(prefix).removeprefix("text_model."): value
            for key, value in read.items()
            if not key.endswith("position_ids")
        }
        config = configs.clip_config({key: tuple(value.shape) for key, value in tensors.items()})
        self._write("text_encoder", ENCODER, config, tensors)

    def _open_clip(self, part: str, prefix: str, *, projected: bool) -> int:
        read = self._read(part, prefix)
        shapes = {key.removeprefix(prefix): tuple(value.shape) for key, value in read.items()}
        config = configs.open_clip_config(shapes, projected=projected)
        if not projected:
            last = f"{prefix}transformer.resblocks.{config['num_hidden_layers']}."
            read.pop(f"{prefix}text_projection", None)
            read = {key: value for key, value in read.items() if not key.startswith(last)}
        # Of the model, the function reads one number of its config.
        model: Any = SimpleNamespace(config=SimpleNamespace(hidden_size=config["hidden_size"]))
        tensors = original.convert_open_clip_checkpoint(model, read, prefix=prefix)
        tensors = {k: v for k, v in tensors.items() if not k.endswith("position_ids")}
        self._write(part, ENCODER, config, tensors)
        return config["projection_dim"] if projected else 0

    def _own_vae(self) -> None:
        shapes = self.header.below(kinds.VAE)
        if "decoder.conv_in.weight" not in shapes:
            raise ModelError(f"{self.name} holds no VAE; name one with --vae")
        self._convert_vae(self._read("vae", kinds.VAE), shapes)

    def _other_vae(self, path: Path) -> None:
        """A directory as diffusers writes it is copied: its config says more than shapes do."""
        if path.is_dir():
            _copy_vae(path, self.folder / "vae")
            return
        header = Header.read(path)
        prefix = kinds.VAE if any(k.startswith(kinds.VAE) for k in header.shapes) else ""
        shapes = header.below(prefix)
        if "decoder.up.0.block.0.conv1.weight" not in shapes:
            raise ModelError(
                f"{path.name} is no VAE in the original layout; if it is one of diffusers, give its directory"
            )
        with safe_open(path, framework="pt") as tensors:
            read = {
                kinds.VAE + key: _sound(tensors.get_tensor(prefix + key), f"{path.name}: {key}")
                for key in shapes
                if not key.startswith("loss.")
            }
        self._convert_vae(read, shapes)

    def _convert_vae(self, tensors: Tensors, shapes: Mapping[str, configs.Shape]) -> None:
        config = configs.vae_config(shapes, self.kind)
        converted = original.convert_ldm_vae_checkpoint(tensors, config)
        self._write_network("vae", diffusers.AutoencoderKL, config, converted)

    # ---- reading and writing ----

    def _read(self, part: str, prefix: str) -> Tensors:
        """All tensors below the prefix, under their whole names."""
        found: Tensors = {}
        halved = False
        for key in self.header.shapes:
            if key.startswith(prefix):
                value = _sound(self.tensors.get_tensor(key), f"{self.name}: {key}")
                if value.dtype in SMALL:
                    value, halved = value.to(torch.float16), True
                found[key] = value
                self.done += 1
                self.progress(part, self.done, len(self.header.shapes))
        if halved:
            self.remarks.append(f"{part}: weights in 8 bits are stored as float16")
        return found

    def _write_network(
        self, part: str, network: Any, config: configs.Config, tensors: Tensors
    ) -> None:
        """After a look whether the config's network has exactly these weights."""
        with torch.device("meta"):
            wanted = network.from_config(config).state_dict()
        lacking = [k for k, v in wanted.items() if k not in tensors or tensors[k].shape != v.shape]
        if lacking:
            raise ModelError(
                f"{self.name}: its {part} lacks {len(lacking)} of {len(wanted)} weights, as {lacking[0]}; "
                "it is built unlike the published models, or was pruned"
            )
        extra = [key for key in tensors if key not in wanted]
        if extra:
            self.remarks.append(f"{part}: {len(extra)} weights are not known, as {extra[0]}")
        self._write(part, NETWORK, config, {key: tensors[key] for key in wanted})

    def _write(self, part: str, file: str, config: configs.Config, tensors: Tensors) -> None:
        folder = self.folder / part
        _write_json(folder / "config.json", config)
        whole = {key: value.contiguous() for key, value in tensors.items()}
        save_file(whole, folder / file, metadata={"format": "pt"})

    def _tell_what_is_left(self) -> None:
        known = (kinds.UNET, kinds.VAE, kinds.CLIP_1, kinds.OPEN_CLIP_2, kinds.CLIP_XL)
        known = (*known, kinds.OPEN_CLIP_XL, *IGNORED)
        left = [key for key in self.header.shapes if not key.startswith(known)]
        averages = [key for key in left if key.startswith("model_ema.")]
        if averages:
            self.remarks.append(
                f"its second set of weights (model_ema, {len(averages)} tensors) is left out"
            )
        if other := sorted(set(left) - set(averages)):
            named = ", ".join(other[:3])
            self.remarks.append(
                f"{len(other)} tensors were not understood and left out, as {named}"
            )


def _sound(value: Tensor, name: str) -> Tensor:
    if value.is_floating_point() and not value.to(torch.float32).isfinite().all():
        raise ModelError(
            f"{name} holds NaN or infinity: the file is damaged, or its training failed"
        )
    return value


def _copy_vae(source: Path, to: Path) -> None:
    folder = source if (source / "config.json").is_file() else source / "vae"
    files = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not files:
        raise ModelError(f"{source.name} is no directory of a VAE: config.json and safetensors")
    for file in files:
        Header.read(file)
    to.mkdir(parents=True)
    for file in (folder / "config.json", *files):
        shutil.copyfile(file, to / file.name)


def _index(xl: bool) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "_class_name": "StableDiffusionXLPipeline" if xl else "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
    }
    if not xl:
        return parts | {"safety_checker": [None, None], "requires_safety_checker": False}
    return parts | {
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "force_zeros_for_empty_prompt": True,
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
