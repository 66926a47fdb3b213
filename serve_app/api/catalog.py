"""Catalog: the styles, models, limits and features of this server, as clients get them.

Built once when the app starts; asks nobody afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Self
from urllib.parse import quote, urlencode

from pydantic import BaseModel, Field

from serve_app import __version__
from serve_app.catalog.models import Models, ModelSpec
from serve_app.catalog.resolve import NO_PALETTES
from serve_app.catalog.styles import Style, StyleDefaults, StyleLora, Styles
from serve_app.catalog.wording import NO_VOCABULARIES
from serve_app.config import Settings
from serve_app.errors import NotFound, Unavailable
from serve_app.finishing.base import NO_WEIGHTS, Weights
from serve_app.finishing.effects import MOST_EFFECTS, catalogue
from serve_app.finishing.palette_files import Palette
from serve_app.messages import PoolState
from serve_app.params import MAX_SEED
from serve_app.starter.vocabulary import Vocabulary

FEATURES = [
    *(
        "batches",
        "cancel",
        "cancel_after",
        "delete",
        "derive",
        "dry_run",
        "effects",
        "etag",
        "events",
    ),
    "idempotency_key",
    *("inspect", "list", "loras", "metadata", "prefer_wait", "previews", "priority"),
    *(
        "quality_draft",
        "redraws",
        "reproduce",
        "reproducible_strict",
        "require",
        "retry",
        "sheets",
        "tags",
        "tile",
        "uploads",
    ),
]


class StyleInfo(BaseModel):
    """A named preset around a prompt."""

    style_id: str = Field(description="What `style_id` of an order names.", examples=["icon"])
    title: str = Field(description="For people.", examples=["Icon"])
    description: str = Field(description="What it is for.", examples=["One item, centered."])
    revision: str = Field(
        description="Changes exactly when a picture could.", examples=["4be1c9d20f11"]
    )
    models: list[str] = Field(description="Models that can draw it.", examples=[["starter"]])
    default: bool = Field(description="Orders that name no style get it.", examples=[False])
    drawable: bool = Field(description="A served model is one of them.", examples=[True])
    template: str = Field(
        description="What becomes of the prompt, for the first served model that draws it.",
        examples=["{prompt}, game icon, centered"],
    )
    negative_prompt: str = Field(
        description="Its own negative prompt, for the same model.", examples=["blurry, text"]
    )
    defaults: StyleDefaults = Field(
        description="What an order gets that does not say; null: the model decides."
    )
    loras: list[StyleLora] = Field(
        description="Added for the same model, unless the order has its own.", examples=[[]]
    )
    effects: list[dict[str, Any]] = Field(
        description="Done with each picture, unless the order has its own.",
        examples=[[{"op": "cutout"}]],
    )
    require: dict[str, Any] | None = Field(
        description="Gates on each picture, unless the order has its own.", examples=[None]
    )
    redraws: int = Field(description="How often what fails one is drawn again.", examples=[0])

    @classmethod
    def of(
        cls, style: Style, models: Models, served: Sequence[str], *, default: bool = False
    ) -> Self:
        active = next((name for name in served if style.draws(name)), served[0])
        return cls(
            style_id=style.id,
            title=style.title or style.id,
            description=style.description,
            revision=style.revision,
            models=[name for name in models if style.draws(name)],
            default=default,
            drawable=style.draws(active),
            template=style.template_for(active),
            negative_prompt=style.negative_for(active),
            defaults=style.defaults_for(active),
            loras=style.loras_for(active),
            effects=style.effects,
            require=style.require,
            redraws=style.redraws,
        )


class SideRange(BaseModel):
    """Any width and height within, in steps of `multiple`. Pixels."""

    min: int = Field(description="Smallest.", examples=[256])
    max: int = Field(description="Largest.", examples=[1024])
    multiple: int = Field(description="Step.", examples=[64])


class ModelInfo(BaseModel):
    """A checkpoint this server knows. Orders may name those that are served."""

    name: str = Field(description="What `model` of an order names.", examples=["starter"])
    title: str = Field(description="For people.", examples=["Starter"])
    active: bool = Field(description="Orders that name none get it.", examples=[True])
    served: bool = Field(description="It renders here.", examples=[True])
    state: Literal["resident", "loading", "resting", "failed"] | None = Field(
        default=None,
        description="resident: a device has it; loading: the first renderer starts; resting: none has it "
        "until somebody orders; failed: orders wait for what `reason` says. Null: not served, or not known.",
        examples=["resident"],
    )
    reason: str | None = Field(
        default=None, description="Why orders would not be drawn now.", examples=[None]
    )
    family: str = Field(description="Kind of pipeline.", examples=["sd"])
    revision: str | None = Field(
        description="Hash of the weights or pinned hub commit; null: not loaded here.",
        examples=["a91f03bb"],
    )
    native_size: tuple[int, int] = Field(description="Pixels.", examples=[[128, 128]])
    sizes: list[tuple[int, int]] | None = Field(
        description="The only sizes, if it is that strict.", examples=[[[128, 128]]]
    )
    side: SideRange | None = Field(description="Or the range of its sides.", examples=[None])
    token_limit: int = Field(description="Tokens of a prompt it reads.", examples=[24])
    vocabulary_url: str | None = Field(
        default=None,
        description="What it was taught to draw; null: its weights do not say, or it is not served.",
        examples=["/v1/models/starter/vocabulary"],
    )
    steps: int = Field(description="Default.", examples=[20])
    max_steps: int = Field(description="Most.", examples=[100])
    guidance_scale: float = Field(description="Default.", examples=[4.0])
    guidance_rescale: float = Field(description="Default.", examples=[0.0])
    prompt_syntax: str = Field(description="Default.", examples=["plain"])
    clip_skip: int = Field(description="Default.", examples=[1])
    schedulers: list[str] = Field(
        description="Allowed; the first is the default.", examples=[["dpmpp_2m", "euler"]]
    )
    draft_guidance_stop: float = Field(
        description="Share of the steps that are guided in quality `draft`.", examples=[0.5]
    )
    draft_decoder: str = Field(description="Decoder in quality `draft`.", examples=["full"])
    controls: list[str] = Field(
        description="What `type` of an order's control may name.", examples=[["canny"]]
    )
    reference: bool = Field(
        description="Orders may name a picture to take after.", examples=[False]
    )
    draft_adapter: str | None = Field(
        description="LoRA that quality `draft` adds; null: none.", examples=[None]
    )
    draft_steps: int | None = Field(
        description="Steps in quality `draft`; null: as otherwise.", examples=[8]
    )
    draft_timesteps: list[int] | None = Field(
        description="Timesteps in quality `draft`; null: the scheduler's own.", examples=[None]
    )
    draft_scheduler: str | None = Field(
        description="Scheduler in quality `draft`; null: as otherwise.", examples=[None]
    )
    draft_guidance_scale: float | None = Field(
        description="Guidance in quality `draft`; null: as otherwise.", examples=[None]
    )

    @classmethod
    def of(cls, spec: ModelSpec, served: Sequence[str], revision: str | None) -> Self:
        side = None
        if spec.side is not None:
            side = SideRange(min=spec.side.min, max=spec.side.max, multiple=spec.multiple)
        return cls(
            name=spec.name,
            title=spec.title or spec.name,
            active=spec.name == served[0],
            served=spec.name in served,
            family=spec.family,
            revision=revision,
            native_size=spec.native_size,
            sizes=spec.sizes,
            side=side,
            token_limit=spec.token_limit,
            steps=spec.steps,
            max_steps=spec.max_steps,
            guidance_scale=spec.guidance_scale,
            guidance_rescale=spec.guidance_rescale,
            prompt_syntax=spec.prompt_syntax,
            clip_skip=spec.clip_skip,
            schedulers=spec.schedulers,
            draft_guidance_stop=spec.draft.guidance_stop,
            draft_decoder=spec.draft.decoder,
            controls=sorted(spec.controls),
            reference=spec.reference is not None,
            draft_adapter=spec.draft.adapter,
            draft_steps=spec.draft.own_steps,
            draft_timesteps=spec.draft.timesteps,
            draft_scheduler=spec.draft.scheduler,
            draft_guidance_scale=spec.draft.guidance_scale,
        )


class LoraInfo(BaseModel):
    """A LoRA of this server."""

    name: str = Field(description="What `loras` of an order names.", examples=["ink"])
    title: str = Field(description="For people, as its file says.", examples=["Ink drawings"])
    family: str | None = Field(
        description="Models that it fits: sd or sdxl; null: its file does not say.", examples=["sd"]
    )
    triggers: list[str] = Field(
        description="Words that it was trained with.", examples=[["ink drawing"]]
    )
    revision: str = Field(description="Hash of its file.", examples=["4be1c9d20f11"])


class LoraList(BaseModel):
    results: list[LoraInfo] = Field(description="By name.")


class LimitsInfo(BaseModel):
    """What one order may ask for."""

    images: int = Field(description="Largest `n`.", examples=[16])
    pixels: int = Field(description="Largest width x height x n.", examples=[16_777_216])
    prompt_chars: int = Field(
        description="Longest prompt, the style's words included.", examples=[2000]
    )
    body_bytes: int = Field(description="Largest body.", examples=[65_536])
    upload_bytes: int = Field(description="Largest picture file.", examples=[33_554_432])
    uploads: int = Field(description="Uploads that you may keep.", examples=[256])
    seed: int = Field(description="Largest seed of any image.", examples=[MAX_SEED])
    batch_orders: int = Field(description="Most orders of one batch.", examples=[10_000])
    batch_bytes: int = Field(description="Largest body of a batch.", examples=[16_777_216])
    pending_jobs: int = Field(description="Jobs in line; beyond it 429.", examples=[10_000])


class Capabilities(BaseModel):
    """What this server can do."""

    version: str = Field(description="Of the service.", examples=["0.1.0"])
    features: list[str] = Field(description="What is built.", examples=[FEATURES])
    model: str = Field(description="The active model.", examples=["starter"])
    schedulers: list[str] = Field(
        description="Of the active model.", examples=[["dpmpp_2m", "euler"]]
    )
    embeddings: list[str] = Field(
        description="Textual inversions: words of prompts with `prompt_syntax` weighted, for models of "
        "their family.",
        examples=[["easynegative"]],
    )
    limits: LimitsInfo = Field(description="Of one order.")
    dashboard: str | None = Field(
        default=None,
        description="Host and port of Ray's dashboard; null: there is none.",
        examples=["127.0.0.1:8265"],
    )


class StyleList(BaseModel):
    results: list[StyleInfo] = Field(description="In the order of the file.")


class OpenAIModel(BaseModel):
    """A model as OpenAI's clients read it."""

    id: str = Field(description="Its `name`.", examples=["starter"])
    object: Literal["model"] = Field(default="model", description="What this is.")
    created: int = Field(default=0, description="Not known here: 0.", examples=[0])
    owned_by: str = Field(default="local", description="Whoever runs this.", examples=["local"])


