"""resolve(): which value wins, what is refused and with what advice, and ordering an image again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.api.schemas import GenerateRequest
from serve_app.catalog.loras import LoraSpec
from serve_app.catalog.models import Draft, Models, SideLimits
from serve_app.catalog.resolve import Order, order_again, resolve
from serve_app.catalog.styles import (
    Style,
    StyleDefaults,
    StyleForModel,
    StyleLora,
    Styles,
)
from serve_app.errors import InvalidField
from serve_app.params import MAX_SEED, Finishing, GenerationParams, SourceUse
from tests.factories import model_spec


@dataclass(frozen=True)
class Bounds:
    max_images: int = 8
    max_pixels: int = 4 * 1024 * 1024
    max_prompt_chars: int = 200


MODELS = Models(
    {
        "tiny": model_spec(
            native_size=(128, 128),
            sizes=[(128, 128), (128, 192)],
            token_limit=24,
            steps=20,
            max_steps=60,
            guidance_scale=4.0,
            schedulers=["dpmpp_2m", "ddim", "lcm"],
            tiny_decoder="taesd",
            draft=Draft(guidance_stop=0.4, decoder="tiny"),
        ),
        "big": model_spec(
            "big",
            family="sdxl",
            native_size=(1024, 1024),
            side=SideLimits(min=512, max=1536),
            multiple=64,
            steps=30,
            guidance_scale=6.0,
            schedulers=["euler", "ddim"],
            prompt_template="score_9, {prompt}",
            negative_prompt="lowres",
        ),
    },
    "tiny",
)

STYLES = Styles(
    {
        "icon": Style(
            id="icon",
            template="{prompt}, icon",
            negative_prompt="text",
            defaults=StyleDefaults(steps=25, guidance_scale=5.0),
            models={
                "tiny": StyleForModel(
                    template="{prompt}, small", negative_prompt="", defaults=StyleDefaults(steps=10)
                )
            },
        ),
        "scene": Style(
            id="scene",
            template="{prompt}, scene",
            negative_prompt="lowres",
            defaults=StyleDefaults(width=1152, height=768, scheduler="ddim"),
            only=["big"],
        ),
    }
)


def resolved(
    active: str = "tiny",
    *,
    prompt: str = "a fox",
    styles: Styles = STYLES,
    models: Models = MODELS,
    finished: dict[str, Finishing | None] | None = None,
    **order: Any,
) -> GenerationParams:
    return resolve(
        Order(prompt=prompt, **order),
        styles=styles,
        models=models,
        active=active,
        revision_of=lambda name: f"hash of {name}",
        limits=Bounds(),
        finished=finished,
        draw=Random(0).randrange,
    )


def refused(active: str = "tiny", **order: Any) -> InvalidField:
    with pytest.raises(InvalidField) as caught:
        resolved(active, **order)
    return caught.value


def test_what_a_style_does_is_found_once_and_nothing_else_is_kept() -> None:
    styles = Styles(
        {
            "cut": Style(id="cut", template="{prompt}", effects=[{"op": "cutout"}]),
            "plain": Style(id="plain", template="{prompt}"),
        }
    )
    finished: dict[str, Finishing | None] = {}
    wishes: list[dict[str, Any]] = [{}, {"effects": []}, {"format": "webp"}, {"on_fail": "fail"}]
    for wish in [*wishes, {"require": {"not_blank": True}, "redraws": 2}, {}]:
        for style_id in styles:
            order: dict[str, Any] = {"style_id": style_id, "styles": styles, **wish}
            assert resolved(finished=finished, **order) == resolved(**order), order
    assert finished.keys() == styles.keys()
    assert finished["cut"] is resolved(style_id="cut", styles=styles, finished=finished).finishing


# ---- which value wins ----


def test_the_order_wins_over_the_style() -> None:
    """Every value that the client sends is used."""
    params = resolved(
        style_id="icon", steps=7, guidance_scale=2.5, scheduler="ddim", width=128, height=192
    )
    assert (params.steps, params.guidance_scale, params.scheduler) == (7, 2.5, "ddim")
    assert (params.width, params.height) == (128, 192)


def test_the_style_for_this_model_wins_over_the_style() -> None:
    """Field by field: steps come from the override, guidance still from the style."""
    assert (resolved(style_id="icon").steps, resolved(style_id="icon").guidance_scale) == (10, 5.0)
    assert resolved("big", style_id="icon").steps == 25


def test_the_style_wins_over_the_model() -> None:
    """Size and scheduler come from the style; steps, which it leaves out, from the model."""
    params = resolved("big", style_id="scene")
    assert (params.width, params.height, params.scheduler) == (1152, 768, "ddim")
    assert (params.steps, params.guidance_scale) == (30, 6.0)


def test_the_model_decides_what_is_left_out() -> None:
    """Native size, default steps and guidance, the first of its schedulers."""
    params = resolved()
    assert (params.width, params.height, params.n) == (128, 128, 1)
    assert (params.steps, params.guidance_scale, params.scheduler) == (20, 4.0, "dpmpp_2m")
    assert (params.model, params.model_revision) == ("tiny", "hash of tiny")


def test_a_picture_repeats_as_the_order_says_else_as_its_style() -> None:
    """`none` of an order turns a style's tiles off."""
    defaults = StyleDefaults(tile="both")
    styles = Styles({"ground": Style(id="ground", template="{prompt}", defaults=defaults)})
    assert [resolved(tile=t).tile for t in (None, "x")] == ["none", "x"]
    made = [resolved(style_id="ground", tile=t, styles=styles).tile for t in (None, "y", "none")]
    assert made == ["both", "y", "none"]


