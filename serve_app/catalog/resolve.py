"""resolve(): turns the order of a client into GenerationParams, with every choice made and checked.

Knows nothing of HTTP or Ray. Of several values the first wins: the order's, the style's for this model, the
style's, the model's.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from serve_app.catalog.families import UNETS
from serve_app.catalog.finishing import Format, OnFail, resolve_finishing
from serve_app.catalog.loras import MAX_LORA_WEIGHT, MAX_LORAS, lora_problem
from serve_app.catalog.models import (
    MAX_GUIDANCE,
    Draft,
    Models,
    ModelSpec,
    size_problem,
    tile_problem,
)
from serve_app.catalog.schedulers import SCHEDULERS
from serve_app.catalog.styles import NONE, Style, Styles
from serve_app.catalog.wording import NO_VOCABULARIES, seed_of, worded
from serve_app.errors import InvalidField
from serve_app.finishing.base import NO_WEIGHTS, Weights
from serve_app.finishing.palette_files import Palette
from serve_app.params import (
    MAX_CLIP_SKIP,
    ControlUse,
    Finishing,
    GenerationParams,
    LoraUse,
    ReferenceUse,
    SourceUse,
    Tile,
)
from serve_app.starter.vocabulary import Vocabulary

T = TypeVar("T")
STRENGTH, MASKED_STRENGTH = 0.6, 1.0
"""Of an order with a picture that does not say, and of one with a mask."""
MAX_CONTROLS = 3
NO_PALETTES: Mapping[str, Palette] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a client asks for. None: the service decides. A seed of -1 is drawn at random, like None."""

    prompt: str
    negative_prompt: str = ""
    style_id: str | None = None
    seed: int | None = None
    n: int = 1
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    guidance_rescale: float | None = None
    scheduler: str | None = None
    tile: Tile | None = None
    prompt_syntax: Literal["plain", "weighted"] | None = None
    clip_skip: int | None = None
    loras: Sequence[Mapping[str, Any]] | None = None
    init_image: SourceUse | None = None
    strength: float | None = None
    mask_image: SourceUse | None = None
    control: Sequence[Mapping[str, Any]] = ()
    reference: Mapping[str, Any] | None = None
    model: str | None = None
    quality: Literal["full", "draft"] = "full"
    reproducible: Literal["strict"] | None = None
    effects: list[Any] | None = None
    require: dict[str, Any] | None = None
    redraws: int | None = None
    on_fail: OnFail = "keep"
    format: Format = "png"


NO_WISHES = (None, None, None, "keep", "png")
"""Effects, gates, redraws, on_fail and format of an order that says nothing of them."""


class OrderLimits(Protocol):
    """The part of Settings that bounds one order."""

    @property
    def max_images(self) -> int: ...
    @property
    def max_pixels(self) -> int: ...
    @property
    def max_prompt_chars(self) -> int: ...


