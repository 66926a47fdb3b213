"""Two pictures, pixel by pixel, and what their records say of how they were made."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from serve_app.artifacts.comparison import Difference, difference, record_of, what_changed
from serve_app.artifacts.png import exif_of, with_metadata
from tests.factories import JOB_ID, params, rendered_image


def file_of(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, lossless=True, exact=True)
    return buffer.getvalue()


def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (12, 20, 4), np.uint8)


def test_equal_pixels_are_equal_in_whichever_file() -> None:
    assert difference(file_of(pixels()), file_of(pixels(), "WEBP")) is None


def test_a_difference_has_a_size_a_share_and_a_place() -> None:
    """Also where the pixel cannot be seen."""
    other = pixels()
    other[3, 5, 0] ^= 1
    other[7, 9, 3] ^= 64
    found = difference(file_of(pixels()), file_of(other))
    assert found == Difference(64, 2 / 240, (5, 3, 5, 5))


def test_other_sizes_and_broken_files_are_said() -> None:
    with pytest.raises(ValueError, match="20x12 pixels, and 12x12"):
        difference(file_of(pixels()), file_of(pixels()[:, :12]))
    with pytest.raises(ValueError, match="decoded"):
        difference(file_of(pixels()), b"\x89PNG\r\n\x1a\nno")


def test_what_changed_is_named_if_both_say_it() -> None:
    was = {"made_by": {"weights": "a", "device": "cpu", "torch": "2"}}
    now = {"made_by": {"weights": "b", "device": "cpu", "dtype": "float16"}}
    assert what_changed(was, now) == ["weights_changed: a then, b now"]
    assert what_changed({}, now) == []


def test_a_record_is_read_from_png_and_webp() -> None:
    image = rendered_image(data=file_of(pixels()), made_by={"device": "cpu"})
    data = with_metadata(image, params(), JOB_ID, 1)
    record = record_of(data)
    assert record["made_by"] == {"device": "cpu"}
    with Image.open(io.BytesIO(data)) as png:
        texts = {str(name): str(text) for name, text in png.info.items()}
        buffer = io.BytesIO()
        png.save(buffer, "WEBP", exif=exif_of(texts))
    assert record_of(buffer.getvalue()) == record
    assert record_of(file_of(pixels())) == record_of(b"no picture") == {}