def test_tiles_of_a_family_that_cannot_are_refused() -> None:
    """Its networks know places by more than their convolutions."""
    other = MODELS["tiny"].model_copy(update={"family": "transformer"})
    with pytest.raises(InvalidField, match="tiny cannot draw tiles: only sd and sdxl") as caught:
        resolved(tile="both", models=Models({"tiny": other}, "tiny"))
    assert (caught.value.field, caught.value.allowed) == ("tile", ["none"])
    assert resolved(models=Models({"tiny": other}, "tiny")).tile == "none"


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("init_image", SourceUse(upload_id="u", sha256="0" * 64, given={}), ["null"]),
        ("clip_skip", 2, ["null", "1"]),
        ("prompt_syntax", "weighted", ["null", "plain"]),
        ("guidance_rescale", 0.7, ["null", "0"]),
        ("tile", "x", ["none"]),
        ("width", 520, ["multiples of 16 from 512 to 1024"]),
        ("scheduler", "euler", ["flow_euler"]),
        ("loras", [{"name": "any"}], ["none: no LoRA of this server fits"]),
    ],
)
def test_a_transformer_refuses_what_it_cannot_draw(
    field: str, value: Any, allowed: list[str]
) -> None:
    """With the field and what is allowed. What `order_again` says of one of its pictures is taken."""
    spec = model_spec(
        family="flux",
        native_size=(512, 512),
        side=SideLimits(min=512, max=1024),
        multiple=16,
        schedulers=["flow_euler"],
    )
    models = Models({"tiny": spec}, "tiny", LORAS)
    with pytest.raises(InvalidField) as caught:
        resolved(models=models, **{field: value})
    assert (caught.value.field, caught.value.allowed) == (field, allowed)
    drawn = resolved(models=models)
    assert resolved(models=models, **order_again(drawn, 0)).prompt == drawn.prompt


LORAS = {
    name: LoraSpec(name, Path(__file__), name, family, ())
    for name, family in (("ink", "sd"), ("oil", "sdxl"), ("any", None))
}


def test_loras_are_those_of_the_models_family() -> None:
    """With the hash of their files, and weight 1 unless the order says it."""
    models = Models(MODELS, "tiny", LORAS)
    wanted = [{"name": "any"}, {"name": "ink", "weight": -0.5}]
    found = resolved(models=models, loras=wanted).loras
    assert [(use.name, use.weight) for use in found] == [("any", 1.0), ("ink", -0.5)]
    assert {use.revision for use in found} == {LORAS["ink"].revision}
    again = order_again(resolved(models=models, loras=wanted), 0)
    assert again["loras"] == [{"name": "any", "weight": 1.0}, wanted[1]]


