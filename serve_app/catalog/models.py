"""ModelSpec: what configs/models.yaml says of each checkpoint that the service may load.

Knows nothing of torch or diffusers, because the ingress reads it too. `engine/model/loading.py` loads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from serve_app.catalog.embeddings import EmbeddingSpec, load_embeddings
from serve_app.catalog.families import ANY_PIPELINES, FAMILIES, UNETS, FamilyName
from serve_app.catalog.loras import MAX_LORA_WEIGHT, LoraSpec, load_loras, lora_problem
from serve_app.catalog.schedulers import DIFFUSION, FLOW, OWN, SCHEDULERS, SchedulerSpec
from serve_app.catalog.yamlfile import At, Mistake, YamlFile, did_you_mean, read_yaml
from serve_app.config import user_path
from serve_app.errors import ModelError
from serve_app.params import MAX_CLIP_SKIP, Prepare

MAX_GUIDANCE = 30.0
PROMPT = "{prompt}"
MAX_IMAGE_PIXELS = 4096 * 4096
"""Of one image: as many as effects take. Results travel through Ray's object store, which sets no smaller
bound; what one order may ask for is `max_pixels`."""


UserFolder = Annotated[str, AfterValidator(lambda path: str(user_path(path)))]


Timestep = Annotated[int, Field(ge=0, le=999)]


class SideLimits(BaseModel):
    """Pixels of width and height; both ends are allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: int = Field(ge=1)
    max: int = Field(ge=1)


class Draft(BaseModel):
    """The cheap quality tier of a model: what `quality: "draft"` resolves to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    guidance_stop: float = Field(default=0.5, ge=0, le=1)
    decoder: Literal["full", "tiny"] = "full"
    adapter: str | None = Field(
        default=None, description="A LoRA that was trained to need few steps; it is added last."
    )
    adapter_weight: float = Field(default=1.0, ge=-MAX_LORA_WEIGHT, le=MAX_LORA_WEIGHT)
    steps: int | None = Field(default=None, ge=1, description="Instead of the style's.")
    timesteps: list[Timestep] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Of training, falling, one for each step: what a model of few steps was distilled at. "
        "Instead of `steps`.",
    )
    scheduler: str | None = Field(default=None, description="Instead of the style's.")
    guidance_scale: float | None = Field(
        default=None, ge=0, description="Instead of the style's; 1: half the work of each step."
    )

    @property
    def own_steps(self) -> int | None:
        """None: as otherwise."""
        return self.steps if self.timesteps is None else len(self.timesteps)

    def timesteps_of(self, steps: int, scheduler: str, usual: str) -> tuple[int, ...]:
        """Those of an order of so many steps by this scheduler; empty: the scheduler's own, since the order
        wants other steps or another scheduler than the tier. `usual`: the model's first one."""
        fits = self.timesteps is not None and scheduler == (self.scheduler or usual)
        return tuple(self.timesteps or ()) if fits and steps == self.own_steps else ()


class ControlSpec(BaseModel):
    """A ControlNet of a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: UserFolder = Field(description="Directory of a diffusers ControlNetModel.")
    prepare: Prepare = Field(
        default="none", description="What is made of an order's picture: canny, lineart or none."
    )


class Memory(BaseModel):
    """GiB of the device that a model needs to draw one image of its native size, in 16 bits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    whole: float = Field(gt=0, description="With all of its parts.")
    offloaded: float = Field(gt=0, description="With `cpu_offload: model`.")


