"""import_model(): a checkpoint that somebody brings becomes a model of this service, with a picture as proof.

Knows the steps: convert, load, draw, describe. How each is done is in `engine/model/` and `catalog/`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.catalog.families import FAMILIES, TRANSFORMERS
from serve_app.catalog.loras import MAX_LORA_WEIGHT, LoraSpec, lora_of, lora_problem
from serve_app.catalog.model_entry import ModelEntry, check_name, entry_of, write_entry
from serve_app.catalog.models import ModelSpec, load_models, models_folder
from serve_app.config import PROJECT_ROOT, Settings
from serve_app.errors import ModelError, NonFinite

PROMPT = "a red apple on a wooden table"
ROUGH_SIDE, ROUGH_STEPS = 256, 4
"""Of the proof on a CPU, where a whole picture would take minutes."""


@dataclass
class Brought:
    """`entry`: the file of models.d. `proof`: a picture, if one was asked for."""

    name: str
    entry: Path
    weights: Path
    proof: Path | None
    remarks: list[str]


def import_model(
    source: Path,
    name: str,
    settings: Settings,
    *,
    vae: Path | None = None,
    loras: Sequence[tuple[Path, float]] = (),
    to: Path | None = None,
    predicts: str | None = None,
    prove: bool = True,
    progress: Callable[[str, int, int], None] = lambda part, done, of: None,
) -> Brought:
    """`source`: a .safetensors file, or a directory as diffusers writes it, which stays where it is. `to`:
    where the directory made of a file goes. `loras`: files with weights, which become part of it. Nothing is
    left behind by an import that fails. Raises ModelError and ConfigError."""
    models_file = settings.path(settings.models_file)
    folder = models_folder(models_file)
    models = load_models(models_file)
    check_name(name, folder, models)
    merged = [(_lora(path, weight), weight) for path, weight in loras]
    if source.is_dir():
        if merged:
            raise ModelError(
                "a LoRA becomes part of the weights that are made of a file, and a directory stays as it is: "
                "put the LoRA into the folder loras beside the models file, and name it in orders"
            )
        entry, weights = _of_directory(source, name, vae, models), source
        made = None
    else:
        if not source.is_file():
            raise ModelError(f"{source} is neither a file nor a directory")
        weights = made = to or PROJECT_ROOT / ".models" / name
        entry = _of_file(source, name, made, vae=vae, predicts=predicts, progress=progress)
    if entry.fields["like"] not in models:
        del entry.fields["like"]
    try:
        if made is not None and merged:
            _merge(entry, made, merged)
        proof = _prove(entry, name) if prove else None
        written = write_entry(entry, folder, source.name)
    except BaseException:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
        raise
    return Brought(name, written, weights, proof, entry.remarks)


def _of_file(
    source: Path,
    name: str,
    to: Path,
    *,
    vae: Path | None,
    predicts: str | None,
    progress: Callable[[str, int, int], None],
) -> ModelEntry:
    from serve_app.engine.model.importing.convert import import_checkpoint  # imports torch

    to.parent.mkdir(parents=True, exist_ok=True)
    found = import_checkpoint(source, to, vae=vae, predicts=predicts, progress=progress)
    entry = entry_of(
        name,
        source.name,
        _shown(to),
        generation=found.kind.generation,
        predicts=found.kind.predicts,
        zero_snr=found.kind.zero_snr,
    )
    entry.remarks[:0] = found.remarks
    return entry


def _lora(path: Path, weight: float) -> LoraSpec:
    if not path.is_file():
        raise ModelError(f"{path} is not a file")
    if not abs(weight) <= MAX_LORA_WEIGHT:  # NaN is refused too
        raise ModelError(
            f"{path.name}: a weight is from -{MAX_LORA_WEIGHT:g} to {MAX_LORA_WEIGHT:g}"
        )
    return lora_of(path)


def _merge(entry: ModelEntry, made: Path, loras: Sequence[tuple[LoraSpec, float]]) -> None:
    from serve_app.engine.model.importing.merge import merge_loras  # imports torch

    spec = entry.spec()
    for lora, _ in loras:
        if wrong := lora_problem(lora.name, spec.family, {lora.name: lora}):
            raise ModelError(wrong)
    merge_loras(spec.model_copy(update={"path": str(made.absolute())}), made, loras)
    names = ", ".join(f"{lora.name} x {weight:g}" for lora, weight in loras)
    entry.remarks.append(f"LoRAs that are part of its weights now: {names}")


def _of_directory(
    source: Path, name: str, vae: Path | None, models: Mapping[str, ModelSpec]
) -> ModelEntry:
    index = _json(source / "model_index.json")
    for family in TRANSFORMERS:
        if FAMILIES[family].pipeline == index.get("_class_name"):
            return _of_transformer(
                source, name, vae, [m for m in models.values() if m.family == family]
            )
    unet, scheduler = (
        _json(source / path) for path in ("unet/config.json", "scheduler/scheduler_config.json")
    )
    xl = "XL" in str(index.get("_class_name"))
    generation = "xl" if xl else "2" if unet.get("cross_attention_dim") == 1024 else "1"
    entry = entry_of(
        name,
        source.name,
        _shown(source),
        generation=generation,
        predicts=scheduler.get("prediction_type", "epsilon"),
        zero_snr=bool(scheduler.get("rescale_betas_zero_snr")),
    )
    files = [path.name for path in (source / "unet").glob("*.safetensors")]
    if files and all(".fp16." in file for file in files):
        entry.fields["variant"] = "fp16"
    if vae is not None:
        entry.fields["vae"] = _shown(vae)
    return entry


def _of_transformer(
    source: Path, name: str, vae: Path | None, same: Sequence[ModelSpec]
) -> ModelEntry:
    """`same`: models of its family, of which one lends it sizes, steps and guidance."""
    if vae is not None:
        raise ModelError("a transformer keeps the VAE of its directory: leave --vae out")
    if not same:
        raise ModelError(
            "the models file has no model of its family, whose sizes and steps it could have: enter it there"
        )
    distilled = not _json(source / "transformer/config.json").get("guidance_embeds", True)
    like = next((m for m in same if (m.guidance_scale == 0) is distilled), same[0])
    lent = like.model_dump(mode="json", include=LENT, exclude_defaults=True)
    fields = {"title": source.name, "path": _shown(source), "like": like.name, **lent}
    remark = f"sizes, steps, guidance and memory are those of {like.name}: edit them if its card says others"
    return ModelEntry(name, fields, [remark])


LENT = {
    *("family", "native_size", "sizes", "side", "multiple", "token_limit", "steps", "max_steps"),
    *("guidance_scale", "schedulers", "dtype", "memory"),
}


def _prove(entry: ModelEntry, name: str) -> Path:
    """Load the model as a renderer would, and draw one picture into the working directory."""
    from serve_app.engine import images
    from serve_app.engine.model.drivers import driver_of  # imports torch
    from serve_app.engine.model.loading import load
    from serve_app.engine.request import Request

    spec = entry.spec()
    parts = load(spec, PROJECT_ROOT)
    runner = driver_of(parts)
    params = _order(spec, rough=parts.device.type == "cpu")
    request = Request(params, 0, 0, runner.guides(params))
    runner.start(request)
    while not request.denoised:
        if failures := runner.denoise([request]):
            raise ModelError(f"model {name!r} loads and cannot draw: {failures[request]}")
        request.step += 1
    try:
        pixels = runner.decode([request])[0]()
    except NonFinite as error:
        raise ModelError(
            f"model {name!r} loads and draws NaN: its VAE overflows in half precision. Give another one "
            "with --vae, as sdxl-vae-fp16-fix is"
        ) from error
    proof = Path(f"{name}.png")
    proof.write_bytes(images.png(pixels))
    return proof


def _order(spec: ModelSpec, *, rough: bool) -> Any:
    from serve_app.params import GenerationParams

    width, height = (ROUGH_SIDE, ROUGH_SIDE) if rough else spec.native_size
    return GenerationParams(
        prompt=spec.prompt_template.replace("{prompt}", PROMPT),
        negative_prompt=spec.negative_prompt,
        seed=0,
        width=width,
        height=height,
        steps=min(spec.steps, ROUGH_STEPS) if rough else spec.steps,
        guidance_scale=spec.guidance_scale,
        guidance_rescale=spec.guidance_rescale,
        scheduler=spec.schedulers[0],
        model=spec.name,
        model_revision="",
    )


def _shown(path: Path) -> str:
    """Relative to the project where it lies below it, so that the project may move."""
    whole = path.absolute()
    inside = whole.is_relative_to(PROJECT_ROOT)
    return str(whole.relative_to(PROJECT_ROOT) if inside else whole)


def _json(path: Path) -> dict[str, Any]:
    try:
        content: object = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path.parent.name}/{path.name} is missing or not JSON: a directory must be one that diffusers' "
            "save_pretrained wrote"
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"{path.name} is not a JSON object")
    return content