class ModelList(BaseModel):
    results: list[ModelInfo] = Field(description="In the order of the file.")
    object: Literal["list"] = Field(default="list", description="For OpenAI's clients.")
    data: list[OpenAIModel] = Field(description="The same, for OpenAI's clients.")


class Thing(BaseModel):
    """Something that a model was taught to draw."""

    name: str = Field(description="What a prompt calls it.", examples=["dagger"])
    other_names: list[str] = Field(
        description="They mean the same to the model.", examples=[["sword", "blade"]]
    )


class ThingList(BaseModel):
    """A page. Those of a search that have the whole name come first."""

    next: str | None = Field(
        description="URL of the next page; null: this is the last.",
        examples=["/v1/models/starter/vocabulary?limit=50&after=50"],
    )
    total: int = Field(description="Things that were found.", examples=[870])
    results: list[Thing] = Field(description="In the order of the vocabulary.")


class EffectInfo(BaseModel):
    """An operation on a picture."""

    op: str = Field(description="What `op` of an effect names.", examples=["trim"])
    title: str = Field(description="What it does.", examples=["Cut off transparent edges."])
    example: dict[str, Any] = Field(
        description="Accepted as it stands.", examples=[{"op": "trim", "padding": 2}]
    )
    # Not named `schema`: that is a method of the class.
    schema_: dict[str, Any] = Field(
        alias="schema", description="JSON Schema of its fields.", examples=[{"type": "object"}]
    )