class ReferenceSpec(BaseModel):
    """The IP-Adapter of a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: UserFolder = Field(description="Its .safetensors file.")
    image_encoder: UserFolder = Field(
        description="Directory of the CLIPVisionModelWithProjection that it was trained with."
    )


class ModelSpec(BaseModel):
    """One checkpoint. Exactly one of `path` and `hub` is set; safetensors only in both cases."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    title: str = ""
    family: FamilyName
    pipeline: str | None = Field(
        default=None, description="Class of diffusers; of the family `any` alone."
    )
    path: UserFolder | None = Field(
        default=None, description="Directory, relative to the project root; `~` is your home."
    )
    hub: str | None = Field(default=None, description="Hub repository id; needs `revision`.")
    revision: str | None = Field(default=None, description="A full commit id; never a branch.")
    variant: str | None = None
    like: str | None = Field(
        default=None, description="A model of this list: styles treat both alike."
    )
    vae: UserFolder | None = Field(
        default=None, description="Directory of another AutoencoderKL, instead of the checkpoint's."
    )
    tiny_decoder: UserFolder | None = Field(
        default=None, description="Directory of an AutoencoderTiny."
    )
    native_size: tuple[int, int]
    sizes: list[tuple[int, int]] | None = Field(default=None, description="The only sizes allowed.")
    side: SideLimits | None = Field(default=None, description="Or: any size within, by `multiple`.")
    multiple: int = Field(default=8, ge=8)
    token_limit: int = Field(default=77, ge=4)
    steps: int = Field(ge=1, description="Default.")
    max_steps: int = Field(
        default=150, ge=1, le=1000, description="Of 1,000 steps of training; more cannot be drawn."
    )
    guidance_scale: float = Field(ge=0, description="Default; 0 or 1 for turbo and LCM models.")
    guidance_rescale: float = Field(
        default=0.0, ge=0, le=1, description="Default; v-prediction checkpoints want about 0.7."
    )
    schedulers: list[str] = Field(min_length=1, description="Allowed; the first is the default.")
    prompt_syntax: Literal["plain", "weighted"] = Field(
        default="plain", description="How prompts are read, unless an order says it."
    )
    clip_skip: int = Field(
        default=1, ge=1, le=MAX_CLIP_SKIP, description="Default; many anime checkpoints want 2."
    )
    prompt_template: str = "{prompt}"
    negative_prompt: str = ""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto",
        description="auto: on a GPU float16, of transformers bfloat16; float32 on a CPU.",
    )
    threads: int | None = Field(default=None, description="torch threads per replica on a CPU.")
    channels_last: bool = False
    compile: bool = Field(
        default=False,
        description="torch.compile the UNet before the first job. It takes minutes. Orders that say "
        "`strict` stay eager.",
    )
    memory: Memory | None = Field(
        default=None,
        description="What it needs; a device that has less is refused before it loads.",
    )
    cpu_offload: Literal["model"] | None = Field(
        default=None,
        description="model: text encoders and the network take turns on a device that is too small for both.",
    )
    safety_check: bool = Field(
        default=True, description="Use the checkpoint's safety checker, if it has one."
    )
    max_rows: int = Field(default=16, ge=2, description="Hard cap of UNet rows per call.")
    draft: Draft = Draft()
    controls: dict[str, ControlSpec] = Field(
        default={}, description="ControlNets, by what `type` of an order's control names."
    )
    reference: ReferenceSpec | None = Field(
        default=None, description="An IP-Adapter, for `reference` of an order."
    )


class Models(Mapping[str, ModelSpec]):
    """Every checkpoint of models.yaml by name. `default` is served unless the settings name another."""

    def __init__(
        self,
        specs: Mapping[str, ModelSpec],
        default: str,
        loras: Mapping[str, LoraSpec] | None = None,
        embeddings: Mapping[str, EmbeddingSpec] | None = None,
    ) -> None:
        self._specs = dict(specs)
        self.default = default
        self.loras = dict(loras or {})
        self.embeddings = dict(embeddings or {})  # by name in small letters

    def __getitem__(self, name: str) -> ModelSpec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


class _ModelsFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    default: str
    models: dict[str, ModelSpec] = Field(min_length=1)


def active_model(name: str | None, models: Models) -> ModelSpec:
    """The model of this name; None: the file's default. Raises ModelError."""
    name = name or models.default
    if name not in models:
        raise ModelError(f"model {name!r} is not in the models file: {', '.join(models)}")
    return models[name]


def without_folders(text: str, models: Iterable[ModelSpec]) -> str:
    """The text without the directories of models: clients read it, and need not know them."""
    folders = {f for m in models for f in (m.path, m.vae, m.tiny_decoder) if f is not None}
    folders |= {control.path for model in models for control in model.controls.values()}
    adapters = [model.reference for model in models if model.reference is not None]
    folders |= {path for adapter in adapters for path in (adapter.path, adapter.image_encoder)}
    for folder in sorted(folders, key=len, reverse=True):
        text = re.sub(rf"(?<![\w/.-]){re.escape(folder)}(?![\w/-])", "its folder", text)
    return text