def test_loras_of_a_style_are_replaced_by_those_of_the_order() -> None:
    """And turned off by an empty list; a model may have its own."""
    models = Models(MODELS, "tiny", LORAS)
    style = Style(
        id="inked",
        template="{prompt}",
        loras=[StyleLora(name="any", weight=0.5)],
        models={"tiny": StyleForModel(loras=[StyleLora(name="ink", weight=0.7)])},
    )
    styles = Styles({"inked": style, "plain": style.model_copy(update={"models": {}})})
    cases: list[tuple[str, list[dict[str, Any]] | None, list[tuple[str, float]]]] = [
        ("inked", None, [("ink", 0.7)]),
        ("plain", None, [("any", 0.5)]),
        ("inked", [{"name": "any"}], [("any", 1.0)]),
        ("inked", [], []),
        ("none", None, []),
    ]
    for style_id, asked, expected in cases:
        found = resolved(models=models, styles=styles, style_id=style_id, loras=asked)
        assert [(use.name, use.weight) for use in found.loras] == expected
        again = order_again(found, 0)["loras"]
        assert [(use["name"], use["weight"]) for use in again] == expected


def test_the_cheap_tier_may_be_one_of_few_steps() -> None:
    """Its values come before the style's; what the order says wins; its LoRA is added once, as the last."""
    tier = Draft(adapter="ink", adapter_weight=0.9, steps=8, scheduler="lcm", guidance_scale=1.0)
    models = Models({"tiny": MODELS["tiny"].model_copy(update={"draft": tier})}, "tiny", LORAS)
    full = resolved(models=models, style_id="icon")
    assert (full.steps, full.scheduler, full.loras) == (10, "dpmpp_2m", ())
    draft = resolved(models=models, style_id="icon", quality="draft")
    assert (draft.steps, draft.scheduler, draft.guidance_scale) == (8, "lcm", 1.0)
    assert [(use.name, use.weight) for use in draft.loras] == [("ink", 0.9)]
    own: dict[str, Any] = {"steps": 5, "scheduler": "ddim", "guidance_scale": 2.0}
    mixed = resolved(models=models, quality="draft", loras=[{"name": "any"}], **own)
    assert {name: getattr(mixed, name) for name in own} == own
    assert [use.name for use in mixed.loras] == ["any", "ink"]
    again: dict[str, Any] = order_again(draft, 0)
    assert resolved(models=models, **again).loras == draft.loras


def test_a_tier_may_say_its_timesteps() -> None:
    """Other steps or another scheduler than the tier's are drawn by the scheduler's own."""
    tier = Draft(scheduler="lcm", timesteps=[799])
    models = Models({"tiny": MODELS["tiny"].model_copy(update={"draft": tier})}, "tiny", LORAS)
    draft = resolved(models=models, quality="draft")
    assert (draft.steps, draft.timesteps, draft.scheduler) == (1, (799,), "lcm")
    assert resolved(models=models).timesteps == ()
    assert resolved(models=models, quality="draft", steps=4).timesteps == ()
    other = resolved(models=models, quality="draft", scheduler="dpmpp_2m", steps=1)
    assert other.timesteps == ()
    again = resolved(models=models, **order_again(draft, 0))
    assert (again.steps, again.timesteps) == (1, (799,))
    assert GenerationParams.model_validate_json(draft.model_dump_json()) == draft
    needs_two = MODELS["big"].model_copy(update={"draft": Draft(timesteps=[799])})
    one = resolve(
        Order(prompt="a fox", quality="draft"),
        styles=STYLES,
        models=Models({"big": needs_two}, "big"),
        active="big",
        revision_of=str,
        limits=Bounds(),
    )
    assert (one.scheduler, one.steps, one.timesteps) == ("euler", 1, (799,))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ([{"name": "nobody"}], "no such LoRA: 'nobody'"),
        ([{"name": "../ink"}], "no such LoRA"),
        ([{"name": "oil"}], "'oil' is for sdxl, not for sd"),
        ([{"name": "ink"}, {"name": "ink"}], "'ink' is there twice"),
        ([{"name": "ink", "weight": 1e9}], "out of range"),
        ([{"name": "ink", "weight": float("nan")}], "out of range"),
    ],
)
def test_a_lora_that_cannot_be_is_refused(wanted: list[dict[str, Any]], said: str) -> None:
    """Before anything is ordered, with those that fit."""
    with pytest.raises(InvalidField, match=said) as caught:
        resolved(models=Models(MODELS, "tiny", LORAS), loras=wanted)
    assert caught.value.field == "loras"
    assert caught.value.allowed in (["ink", "any"], ["-4 to 4"])