def resolve(
    order: Order,
    *,
    styles: Styles,
    models: Models,
    active: str,
    served: Sequence[str] = (),
    revision_of: Callable[[str], str],
    limits: OrderLimits,
    vocabularies: Mapping[str, Vocabulary] = NO_VOCABULARIES,
    palettes: Mapping[str, Palette] = NO_PALETTES,
    weights: Weights = NO_WEIGHTS,
    finished: dict[str, Finishing | None] | None = None,
    draw: Callable[[int], int] = secrets.randbelow,
) -> GenerationParams:
    """`active`: name of the model of orders that name none; `served`: all that are served, where there are
    more. `revision_of`: model name -> hash of its weights. `vocabularies`: what models were taught, if their
    weights say so. `finished`: where it may keep what each style does, as long as styles, palettes and
    weights are the same. `draw(k)`: a random number below k. Raises InvalidField, and what `revision_of`
    raises.

    A prompt beyond the model's token limit is not refused: the renderer cuts it and says so in the image's
    notes.
    """
    style = _style(order.style_id, styles)
    served = served or [active]
    spec = _spec(order.model, style, models, active, served)
    if not style.draws(spec.name):
        raise InvalidField(
            "style_id",
            _undrawable(style, spec, models, served),
            [name for name, other in styles.items() if other.draws(spec.name)],
        )
    defaults = style.defaults_for(spec.name)
    syntax: Literal["plain", "weighted"] = _first(order.prompt_syntax, spec.prompt_syntax)
    words = worded(
        order.prompt,
        order.negative_prompt,
        style=style,
        spec=spec,
        weighted=syntax == "weighted",
        models=models,
        vocabularies=vocabularies,
        most=limits.max_prompt_chars,
    )
    _within("n", order.n, 1, limits.max_images)
    width = _first(order.width, defaults.width, spec.native_size[0])
    height = _first(order.height, defaults.height, spec.native_size[1])
    _check_size(order, spec, width, height, limits.max_pixels)
    tier = spec.draft if order.quality == "draft" else None
    steps = _first(order.steps, tier and tier.own_steps, defaults.steps, spec.steps)
    guidance = _first(
        order.guidance_scale,
        tier and tier.guidance_scale,
        defaults.guidance_scale,
        spec.guidance_scale,
    )
    _within("guidance_scale", guidance, 0, MAX_GUIDANCE)
    rescale = _first(order.guidance_rescale, spec.guidance_rescale)
    _within("guidance_rescale", rescale, 0, 1)
    scheduler = _first(
        order.scheduler, tier and tier.scheduler, defaults.scheduler, spec.schedulers[0]
    )
    if scheduler not in spec.schedulers:
        text = f"{spec.name} does not draw with {scheduler!r}"
        raise InvalidField("scheduler", text, spec.schedulers)
    timesteps = tier.timesteps_of(steps, scheduler, spec.schedulers[0]) if tier else ()
    if not timesteps:
        fewest, most = SCHEDULERS[scheduler].min_steps, SCHEDULERS[scheduler].max_steps
        _within("steps", steps, fewest, min(spec.max_steps, most or spec.max_steps))
    tile: Tile = _first(order.tile, defaults.tile, "none")
    if wrong := tile_problem(spec, tile):
        raise InvalidField("tile", wrong, ["none"])
    _check_family(order, spec)
    clip_skip = _first(order.clip_skip, spec.clip_skip)
    _within("clip_skip", clip_skip, 1, MAX_CLIP_SKIP)
    strength = _strength(order, steps)
    finishing = _finishing(order, style, palettes, weights, finished)
    return GenerationParams(
        **words,
        seed=seed_of(order.seed, order.n, finishing, draw),
        n=order.n,
        width=width,
        height=height,
        steps=steps,
        timesteps=timesteps,
        guidance_scale=guidance,
        guidance_rescale=rescale,
        guidance_stop=tier.guidance_stop if tier else 1.0,
        decoder=tier.decoder if tier else "full",
        scheduler=scheduler,
        tile=tile,
        prompt_syntax=syntax,
        clip_skip=clip_skip,
        loras=_loras(order, style, tier, spec, models),
        init_image=order.init_image,
        strength=strength,
        mask_image=order.mask_image,
        control=_control(order, spec),
        reference=_reference(order, spec),
        reproducible=order.reproducible,
        model=spec.name,
        model_revision=revision_of(spec.name),
        quality=order.quality,
        style_id=style.id,
        style_revision=style.revision,
        finishing=finishing,
    )


def order_again(params: GenerationParams, index: int) -> dict[str, Any]:
    """The body of a POST that orders image `index` again, as a single image.

    It asks for style `none` with the final prompt, so a later change of the style file changes nothing. Its
    seed is of the picture that was kept, so it needs no gates.
    """
    finishing = params.finishing
    finished = (
        {"effects": [*finishing.effects], "format": finishing.format}
        if finishing is not None and finishing.makes_asset
        else {}
    )
    return (
        finished
        | _sources_again(params)
        | _control_again(params)
        | _reference_again(params)
        | {
            "prompt": params.prompt,
            "negative_prompt": params.negative_prompt,
            "style_id": NONE.id,
            "seed": params.seed_of(index),
            "n": 1,
            "width": params.width,
            "height": params.height,
            "steps": params.steps,
            "guidance_scale": params.guidance_scale,
            "guidance_rescale": params.guidance_rescale,
            "scheduler": params.scheduler,
            "tile": params.tile,
            "prompt_syntax": params.prompt_syntax,
            "clip_skip": params.clip_skip,
            "loras": [{"name": use.name, "weight": use.weight} for use in params.loras],
            "model": params.model,
            "quality": params.quality,
            "reproducible": params.reproducible,
        }
    )