def load_models(path: Path) -> Models:
    """The models file, and of the folder models.d beside it a model of each file, under the file's name.

    Raises ConfigError with file, line and what is allowed. Looks at no checkpoint.
    """
    source = read_yaml(path)
    file = source.parse(_ModelsFile)
    loras = load_loras(path.parent / "loras")
    named = {name: spec.model_copy(update={"name": name}) for name, spec in file.models.items()}
    problems = [p for spec in named.values() for p in _problems(spec, loras, ("models", spec.name))]
    problems += [
        Mistake(("models", name, "name"), f"the name is the key already: {name!r}")
        for name, spec in file.models.items()
        if spec.name
    ]
    added = {spec.name: (one, spec) for one, spec in _folder_of_models(path)}
    everything = {**named, **{name: spec for name, (_, spec) in added.items()}}
    problems += [
        p for s in named.values() for p in _like_problems(s, everything, ("models", s.name))
    ]
    if file.default not in everything:
        unknown = f"unknown model {file.default!r}{did_you_mean(file.default, everything)}"
        problems.append(Mistake(("default",), unknown))
    source.refuse(problems)
    for name, (one, spec) in added.items():
        twice = [Mistake((), f"{name!r} is in {path.name} already")] if name in named else []
        one.refuse([*twice, *_problems(spec, loras, ()), *_like_problems(spec, everything, ())])
    embeddings = load_embeddings(path.parent / "embeddings")
    return Models(everything, file.default, loras, embeddings)


def models_folder(path: Path) -> Path:
    """Of a models file: where imported models are described, a file for each."""
    return path.parent / "models.d"


def _folder_of_models(path: Path) -> Iterator[tuple[YamlFile, ModelSpec]]:
    for one in sorted(models_folder(path).glob("*.yaml")):
        source = read_yaml(one)
        spec = source.parse(ModelSpec)
        if spec.name:
            source.refuse([Mistake(("name",), f"the name is that of the file: {one.stem!r}")])
        yield source, spec.model_copy(update={"name": one.stem})


def _like_problems(spec: ModelSpec, models: Mapping[str, ModelSpec], at: At) -> Iterator[Mistake]:
    if spec.like is not None and (spec.like not in models or models[spec.like].like is not None):
        unknown = f"no model {spec.like!r} that others can be like{did_you_mean(spec.like, models)}"
        yield Mistake((*at, "like"), unknown)


def size_problem(spec: ModelSpec, width: int, height: int) -> str | None:
    """Why the model does not draw this size, or None."""
    if width * height > MAX_IMAGE_PIXELS:
        return f"{width}x{height} is more than the {MAX_IMAGE_PIXELS} pixels one image may have"
    if spec.sizes is not None:
        allowed = (width, height) in spec.sizes
        return None if allowed else f"{width}x{height} is not a size of {spec.name}"
    if spec.side is None:
        native = (width, height) == spec.native_size
        return None if native else f"{spec.name} draws only its native size"
    for side in (width, height):
        if side % spec.multiple:
            return f"{side} is not a multiple of {spec.multiple}"
        if not spec.side.min <= side <= spec.side.max:
            return f"{side} is not within {spec.side.min} to {spec.side.max}"
    return None


def tile_problem(spec: ModelSpec, tile: str) -> str | None:
    """Why the model does not draw what repeats along these axes, or None."""
    if tile == "none" or spec.family in UNETS:
        return None
    return f"{spec.name} cannot draw tiles: only {' and '.join(UNETS)} models can"


def template_problem(template: str) -> str | None:
    """Why this is no prompt template, or None. Other braces are refused: `{promt}` is a typo."""
    if template.count(PROMPT) != 1:
        return f"must hold {PROMPT} exactly once"
    if re.search(r"[{}]", template.replace(PROMPT, "")):
        return f"{PROMPT} is the only placeholder"
    return prompt_problem(template)


