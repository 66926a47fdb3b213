"""Files of images: PNG is lossless and fits into one event, previews are small JPEGs."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from serve_app.catalog.models import EVENT_BYTES, MAX_IMAGE_PIXELS, size_problem
from serve_app.engine.images import PREVIEW_SIDE, png, preview_jpeg
from tests.engine import tiny


@pytest.mark.parametrize("width", [8, 1024, MAX_IMAGE_PIXELS // 8])
def test_no_image_exceeds_one_event(width: int) -> None:
    """Noise does not compress: even so the largest image allowed fits, whether tall, square or wide."""
    height = MAX_IMAGE_PIXELS // width
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    data = png(noise)
    assert len(data) < EVENT_BYTES - 4096  # room for the event's other fields
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), noise)


def test_a_size_that_could_exceed_one_event_is_refused() -> None:
    """Even where the model's own limits would allow it."""
    spec = tiny.spec(side={"min": 8, "max": 4096})
    assert size_problem(spec, 1024, 1024) is None
    assert "more than" in str(size_problem(spec, 2048, 1024))


@pytest.mark.parametrize(("width", "height", "scale"), [(16, 8, 16), (128, 96, 2), (512, 64, 1)])
def test_a_preview_is_enlarged_by_a_whole_factor(width: int, height: int, scale: int) -> None:
    """Up to PREVIEW_SIDE; larger ones stay as they are."""
    data = preview_jpeg(np.zeros((height, width, 3), np.uint8))
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (width * scale, height * scale))
        assert max(picture.size) <= max(PREVIEW_SIDE, width)