def test_no_more_than_eight_loras() -> None:
    many = {f"l{i}": LoraSpec(f"l{i}", Path(__file__), "", None, ()) for i in range(50)}
    with pytest.raises(InvalidField, match="50 is out of range"):
        resolved(models=Models(MODELS, "tiny", many), loras=[{"name": name} for name in many])


def test_zero_is_a_value() -> None:
    """Guidance 0 does not count as left out."""
    assert resolved(guidance_scale=0.0).guidance_scale == 0.0


# ---- words ----


def test_the_style_goes_around_the_prompt_and_the_model_around_both() -> None:
    """The style's template is applied first, then the model's."""
    assert resolved("big", style_id="icon").prompt == "score_9, a fox, icon"
    assert resolved(style_id="icon").prompt == "a fox, small"


def test_braces_in_a_prompt_are_kept() -> None:
    """A prompt that contains the placeholder is not expanded again."""
    assert (
        resolved("big", style_id="icon", prompt="a {prompt}").prompt == "score_9, a {prompt}, icon"
    )


def test_negative_prompts_are_joined_without_repeats() -> None:
    """Those of client, style and model; empty ones and exact repeats are left out."""
    both = resolved("big", style_id="icon", negative_prompt="dark")
    assert both.negative_prompt == "dark, text, lowres"
    assert resolved("big", style_id="scene").negative_prompt == "lowres"
    assert resolved(style_id="icon").negative_prompt == ""


def test_style_none_keeps_the_prompts_of_the_order() -> None:
    """Nothing is added, not even the model's template."""
    params = resolved("big", negative_prompt="dark")
    assert (params.prompt, params.negative_prompt) == ("a fox", "dark")


def test_what_the_client_sent_is_kept() -> None:
    """And the style's revision, so that a changed style file changes no accepted job."""
    params = resolved(style_id="icon", negative_prompt="dark")
    assert (params.subject, params.subject_negative) == ("a fox", "dark")
    assert params.style_revision == STYLES["icon"].revision


def test_a_prompt_beyond_the_token_limit_is_not_refused() -> None:
    """The renderer cuts it and notes that in the image."""
    assert resolved(prompt="fox " * 45).prompt == "fox " * 45


# ---- quality ----


def test_draft_quality_is_defined_by_the_model() -> None:
    """Full quality is the same for all models."""
    draft, full = resolved(quality="draft"), resolved()
    assert (draft.quality, draft.guidance_stop, draft.decoder) == ("draft", 0.4, "tiny")
    assert (full.quality, full.guidance_stop, full.decoder) == ("full", 1.0, "full")


# ---- seeds ----


@pytest.mark.parametrize("seed", [None, -1])
def test_a_seed_is_drawn_over_the_whole_range(seed: int | None) -> None:
    """The last image's seed still fits: image i of n is drawn from seed + i."""
    asked: list[int] = []

    def draw(below: int) -> int:
        asked.append(below)
        return below - 1

    params = resolve(
        Order(prompt="a fox", seed=seed, n=4),
        styles=STYLES,
        models=MODELS,
        active="tiny",
        revision_of=str,
        limits=Bounds(),
        draw=draw,
    )
    assert asked == [2**32 - 3]
    assert params.seed_of(3) == MAX_SEED


