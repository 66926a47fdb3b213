"""Files of images: PNG is lossless at every size, previews are small JPEGs."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from serve_app.catalog.models import size_problem
from serve_app.engine.images import PREVIEW_SIDE, png, preview_jpeg
from tests.engine import tiny


def test_a_large_image_is_lossless() -> None:
    """2048 x 2048 of noise, which does not compress."""
    noise = np.random.default_rng(0).integers(0, 256, (2048, 2048, 3), np.uint8)
    data = png(noise)
    assert len(data) > 12_000_000
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), noise)


def test_a_size_is_bounded_by_the_model_and_by_what_can_be_finished() -> None:
    """Native sizes of newer models are far above four megabytes of pixels."""
    spec = tiny.spec(side={"min": 8, "max": 8192})
    for size in ((1328, 1328), (1664, 928), (1024, 1536), (2048, 2048), (4096, 4096)):
        assert size_problem(spec, *size) is None
    assert "more than" in str(size_problem(spec, 4096, 4104))


@pytest.mark.parametrize(("width", "height", "scale"), [(16, 8, 16), (128, 96, 2), (512, 64, 1)])
def test_a_preview_is_enlarged_by_a_whole_factor(width: int, height: int, scale: int) -> None:
    """Up to PREVIEW_SIDE; larger ones stay as they are."""
    data = preview_jpeg(np.zeros((height, width, 3), np.uint8))
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (width * scale, height * scale))
        assert max(picture.size) <= max(PREVIEW_SIDE, width)
