"""Catalog: styles, models and limits as clients get them."""

from __future__ import annotations

from serve_app.api.catalog import Catalog, ModelInfo, StyleInfo
from serve_app.catalog.models import ModelSpec, SideLimits
from serve_app.catalog.styles import Styles
from serve_app.config import Settings
from tests.api.harness import ICON, MODEL, MODELS, PORTRAIT, STYLES


def test_a_style_without_a_title_has_its_id() -> None:
    untitled = StyleInfo.of(ICON.model_copy(update={"title": ""}), MODELS, "tiny")
    assert untitled.title == "icon"


def test_a_style_is_drawable_if_a_served_model_draws_it() -> None:
    assert not StyleInfo.of(PORTRAIT, MODELS, ["tiny"]).drawable
    assert StyleInfo.of(PORTRAIT, MODELS, ["tiny", "other"]).drawable


def test_one_style_is_the_default() -> None:
    """The one of an order that names none."""
    catalog = Catalog(Settings(), Styles(STYLES, default="icon"), MODELS, ["tiny"], str)
    assert [s.style_id for s in catalog.styles.results if s.default] == ["icon"]


def test_a_model_with_a_range_of_sides_says_it() -> None:
    side = SideLimits(min=256, max=1024)
    spec = ModelSpec.model_validate(
        MODEL.model_dump() | {"sizes": None, "side": side.model_dump(), "multiple": 64}
    )
    info = ModelInfo.of(spec, ["tiny"], None)
    assert info.side
    assert (info.side.min, info.side.max, info.side.multiple) == (256, 1024, 64)
    assert info.sizes is None


def test_only_the_served_models_weights_are_identified() -> None:
    """The others need not be on this disk."""
    asked: list[str] = []

    def revision_of(name: str) -> str:
        asked.append(name)
        return "hash"

    catalog = Catalog(Settings(), STYLES, MODELS, ["tiny"], revision_of)
    assert asked == ["tiny"]
    assert [model.revision for model in catalog.models.results] == ["hash", None]


def test_the_limits_are_the_settings() -> None:
    settings = Settings(max_images=3, max_pixels=4096, max_prompt_chars=50, max_pending=7)
    limits = Catalog(settings, STYLES, MODELS, ["tiny"], str).capabilities.limits
    assert (limits.images, limits.pixels, limits.prompt_chars) == (3, 4096, 50)
    assert limits.pending_jobs == 7