def test_a_seed_that_is_given_is_kept() -> None:
    """0 and the largest one too."""
    assert [resolved(seed=s).seed for s in (0, 7, MAX_SEED)] == [0, 7, MAX_SEED]


# ---- refusals ----


@pytest.mark.parametrize(
    ("order", "field", "allowed"),
    [
        ({"style_id": "icno"}, "style_id", ["icon", "none", "scene"]),
        ({"style_id": "scene"}, "style_id", ["none", "icon"]),
        ({"model": "huge"}, "model", ["tiny"]),
        ({"model": "big"}, "model", ["tiny"]),
        ({"prompt": ""}, "prompt", None),
        ({"prompt": " \n"}, "prompt", None),
        ({"prompt": "x" * 201}, "prompt", None),
        ({"prompt": "x" * 194, "style_id": "icon"}, "prompt", None),
        ({"negative_prompt": "x" * 10_240}, "negative_prompt", None),
        ({"n": 0}, "n", ["1 to 8"]),
        ({"n": 10_000}, "n", ["1 to 8"]),
        ({"width": 7}, "width", ["128x128", "128x192"]),
        ({"width": 100_000}, "width", ["128x128", "128x192"]),
        ({"height": 100_000}, "height", ["128x128", "128x192"]),
        ({"steps": 0}, "steps", ["1 to 60"]),
        ({"steps": 10_000}, "steps", ["1 to 60"]),
        ({"steps": 1, "scheduler": "ddim"}, "steps", ["2 to 60"]),  # one step would draw noise
        ({"steps": 51, "scheduler": "lcm"}, "steps", ["1 to 50"]),  # distilled from fifty
        ({"clip_skip": 0}, "clip_skip", ["1 to 12"]),
        ({"clip_skip": 13}, "clip_skip", ["1 to 12"]),
        ({"guidance_rescale": 1.1}, "guidance_rescale", ["0 to 1"]),
        ({"guidance_rescale": float("nan")}, "guidance_rescale", ["0 to 1"]),
        ({"guidance_scale": -0.1}, "guidance_scale", ["0 to 30"]),
        ({"guidance_scale": 30.1}, "guidance_scale", ["0 to 30"]),
        ({"guidance_scale": float("nan")}, "guidance_scale", ["0 to 30"]),
        ({"scheduler": "euler"}, "scheduler", ["dpmpp_2m", "ddim", "lcm"]),
        ({"seed": -2}, "seed", ["-1 to 4294967295"]),
        ({"seed": 2**40}, "seed", ["-1 to 4294967295"]),
        ({"seed": MAX_SEED, "n": 2}, "seed", ["-1 to 4294967294"]),
    ],
)
def test_a_wrong_field_is_refused_with_what_is_allowed(
    order: dict[str, Any], field: str, allowed: list[str] | None
) -> None:
    """The field's name and the allowed values are in the error."""
    error = refused(**order)
    assert (error.field, error.allowed) == (field, allowed)


@pytest.mark.parametrize(
    ("order", "field", "allowed"),
    [
        ({"width": 1000}, "width", ["multiples of 64 from 512 to 1536"]),
        ({"width": 448}, "width", ["multiples of 64 from 512 to 1536"]),
        ({"height": 1600}, "height", ["multiples of 64 from 512 to 1536"]),
        ({"n": 5}, "n", ["1 to 4"]),
    ],
)
def test_a_model_with_a_range_of_sizes(
    order: dict[str, Any], field: str, allowed: list[str]
) -> None:
    """Any multiple within, as long as all images together stay below the pixel cap."""
    error = refused("big", **order)
    assert (error.field, error.allowed) == (field, allowed)


def test_the_error_for_one_image_beyond_the_pixel_cap_names_its_size() -> None:
    """Not `n`: fewer images would not help."""
    with pytest.raises(InvalidField) as caught:
        resolve(
            Order(prompt="a fox", n=2),
            styles=STYLES,
            models=MODELS,
            active="big",
            revision_of=str,
            limits=Bounds(max_pixels=1024),
        )
    assert caught.value.field == "width"