def _sources_again(params: GenerationParams) -> dict[str, Any]:
    """As the client named them: an upload may have expired since. The record has their hashes."""
    if params.init_image is None:
        return {}
    found: dict[str, Any] = {"init_image": params.init_image.given, "strength": params.strength}
    if params.mask_image is not None:
        found["mask_image"] = params.mask_image.given
    return found


def _control_again(params: GenerationParams) -> dict[str, Any]:
    controls = [
        {
            "type": use.type,
            "image": use.image.given,
            "weight": use.weight,
            "start": use.start,
            "end": use.end,
            "prepared": use.prepare == "none",
        }
        for use in params.control
    ]
    return {"control": controls} if controls else {}


NEEDS_UNET: Mapping[str, tuple[Any, ...]] = {
    "init_image": (None,),
    "mask_image": (None,),
    "prompt_syntax": (None, "plain"),
    "clip_skip": (None, 1),
    "guidance_rescale": (None, 0),
}
"""Fields of an order with the values that a transformer draws too."""


def _check_family(order: Order, spec: ModelSpec) -> None:
    if spec.family in UNETS:
        return
    for field, usual in NEEDS_UNET.items():
        if getattr(order, field) not in usual:
            why = f"{spec.name} is of the family {spec.family}, which has none; {' and '.join(UNETS)} do"
            raise InvalidField(field, why, ["null", *map(str, usual[1:])])


def _style(style_id: str | None, styles: Styles) -> Style:
    if style_id is None:
        return styles[styles.default]
    if style_id not in styles:
        raise InvalidField("style_id", "no such style", sorted(styles))
    return styles[style_id]


def _undrawable(style: Style, spec: ModelSpec, models: Models, served: Sequence[str]) -> str:
    able = [name for name in models if style.draws(name)]
    at_once = [name for name in able if name in served]
    then = f"Order it with `model: {at_once[0]}`." if at_once else how_to_serve(able[0])
    return (
        f"{spec.name}, which this server runs, cannot draw {style.id!r}; models that can: "
        f"{', '.join(able)}. {then}"
    )


def _spec(
    name: str | None, style: Style, models: Models, active: str, served: Sequence[str]
) -> ModelSpec:
    """Of an order that names no model: the active one, or the first that is served and draws the style."""
    if name is None:
        able = (other for other in (active, *served) if style.draws(other))
        return models[next(able, active)]
    if name in served:
        return models[name]
    if name in models:
        raise InvalidField("model", f"is not being served. {how_to_serve(name)}", list(served))
    raise InvalidField("model", "no such model", list(served))


def how_to_serve(model: str) -> str:
    """The next step of whoever wants a model that is not served."""
    return (
        f"To serve {model}, whoever runs the server sets `model: {model}` under `args:` of its Serve config, "
        "or adds a pool of it to `pools:` there, and deploys it."
    )


def _strength(order: Order, steps: int) -> float:
    """Share of the steps that are drawn; 1 without a picture."""
    if order.init_image is None:
        for field in "strength", "mask_image":
            if getattr(order, field) is not None:
                raise InvalidField(field, "needs an init_image, which is what it changes")
        return 1.0
    usual = STRENGTH if order.mask_image is None else MASKED_STRENGTH
    strength = usual if order.strength is None else order.strength
    _within("strength", strength, 0, 1)
    if int(steps * strength) < 1:
        why = f"of {steps} steps none would be drawn with {strength:g}"
        raise InvalidField("strength", why, [f"{1 / steps:.3g} to 1"])
    return strength


def _reference_again(params: GenerationParams) -> dict[str, Any]:
    use = params.reference
    return {} if use is None else {"reference": {"image": use.image.given, "weight": use.weight}}


def _reference(order: Order, spec: ModelSpec) -> ReferenceUse | None:
    """`image` is what its picture was found to be."""
    if order.reference is None:
        return None
    if spec.reference is None:
        allowed = [f"none: {spec.name} has no IP-Adapter here"]
        raise InvalidField("reference", f"{spec.name} cannot draw after a picture", allowed)
    return ReferenceUse(**order.reference)


