"""Style: a named preset: words around a prompt, and defaults. Loads configs/styles.yaml.

Knows nothing of orders: `resolve.py` decides when an order's value wins over a style's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from serve_app.catalog.finishing import resolve_effects, resolve_require
from serve_app.catalog.loras import MAX_LORA_WEIGHT, MAX_LORAS, lora_problem
from serve_app.catalog.models import (
    MAX_GUIDANCE,
    PROMPT,
    Models,
    ModelSpec,
    prompt_problem,
    size_problem,
    template_problem,
    tile_problem,
)
from serve_app.catalog.schedulers import SCHEDULERS
from serve_app.catalog.yamlfile import At, Mistake, YamlFile, did_you_mean, read_yaml
from serve_app.errors import ConfigError, InvalidField
from serve_app.finishing.base import NO_WEIGHTS, Weights
from serve_app.finishing.effects import parse_effects
from serve_app.finishing.palette_files import Palette
from serve_app.params import MAX_REDRAWS, Tile


class StyleDefaults(BaseModel):
    """What an order gets when it does not say. None: the model decides."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int | None = Field(default=None, gt=0)
    height: int | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, ge=1)
    guidance_scale: float | None = Field(default=None, ge=0, le=MAX_GUIDANCE)
    scheduler: str | None = None
    tile: Tile | None = None

    def over(self, other: StyleDefaults) -> StyleDefaults:
        """These values, and those of `other` where they are None."""
        return other.model_copy(update=self.model_dump(exclude_none=True))


class StyleLora(BaseModel):
    """A LoRA that a style is drawn with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="One of GET /v1/loras.", examples=["ink"])
    weight: float = Field(
        default=1.0,
        ge=-MAX_LORA_WEIGHT,
        le=MAX_LORA_WEIGHT,
        description="How strongly it counts.",
        examples=[0.8],
    )


class StyleForModel(BaseModel):
    """What a style says differently for one model. None: as in the style itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    template: str | None = None
    negative_prompt: str | None = None
    defaults: StyleDefaults = StyleDefaults()
    loras: list[StyleLora] | None = Field(default=None, max_length=MAX_LORAS)


