"""Thumbnails: small, of the right shape, with transparency; and nothing where there is nothing to gain."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from serve_app.artifacts.thumbnail import thumbnail

PIXELS = 4_000_000


def stored(path: Path, size: tuple[int, int], mode: str = "RGB") -> Path:
    Image.effect_noise(size, 80).convert(mode).save(path)
    return path


def opened(data: bytes | None) -> Image.Image:
    assert data is not None
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "WEBP"
    return picture


@pytest.mark.parametrize(
    ("size", "small"), [((512, 512), (256, 256)), ((768, 512), (256, 171)), ((300, 900), (85, 256))]
)
def test_it_fits_and_keeps_its_shape(
    tmp_path: Path, size: tuple[int, int], small: tuple[int, int]
) -> None:
    made = thumbnail(stored(tmp_path / "a.png", size), 256, PIXELS)
    assert opened(made).size == small


def test_transparent_stays_transparent(tmp_path: Path) -> None:
    sprite = Image.new("RGBA", (400, 400), (200, 40, 40, 0))
    sprite.paste((200, 40, 40, 255), (100, 100, 300, 300))
    sprite.save(tmp_path / "a.png")
    alpha = opened(thumbnail(tmp_path / "a.png", 128, PIXELS)).getchannel("A")
    assert (alpha.getpixel((2, 2)), alpha.getpixel((64, 64))) == (0, 255)


def test_a_picture_of_a_palette_is_read_with_its_transparency(tmp_path: Path) -> None:
    sprite = Image.new("P", (400, 400), 0)
    sprite.putpalette([0, 0, 0, 250, 250, 250])
    sprite.paste(1, (100, 100, 300, 300))
    sprite.save(tmp_path / "a.png", transparency=0)
    small = opened(thumbnail(tmp_path / "a.png", 128, PIXELS))
    assert small.convert("RGBA").getpixel((2, 2))[3] == 0  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]


@pytest.mark.parametrize("size", [(256, 256), (64, 64), (256, 10)])
def test_what_is_no_larger_is_left_as_it_is(tmp_path: Path, size: tuple[int, int]) -> None:
    assert thumbnail(stored(tmp_path / "a.png", size), 256, PIXELS) is None


def test_too_many_pixels_are_not_decoded(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.png", (600, 600))
    assert thumbnail(path, 256, 600 * 600) is not None
    assert thumbnail(path, 256, 600 * 600 - 1) is None


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_what_is_no_picture_has_no_look(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert thumbnail(tmp_path / "a.png", 256, PIXELS) is None
    assert thumbnail(tmp_path / "absent.png", 256, PIXELS) is None


def test_half_a_file_has_no_look(tmp_path: Path) -> None:
    whole = stored(tmp_path / "a.png", (512, 512)).read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    assert thumbnail(tmp_path / "a.png", 256, PIXELS) is None
