"""An image as a renderer sends it, and the params and job it belongs to."""

from __future__ import annotations

import io

from PIL import Image

from serve_app.messages import RenderedImage
from tests.factories import params, rendered_image

JOB = "019aad21-8a00-7abc-8def-0123456789ab"  # ordered on DAY, as its first 48 bits say
OTHER = "019aad21-8a00-7abc-8def-0123456789ac"  # ordered in the same millisecond
DAY = "2025-11-22"

PARAMS = params(
    prompt="a red potion, game icon",
    negative_prompt="text",
    seed=7,
    n=4,
    width=24,
    height=16,
    steps=20,
    guidance_scale=4.0,
    scheduler="dpmpp_2m_karras",
    model="starter",
    model_revision="45dee52b0123456789abcdef",
    style_id="game_icon",
    style_revision="4be1c9d2aa10",
    subject="a red potion",
)


def rendered(
    index: int = 0, color: tuple[int, ...] = (200, 30, 40), mode: str = "RGB"
) -> RenderedImage:
    """A small PNG, as a renderer sends it."""
    picture = Image.new(mode, (24, 16), color)
    picture.putpixel((3, 5), tuple(255 - c for c in color))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return rendered_image(
        index=index,
        seed=7 + index,
        width=24,
        height=16,
        has_alpha=mode == "RGBA",
        data=buffer.getvalue(),
        made_by={"device": "cpu", "dtype": "float32", "threads": 2},
        notes=["prompt_truncated: 31 of 45 tokens used"],
    )