def test_a_style_that_this_model_cannot_draw_names_those_that_can() -> None:
    """So the client can choose another model or another style."""
    assert "models that can: big" in refused(style_id="scene").detail


@pytest.mark.parametrize("order", [{"style_id": "scene"}, {"model": "big"}])
def test_a_model_that_is_not_served_is_told_how_to_get_it(order: dict[str, Any]) -> None:
    """The next step, by the setting's name."""
    assert "sets `model: big` under `args:`" in refused(**order).detail


def test_an_order_that_names_no_style_gets_the_default_of_the_file() -> None:
    """And is resolved as if it had named it."""
    styles = Styles(STYLES, default="icon")
    both = [
        resolve(
            Order(prompt="a fox", seed=1, style_id=style_id),
            styles=styles,
            models=MODELS,
            active="tiny",
            revision_of=str,
            limits=Bounds(),
        )
        for style_id in (None, "icon")
    ]
    assert both[0] == both[1]
    assert both[0].style_id == "icon"


# ---- ordering an image again ----

words = st.text(st.characters(codec="utf-8"), max_size=60)
orders = st.builds(
    Order,
    prompt=words.filter(str.strip),
    negative_prompt=words,
    style_id=st.sampled_from(["none", "icon"]),
    seed=st.none() | st.integers(-1, MAX_SEED - 3),
    n=st.integers(1, 3),
    steps=st.none() | st.integers(2, 50),
    guidance_scale=st.none() | st.floats(0, 30),
    guidance_rescale=st.none() | st.floats(0, 1),
    tile=st.sampled_from([None, "none", "x", "y", "both"]),
    prompt_syntax=st.sampled_from([None, "plain", "weighted"]),
    clip_skip=st.none() | st.integers(1, 12),
    scheduler=st.sampled_from([None, "ddim"]),
    quality=st.sampled_from(["full", "draft"]),
    reproducible=st.sampled_from([None, "strict"]),
)


def again(params: GenerationParams, index: int, order: Order) -> GenerationParams:
    return resolve(
        order,
        styles=Styles({}),  # the style file may have changed since
        models=MODELS,
        active=params.model,
        revision_of=lambda name: f"hash of {name}",
        limits=Bounds(),
    )


def the_picture(params: GenerationParams) -> dict[str, Any]:
    """All params that pixels depend on, but for the seed."""
    origin = {"style_id", "style_revision", "subject", "subject_negative", "seed", "n"}
    return params.model_dump(exclude=origin)


@given(orders, st.sampled_from(["tiny", "big"]), st.data())
def test_every_image_can_be_ordered_again(order: Order, active: str, data: st.DataObject) -> None:
    """Alone and without its style it is the same picture, and ordering that again changes nothing."""
    params = resolved(active, **{f: getattr(order, f) for f in order.__slots__})
    index = data.draw(st.integers(0, params.n - 1))
    body = order_again(params, index)
    second = again(params, index, Order(**body))
    assert the_picture(second) == the_picture(params)
    assert (second.seed, second.n) == (params.seed + index, 1)
    assert order_again(second, 0) == body


@given(orders, st.sampled_from(["tiny", "big"]))
def test_every_image_can_be_ordered_again_over_http(order: Order, active: str) -> None:
    """The API trims prompts; a final prompt stays as it is."""
    try:
        sent = GenerateRequest(
            prompt=order.prompt, negative_prompt=order.negative_prompt, style_id="none"
        )
    except ValueError:
        return  # nothing visible in the prompt
    clean = replace(order, prompt=sent.prompt, negative_prompt=sent.negative_prompt)
    params = resolved(active, **{f: getattr(clean, f) for f in clean.__slots__})
    request = GenerateRequest.model_validate(order_again(params, 0))
    second = again(params, 0, request.order())
    assert the_picture(second) == the_picture(params)