def _control(order: Order, spec: ModelSpec) -> tuple[ControlUse, ...]:
    """`image` of each is what its picture was found to be."""
    uses: list[ControlUse] = []
    _within("control", len(order.control), 0, MAX_CONTROLS)
    for i, one in enumerate(order.control):
        if (known := spec.controls.get(one["type"])) is None:
            why = f"{spec.name} has no ControlNet {str(one['type'])[:40]!r}"
            allowed = sorted(spec.controls) or [f"none: {spec.name} has no ControlNets here"]
            raise InvalidField(f"control.{i}.type", why, allowed)
        if one["start"] >= one["end"]:
            raise InvalidField(f"control.{i}.end", "must be above start", ["above start, up to 1"])
        uses.append(
            ControlUse(
                type=one["type"],
                image=one["image"],
                weight=one["weight"],
                start=one["start"],
                end=one["end"],
                prepare="none" if one["prepared"] else known.prepare,
            )
        )
    return tuple(uses)


def _check_size(order: Order, spec: ModelSpec, width: int, height: int, max_pixels: int) -> None:
    field = "height" if order.width is None and order.height is not None else "width"
    if wrong := size_problem(spec, width, height):
        raise InvalidField(field, wrong, allowed_sizes(spec))
    if width * height > max_pixels:
        raise InvalidField(field, f"{width}x{height} is more than {max_pixels} pixels")
    if width * height * order.n > max_pixels:
        most = max_pixels // (width * height)
        text = f"{order.n} images of {width}x{height} are more than {max_pixels} pixels"
        raise InvalidField("n", text, [f"1 to {most}"])


def allowed_sizes(spec: ModelSpec) -> list[str]:
    """For messages: each size as `128x128`, or the rule where any size within bounds is allowed."""
    if spec.side is not None:
        return [f"multiples of {spec.multiple} from {spec.side.min} to {spec.side.max}"]
    return [f"{width}x{height}" for width, height in spec.sizes or [spec.native_size]]


def _finishing(
    order: Order,
    style: Style,
    palettes: Mapping[str, Palette],
    weights: Weights,
    finished: dict[str, Finishing | None] | None,
) -> Finishing | None:
    """The order's own wishes replace the style's; `[]` and `{}` turn them off."""
    wishes = (order.effects, order.require, order.redraws, order.on_fail, order.format)
    if finished is not None and wishes == NO_WISHES:
        if style.id not in finished:
            finished[style.id] = _finishing(order, style, palettes, weights, None)
        return finished[style.id]
    effects = style.effects if order.effects is None else order.effects
    require = style.require if order.require is None else order.require
    redraws = order.redraws
    if redraws is None:
        redraws = style.redraws if order.require is None else 0
    return resolve_finishing(
        effects, require, redraws, order.on_fail, order.format, palettes, weights
    )


def _loras(
    order: Order, style: Style, tier: Draft | None, spec: ModelSpec, models: Models
) -> tuple[LoraUse, ...]:
    """The order's own replace those of the style. That of a tier is the last."""
    wanted = [(use.name, use.weight) for use in style.loras_for(spec.name)]
    if order.loras is not None:
        wanted = [(str(one["name"]), float(one.get("weight", 1.0))) for one in order.loras]
    if not wanted and (tier is None or tier.adapter is None):
        return ()
    fit = [name for name in models.loras if not lora_problem(name, spec.family, models.loras)]
    fit = fit or ["none: no LoRA of this server fits"]
    names = [name for name, _ in wanted]
    for i, (name, weight) in enumerate(wanted):
        if wrong := lora_problem(name, spec.family, models.loras):
            raise InvalidField("loras", wrong, fit)
        if name in names[:i]:
            raise InvalidField("loras", f"{name!r} is there twice", fit)
        _within("loras", weight, -MAX_LORA_WEIGHT, MAX_LORA_WEIGHT)
    _within("loras", len(wanted), 0, MAX_LORAS)
    if tier is not None and tier.adapter is not None and tier.adapter not in names:
        wanted.append((tier.adapter, tier.adapter_weight))
    return tuple(
        LoraUse(name=name, weight=weight, revision=models.loras[name].revision)
        for name, weight in wanted
    )


def _within(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # NaN is refused too
        raise InvalidField(field, f"{value:g} is out of range", [f"{low:g} to {high:g}"])


def _first(*values: T | None) -> T:
    return next(value for value in values if value is not None)