def prompt_problem(text: str) -> str | None:
    """Why this cannot be part of a prompt, or None.

    The API trims a prompt and allows one line, and the final prompt of an image must be one that the API
    takes unchanged, so that the image can be ordered again.
    """
    plain = text == text.strip() and not re.search(r"[\x00-\x1f\x7f-\x9f]", text)
    return None if plain else "must be one line, without spaces at its ends"


def _problems(spec: ModelSpec, loras: Mapping[str, LoraSpec], where: At) -> Iterator[Mistake]:
    def at(*keys: str | int) -> At:
        return (*where, *keys)

    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,63}", spec.name):
        yield Mistake(at(), f"{spec.name!r} is no name: a-z, 0-9, '_', '.', '-', at most 64")
    yield from _source_problems(spec, at())
    yield from _size_problems(spec, at())
    if spec.steps > spec.max_steps:
        yield Mistake(at("steps"), f"must not exceed max_steps, {spec.max_steps}")
    least = SCHEDULERS[spec.schedulers[0]].min_steps if spec.schedulers[0] in SCHEDULERS else 1
    if spec.steps < least:
        yield Mistake(at("steps"), f"{spec.schedulers[0]} needs at least {least}")
    if spec.guidance_scale > MAX_GUIDANCE:
        yield Mistake(at("guidance_scale"), f"must not exceed {MAX_GUIDANCE:g}")
    for i, scheduler in enumerate(spec.schedulers):
        if scheduler not in SCHEDULERS:
            unknown = f"unknown scheduler {scheduler!r}{did_you_mean(scheduler, SCHEDULERS)}"
            yield Mistake(at("schedulers", i), unknown)
        elif scheduler in spec.schedulers[:i]:
            yield Mistake(at("schedulers", i), f"{scheduler!r} is here twice")
    if wrong := template_problem(spec.prompt_template):
        yield Mistake(at("prompt_template"), wrong)
    if wrong := prompt_problem(spec.negative_prompt):
        yield Mistake(at("negative_prompt"), wrong)
    if spec.draft.decoder == "tiny" and spec.tiny_decoder is None:
        yield Mistake(at("draft", "decoder"), "tiny needs `tiny_decoder`, a directory")
    yield from _tier_problems(spec, loras, at("draft"))
    yield from _family_problems(spec, at())
    for name in spec.controls:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name):
            yield Mistake(at("controls", name), f"{name!r} is no name: a-z, 0-9, '_', '-'")


UNET_ONLY = {
    "vae": None,
    "tiny_decoder": None,
    "controls": {},
    "reference": None,
    "prompt_syntax": "plain",
    "clip_skip": 1,
    "guidance_rescale": 0.0,
    "compile": False,
    "channels_last": False,
}
"""What a model's entry may change for UNets alone, each with the value that others keep."""
DRAWN_WITH: Mapping[str, Mapping[str, SchedulerSpec]] = {
    "unet": DIFFUSION,
    "transformer": FLOW,
    "any": OWN,
}


def _family_problems(spec: ModelSpec, at: At) -> Iterator[Mistake]:
    kind = FAMILIES[spec.family].kind
    for field, usual in UNET_ONLY.items() if kind != "unet" else ():
        if getattr(spec, field) != usual:
            text = f"models of {spec.family} have none: only {' and '.join(UNETS)} models do"
            yield Mistake((*at, field), text)
    known = DRAWN_WITH[kind]
    for i, name in enumerate(spec.schedulers):
        if name in SCHEDULERS and name not in known:
            text = f"{name} is not for {spec.family}, which draws with {', '.join(known)}"
            yield Mistake((*at, "schedulers", i), text)
    if spec.reference is not None and spec.cpu_offload is not None:
        yield Mistake((*at, "reference"), "does not go with `cpu_offload`")
    if kind != "any":
        if spec.pipeline is not None:
            yield Mistake((*at, "pipeline"), "is of the family `any` alone")
        return
    if spec.pipeline not in ANY_PIPELINES:
        text = f"must be one of {', '.join(ANY_PIPELINES)}"
        yield Mistake((*at, "pipeline") if spec.pipeline else at, f"`pipeline` {text}")
    if spec.cpu_offload is not None:
        yield Mistake((*at, "cpu_offload"), "the family `any` has none")
    if spec.draft.guidance_stop != Draft().guidance_stop:
        yield Mistake((*at, "draft", "guidance_stop"), "the family `any` has none")


