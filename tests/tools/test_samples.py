"""The samples on the style cards: one for each style that the starter draws, small, and none missing."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

from PIL import Image

from serve_app.catalog.models import load_models
from serve_app.catalog.styles import load_styles
from serve_app.client import Client
from serve_app.config import Settings
from serve_app.tools.samples import FOLDER, PROMPTS, SIDE, sample, write_index
from tests.api.harness import Site, site
from tests.api.studio import draw

MOST_BYTES = 40_000


def drawable() -> set[str]:
    settings = Settings()
    models = load_models(settings.path(settings.models_file))
    styles = load_styles(settings.path(settings.styles_file), models)
    return {style.id for style in styles.values() if style.draws("starter")}


def test_every_style_that_the_starter_draws_has_its_sample() -> None:
    there = {path.stem: path for path in FOLDER.glob("*.webp")}
    assert there.keys() == drawable()
    assert sum(path.stat().st_size for path in there.values()) <= MOST_BYTES
    for path in there.values():
        with Image.open(path) as picture:
            assert max(picture.size) == SIDE


def test_prompts_are_of_styles_that_there_are() -> None:
    assert PROMPTS.keys() <= drawable()


def test_the_index_names_the_samples_and_nothing_else(tmp_path: Path) -> None:
    text = (FOLDER / "index.js").read_text()
    (names,) = re.findall(r"new Set\((\[.*?\])\)", text, re.DOTALL)
    assert json.loads(names) == sorted(path.stem for path in FOLDER.glob("*.webp"))
    for name in json.loads(names):
        (tmp_path / f"{name}.webp").touch()
    write_index(tmp_path)
    assert (tmp_path / "index.js").read_text() == text


def test_a_sample_is_drawn_by_the_service(tmp_path: Path) -> None:
    async def drawn(place: Site) -> None:
        await place.world.until(lambda: place.world.launcher.running)
        ((job_id, fence),) = place.world.launcher.running
        await draw(place.world, job_id, [Image.new("RGB", (300, 150), "teal")], fence)

    with site(tmp_path) as place, Client(place.url) as client:
        drawing = place.portal.start_task_soon(drawn, place)
        data = sample(client, "icon")
        drawing.result(10)
    assert Image.open(io.BytesIO(data)).size == (SIDE, SIDE // 2)