class Style(BaseModel):
    """`{prompt}` in `template` stands for the order's prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = ""
    title: str = ""
    description: str = ""
    template: str = Field(
        description="Holds {prompt} once. A model that cuts a long prompt cuts its end, so words before "
        "{prompt} take room from it; the image's notes say so."
    )
    negative_prompt: str = ""
    defaults: StyleDefaults = StyleDefaults()
    models: dict[str, StyleForModel] = Field(default={}, description="Overrides, by model.")
    only: list[str] | None = Field(
        default=None, min_length=1, description="Models that can draw it."
    )
    loras: list[StyleLora] = Field(
        default=[], max_length=MAX_LORAS, description="Added, unless the order has its own."
    )
    effects: list[dict[str, Any]] = Field(
        default=[], description="Done with each picture, unless the order has its own."
    )
    require: dict[str, Any] | None = Field(
        default=None, description="Gates on each picture, unless the order has its own."
    )
    redraws: int = Field(
        default=0, ge=0, le=MAX_REDRAWS, description="How often to draw again what fails one."
    )

    added: frozenset[str] = Field(
        default=frozenset(), exclude=True, description="Models that are `like` one it names."
    )

    @cached_property
    def revision(self) -> str:
        """A hash of everything that can change a picture, so not of title and description. Models that were
        added do not count, or each imported one would change the revision of every style."""
        drawn = self.model_dump(mode="json", exclude={"title", "description"})
        if not self.loras:  # as the hash was before styles could have any
            del drawn["loras"]
        for override in drawn["models"].values():
            if override["loras"] is None:
                del override["loras"]
        drawn["models"] = {k: v for k, v in drawn["models"].items() if k not in self.added}
        if drawn["only"] is not None:
            drawn["only"] = [name for name in drawn["only"] if name not in self.added]
        text = json.dumps(drawn, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def also_for(self, models: Models) -> Style:
        """This style, where each model that is `like` another is treated as that one."""
        alike = {name: spec.like for name, spec in models.items() if spec.like is not None}
        override = {
            n: self.models[x] for n, x in alike.items() if x in self.models and n not in self.models
        }
        only = self.only
        if only is not None:
            only = [*only, *(n for n, x in alike.items() if x in only and n not in only)]
        added = frozenset(override) | (frozenset(only or ()) - frozenset(self.only or ()))
        changes = {"models": {**self.models, **override}, "only": only, "added": added}
        return self.model_copy(update=changes)

    def draws(self, model: str) -> bool:
        """Whether this model can draw the style."""
        return self.only is None or model in self.only

    def template_for(self, model: str) -> str:
        template = self._for(model).template
        return self.template if template is None else template

    def negative_for(self, model: str) -> str:
        negative = self._for(model).negative_prompt
        return self.negative_prompt if negative is None else negative

    def defaults_for(self, model: str) -> StyleDefaults:
        own = self._for(model).defaults
        return self.defaults if own is AS_IT_IS.defaults else own.over(self.defaults)

    def loras_for(self, model: str) -> list[StyleLora]:
        loras = self._for(model).loras
        return self.loras if loras is None else loras

    def _for(self, model: str) -> StyleForModel:
        return self.models.get(model, AS_IT_IS)


AS_IT_IS = StyleForModel()
NONE = Style(
    id="none",
    title="None",
    description="Exactly your words: nothing of a style, and no template or negative prompt "
    "of the model either.",
    template=PROMPT,
)


class Styles(Mapping[str, Style]):
    """Styles by id, and always `none`. `default` is the one of an order that names none."""

    def __init__(self, styles: Mapping[str, Style], default: str = NONE.id) -> None:
        self._styles = {NONE.id: NONE, **styles}
        self.default = default

    def __getitem__(self, style_id: str) -> Style:
        return self._styles[style_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._styles)

    def __len__(self) -> int:
        return len(self._styles)


class StylesFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    default: str = NONE.id
    styles: dict[str, Style]


def load_styles(path: Path, models: Models) -> Styles:
    """Raises ConfigError with file, line and what is allowed.

    A style's defaults must fit every model that draws it, or an order would fail on a value that its client
    never gave.
    """
    source, file = read_styles(path)
    whole = {name: style.also_for(models) for name, style in file.styles.items()}
    problems = [p for name, style in whole.items() for p in _problems(name, style, models)]
    styles = Styles(
        {name: s.model_copy(update={"id": name}) for name, s in whole.items()}, file.default
    )
    source.refuse([*problems, *_default_problems(styles, models)])
    return styles


def refuse_unknown_palettes(
    styles: Styles, palettes: Mapping[str, Palette], weights: Weights = NO_WEIGHTS
) -> None:
    """Raises ConfigError for a style whose effects this server cannot run."""
    for style in styles.values():
        try:
            resolve_effects(style.effects, palettes, weights=weights)
        except InvalidField as error:
            raise ConfigError(f"style {style.id}: {_said(error)}") from error


def read_styles(path: Path) -> tuple[YamlFile, StylesFile]:
    """The file, not yet compared with any model. Raises ConfigError."""
    source = read_yaml(path)
    return source, source.parse(StylesFile)


def _default_problems(styles: Styles, models: Models) -> Iterator[Mistake]:
    if styles.default not in styles:
        unknown = f"unknown style {styles.default!r}{did_you_mean(styles.default, styles)}"
        yield Mistake(("default",), unknown)
        return
    if unable := [name for name in models if not styles[styles.default].draws(name)]:
        text = f"{', '.join(unable)} cannot draw {styles.default!r}, and an order need not name a style"
        yield Mistake(("default",), text)


def _problems(name: str, style: Style, models: Models) -> Iterator[Mistake]:
    def at(*keys: str | int) -> At:
        return ("styles", name, *keys)

    if not re.fullmatch(r"[a-z0-9][a-z0-9_]{0,39}", name):  # URLs of files cannot start with `_`
        text = (
            "a style's id becomes part of file names: a-z, 0-9, and '_' after the first; up to 40"
        )
        yield Mistake(at(), text)
    if name == NONE.id:
        yield Mistake(at(), "is built in: it means no style at all")
    if style.id:
        yield Mistake(at("id"), f"the id is the key already: {name!r}")
    if wrong := template_problem(style.template):
        yield Mistake(at("template"), wrong)
    if wrong := prompt_problem(style.negative_prompt):
        yield Mistake(at("negative_prompt"), wrong)
    for i, model in enumerate(style.only or []):
        if model not in models:
            yield Mistake(at("only", i), f"unknown model {model!r}{did_you_mean(model, models)}")
    for model, override in style.models.items():
        if model not in models:
            unknown = f"unknown model {model!r}{did_you_mean(model, models)}"
            yield Mistake(at("models", model), unknown)
        elif not style.draws(model):
            yield Mistake(at("models", model), f"{model!r} is not in `only`: this is never used")
        if override.template is not None and (wrong := template_problem(override.template)):
            yield Mistake(at("models", model, "template"), wrong)
        if wrong := prompt_problem(override.negative_prompt or ""):
            yield Mistake(at("models", model, "negative_prompt"), wrong)
    yield from _wrong_finishing(style, at)
    yield from _unknown_schedulers(style.defaults, at("defaults"))
    for model, override in style.models.items():
        yield from _unknown_schedulers(override.defaults, at("models", model, "defaults"))
    for model, spec in models.items():
        if style.draws(model):
            yield from _unfit_loras(style, spec, models, at)
            for key, text in _misfits(style.defaults_for(model), spec):
                own = getattr(style._for(model).defaults, key) is not None
                where = ("models", model, "defaults", key) if own else ("defaults", key)
                yield Mistake(at(*where), f"{text} (give {model} its own under `models`)")


def _unfit_loras(
    style: Style, spec: ModelSpec, models: Models, at: Callable[..., At]
) -> Iterator[Mistake]:
    own = style._for(spec.name).loras is not None
    where = ("models", spec.name, "loras") if own else ("loras",)
    names = [use.name for use in style.loras_for(spec.name)]
    for i, name in enumerate(names):
        if wrong := lora_problem(name, spec.family, models.loras):
            advice = "" if own else f" (give {spec.name} its own under `models`)"
            yield Mistake(at(*where, i), wrong + advice)
        elif name in names[:i]:
            yield Mistake(at(*where, i), f"{name!r} is there twice")


def _wrong_finishing(style: Style, at: Callable[..., At]) -> Iterator[Mistake]:
    """Palettes by name are looked up when the application starts."""
    try:
        parse_effects(style.effects)
    except InvalidField as error:
        yield Mistake(at("effects"), _said(error))
    try:
        resolve_require(style.require)
    except InvalidField as error:
        yield Mistake(at("require"), _said(error))
    if style.redraws and not style.require:
        yield Mistake(
            at("redraws"), "nothing says which pictures to draw again: give `require` too"
        )


def _said(error: InvalidField) -> str:
    allowed = "" if error.allowed is None else f" Allowed: {', '.join(map(str, error.allowed))}"
    return f"{error.detail}{allowed}"


def _unknown_schedulers(defaults: StyleDefaults, at: At) -> Iterator[Mistake]:
    name = defaults.scheduler
    if name is not None and name not in SCHEDULERS:
        text = f"unknown scheduler {name!r}{did_you_mean(name, SCHEDULERS)}"
        yield Mistake((*at, "scheduler"), text)


def _misfits(defaults: StyleDefaults, spec: ModelSpec) -> Iterator[tuple[str, str]]:
    """Defaults that this model could not draw: (key, why)."""
    width = defaults.width or spec.native_size[0]
    height = defaults.height or spec.native_size[1]
    if wrong := size_problem(spec, width, height):
        yield ("height" if defaults.width is None else "width"), wrong
    if defaults.steps is not None and defaults.steps > spec.max_steps:
        yield "steps", f"{spec.name} allows at most {spec.max_steps}"
    if wrong := tile_problem(spec, defaults.tile or "none"):
        yield "tile", wrong
    if defaults.scheduler in SCHEDULERS and defaults.scheduler not in spec.schedulers:
        allowed = ", ".join(spec.schedulers)
        yield "scheduler", f"{spec.name} does not list {defaults.scheduler!r}. Allowed: {allowed}"
