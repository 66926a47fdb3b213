"""Files of finished images: lossless, and never larger than one event may be."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from serve_app.catalog.models import EVENT_BYTES, MAX_IMAGE_PIXELS, size_problem
from serve_app.engine.images import png
from tests.engine import tiny


@pytest.mark.parametrize("width", [8, 1024, MAX_IMAGE_PIXELS // 8])
def test_no_image_exceeds_one_event(width: int) -> None:
    """Noise does not compress: the largest image there may be, tall, square-ish or wide, still fits."""
    height = MAX_IMAGE_PIXELS // width
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    data = png(noise)
    assert len(data) < EVENT_BYTES - 4096  # room for the event's other fields
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), noise)


def test_a_size_beyond_that_is_refused() -> None:
    """Even where the model's own limits would allow it."""
    spec = tiny.spec(side={"min": 8, "max": 4096})
    assert size_problem(spec, 1024, 1024) is None
    assert "more than" in str(size_problem(spec, 2048, 1024))