def _tier_problems(spec: ModelSpec, loras: Mapping[str, LoraSpec], at: At) -> Iterator[Mistake]:
    tier = spec.draft
    if tier.adapter is not None and (wrong := lora_problem(tier.adapter, spec.family, loras)):
        yield Mistake((*at, "adapter"), wrong)
    scheduler = tier.scheduler or spec.schedulers[0]
    if scheduler not in spec.schedulers:
        allowed = ", ".join(spec.schedulers)
        yield Mistake((*at, "scheduler"), f"is none of the model's schedulers: {allowed}")
    elif tier.timesteps is not None and scheduler in SCHEDULERS:
        yield from _timestep_problems(tier, tier.timesteps, scheduler, at)
    elif tier.steps is not None and scheduler in SCHEDULERS:
        limit = SCHEDULERS[scheduler]
        most = min(spec.max_steps, limit.max_steps or spec.max_steps)
        if not limit.min_steps <= tier.steps <= most:
            text = f"{scheduler} is drawn with {limit.min_steps} to {most} steps"
            yield Mistake((*at, "steps"), text)
    if tier.guidance_scale is not None and tier.guidance_scale > MAX_GUIDANCE:
        yield Mistake((*at, "guidance_scale"), f"must not exceed {MAX_GUIDANCE:g}")


def _timestep_problems(tier: Draft, given: list[int], scheduler: str, at: At) -> Iterator[Mistake]:
    if any(later >= earlier for earlier, later in pairwise(given)):
        yield Mistake((*at, "timesteps"), "must fall from one step to the next, as in [800, 400]")
    if tier.steps not in (None, len(given)):
        yield Mistake((*at, "steps"), f"leave it out: `timesteps` says {len(given)}")
    if not SCHEDULERS[scheduler].any_timesteps:
        able = ", ".join(name for name, known in SCHEDULERS.items() if known.any_timesteps)
        text = f"{scheduler} takes none; with a `scheduler` that does: {able}"
        yield Mistake((*at, "timesteps"), text)


def _source_problems(spec: ModelSpec, at: At) -> Iterator[Mistake]:
    if (spec.path is None) == (spec.hub is None):
        yield Mistake(at, "needs exactly one of `path` and `hub`")
    if spec.hub is None:
        if spec.revision is not None:
            yield Mistake((*at, "revision"), "only a `hub` model has one; a `path` is hashed")
        return
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", spec.hub, re.ASCII):
        yield Mistake((*at, "hub"), "must be a repository id: owner/name")
    if not re.fullmatch(r"[0-9a-f]{40}", spec.revision or ""):
        text = "must be a full commit id of 40 hex digits: branches and tags move"
        yield Mistake((*at, "revision"), text)


def _size_problems(spec: ModelSpec, at: At) -> Iterator[Mistake]:
    least = FAMILIES[spec.family].multiple
    if spec.multiple % least:
        text = f"must be a multiple of {least}: one latent of {spec.family} is {least} pixels wide"
        yield Mistake((*at, "multiple"), text)
    if spec.sizes is not None and spec.side is not None:
        yield Mistake((*at, "side"), "`sizes` is the whole list; give one of both")
    if spec.side is not None and spec.side.min > spec.side.max:
        yield Mistake((*at, "side"), "min must not exceed max")
    for i, (width, height) in enumerate(spec.sizes or []):
        if width * height > MAX_IMAGE_PIXELS:
            text = f"{width}x{height} is more than {MAX_IMAGE_PIXELS} pixels"
            yield Mistake((*at, "sizes", i), text)
        if width < 8 or height < 8 or width % spec.multiple or height % spec.multiple:
            text = f"{width}x{height} is not made of multiples of {spec.multiple}"
            yield Mistake((*at, "sizes", i), text)
    width, height = spec.native_size
    if width < 8 or height < 8 or width % spec.multiple or height % spec.multiple:
        text = f"{width}x{height} is not made of multiples of {spec.multiple}"
        yield Mistake((*at, "native_size"), text)
    elif wrong := size_problem(spec, width, height):
        yield Mistake((*at, "native_size"), wrong)