class EffectList(BaseModel):
    results: list[EffectInfo] = Field(description="Every operation there is.")
    most: int = Field(description="Effects in one list.", examples=[MOST_EFFECTS])
    upscalers: list[str] = Field(
        description="What `model` of the effect `upscale` may name here.", examples=[["anime_x2"]]
    )
    matting_network: bool = Field(
        description="`method: network` of the effect `cutout` can be used here.", examples=[False]
    )


class PaletteInfo(BaseModel):
    """Colours by name."""

    name: str = Field(description="What `name` of the effect `palette` names.", examples=["cga_16"])
    colors: list[str] = Field(description="In the order of the file.", examples=[["#000000"]])


class PaletteList(BaseModel):
    results: list[PaletteInfo] = Field(description="Every palette of this server.")


class Catalog:
    """The answers of GET /v1/styles, /v1/models, /v1/effects, /v1/palettes and /v1/capabilities."""

    def __init__(
        self,
        settings: Settings,
        styles: Styles,
        models: Models,
        served: Sequence[str],
        revision_of: Callable[[str], str],
        palettes: Mapping[str, Palette] = NO_PALETTES,
        weights: Weights = NO_WEIGHTS,
        dashboard: str | None = None,
        vocabularies: Mapping[str, Vocabulary] = NO_VOCABULARIES,
    ) -> None:
        """`served`: names of the models that render; the first is the active one. `vocabularies`: what those
        were taught whose weights say so."""
        self.served, active = served, served[0]
        self._vocabularies = vocabularies
        self.effects = EffectList(
            results=[EffectInfo.model_validate(entry) for entry in catalogue()],
            most=MOST_EFFECTS,
            upscalers=sorted(weights.upscalers),
            matting_network=weights.matting is not None,
        )
        self.palettes = PaletteList(
            results=[
                PaletteInfo(name=name, colors=palette.hex) for name, palette in palettes.items()
            ]
        )
        self.styles = StyleList(
            results=[
                StyleInfo.of(style, models, served, default=style.id == styles.default)
                for style in styles.values()
            ]
        )
        self.models = ModelList(
            results=[
                ModelInfo.of(spec, served, _revision(name, served, revision_of))
                for name, spec in models.items()
            ],
            data=[OpenAIModel(id=name) for name in models],
        )
        self.loras = LoraList(
            results=[
                LoraInfo(
                    name=lora.name,
                    title=lora.title,
                    family=lora.family,
                    triggers=list(lora.triggers),
                    revision=lora.revision,
                )
                for lora in models.loras.values()
            ]
        )
        self.capabilities = Capabilities(
            version=__version__,
            features=FEATURES,
            model=active,
            schedulers=models[active].schedulers,
            embeddings=[one.name for one in models.embeddings.values()],
            dashboard=dashboard,
            limits=LimitsInfo(
                images=settings.max_images,
                pixels=settings.max_pixels,
                prompt_chars=settings.max_prompt_chars,
                body_bytes=settings.max_body_bytes,
                upload_bytes=settings.max_upload_bytes,
                uploads=settings.max_uploads,
                seed=MAX_SEED,
                batch_orders=min(settings.max_batch_orders, settings.max_pending),
                batch_bytes=settings.max_batch_bytes,
                pending_jobs=settings.max_pending,
            ),
        )

    def things(self, model: str, text: str, after: int, limit: int, root: str) -> ThingList:
        """A page of what `model` was taught, `after` so many, by a text in a name. Raises NotFound."""
        if (vocabulary := self._vocabularies.get(model)) is None:
            known = ", ".join(self._vocabularies) or "none"
            raise NotFound(
                f"There is no vocabulary of {model[:100]!r} here: it is not served, or its weights do not "
                f"say what it was taught. Models with one: {known}."
            )
        found = vocabulary.search(text, limit=len(vocabulary.things))
        query = urlencode({"q": text}) + "&" if text else ""
        more = f"{root}{_vocabulary_path(model)}?{query}limit={limit}&after={after + limit}"
        return ThingList(
            next=more if len(found) > after + limit else None,
            total=len(found),
            results=[
                Thing(name=one.names[0], other_names=list(one.names[1:]))
                for one in found[after : after + limit]
            ],
        )

    def schedulers_of(self, model: object) -> list[str]:
        """Those of this model, the best first; of no such model: of the active one."""
        found = (known for known in self.models.results if known.name == model)
        known = next(found, None)
        return self.capabilities.schedulers if known is None else known.schedulers

    def models_now(self, pools: Iterable[PoolState], root: str = "") -> ModelList:
        """The models, with how the pools are that draw them. `root`: prefix of every link."""
        states = {pool["model"]: pool for pool in pools}
        results: list[ModelInfo] = []
        for model in self.models.results:
            update: dict[str, Any] = {}
            if (now := states.get(model.name)) and model.served:
                update |= {"state": now["state"], "reason": now["reason"]}
            if model.name in self._vocabularies:
                update["vocabulary_url"] = root + _vocabulary_path(model.name)
            results.append(model.model_copy(update=update) if update else model)
        return self.models.model_copy(update={"results": results})


def _vocabulary_path(model: str) -> str:
    return f"/v1/models/{quote(model)}/vocabulary"


def _revision(name: str, served: Sequence[str], revision_of: Callable[[str], str]) -> str | None:
    """None: not served, or the weights are gone; its renderers say why."""
    if name not in served:
        return None
    try:
        return revision_of(name)
    except Unavailable:
        return None
