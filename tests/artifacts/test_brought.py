"""Pictures of strangers: what is kept of them, and what is refused before anything is decoded."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin

from serve_app.artifacts.brought import brought
from serve_app.errors import InvalidField

MOST = 2**24


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def kept(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(brought(data, MOST).data), formats=["PNG"])


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, packed: bytes, *more: bytes) -> bytes:
    """With any header, whatever its pixels are."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


@pytest.fixture
def photo() -> Image.Image:
    """Different in every corner."""
    rows = np.zeros((6, 8, 3), np.uint8)
    rows[..., 0], rows[..., 1] = np.arange(8) * 30, np.arange(6)[:, None] * 40
    return Image.fromarray(rows)


# ---- bombs ----


def test_a_bomb_is_refused_by_its_header() -> None:
    """50,000 x 50,000 pixels in a kilobyte: nothing of it is unpacked."""
    bomb = png_of(50_000, 50_000, zlib.compress(b"\0" * 900_000))
    assert len(bomb) < 1100
    tracemalloc.start()
    with pytest.raises(InvalidField, match="50000x50000 pixels") as caught:
        brought(bomb, MOST)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000
    assert caught.value.allowed == [f"up to {MOST} pixels in all"]


def test_a_webp_whose_outer_size_lies_is_refused_by_its_inner_one(photo: Image.Image) -> None:
    """An extended WebP says its canvas twice."""
    inner = saved(photo.resize((3000, 2000)), "WEBP", lossless=True)[12:]
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (7).to_bytes(3, "little") * 2
    body = b"WEBP" + canvas + inner
    lying = b"RIFF" + struct.pack("<I", len(body)) + body
    with pytest.raises(InvalidField):
        brought(lying, 1000)


def test_a_text_that_unpacks_to_gigabytes_is_not_read(photo: Image.Image) -> None:
    text = chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 50_000_000, 9))
    plain = saved(photo, "PNG")
    assert brought(plain[:33] + text + plain[33:], MOST) == brought(plain, MOST)


def test_a_colour_profile_that_unpacks_to_gigabytes_is_refused(photo: Image.Image) -> None:
    profile = chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"x" * 50_000_000, 9))
    plain = saved(photo, "PNG")
    with pytest.raises(InvalidField, match="broken"):
        brought(plain[:33] + profile + plain[33:], MOST)


# ---- what is no picture, or more than one ----


def test_of_a_polyglot_only_the_picture_is_kept(photo: Image.Image) -> None:
    """A file that is a PNG for one reader and an archive with a script for another."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("evil.html", "<script>alert(1)</script>")
    comment = PngImagePlugin.PngInfo()
    comment.add_text("Comment", "<script>alert(2)</script>")
    both = saved(photo, "PNG", pnginfo=comment) + archive.getvalue()
    assert zipfile.is_zipfile(io.BytesIO(both))
    found = brought(both, MOST)
    assert not zipfile.is_zipfile(io.BytesIO(found.data))
    assert b"script" not in found.data
    assert found == brought(saved(photo, "PNG"), MOST)


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_an_animation_is_refused(photo: Image.Image, kind: str) -> None:
    frames = [photo.rotate(180), photo.rotate(90, expand=False)]
    moving = saved(photo, kind, save_all=True, append_images=frames)
    with pytest.raises(InvalidField, match="animated"):
        brought(moving, MOST)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_a_file_that_is_cut_short_is_refused(photo: Image.Image, kind: str) -> None:
    whole = saved(photo.resize((64, 64)), kind)
    brought(whole, MOST)
    with pytest.raises(InvalidField, match="broken or incomplete"):
        brought(whole[: len(whole) // 2], MOST)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_other_formats_are_refused(photo: Image.Image, kind: str) -> None:
    with pytest.raises(InvalidField) as caught:
        brought(saved(photo, kind), MOST)
    assert caught.value.allowed == ["PNG", "WebP", "JPEG"]


def test_a_picture_without_pixels_is_refused() -> None:
    for width, height in ((0, 0), (0, 5)):
        with pytest.raises(InvalidField):
            brought(png_of(width, height, zlib.compress(b"")), MOST)


# ---- pixels ----


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_pixels_stay_as_they_are(photo: Image.Image, kind: str) -> None:
    data = saved(photo, kind, **({"lossless": True} if kind == "WEBP" else {}))
    found = brought(data, MOST)
    assert (found.width, found.height, found.has_alpha) == (8, 6, False)
    assert np.array_equal(np.asarray(kept(data)), np.asarray(photo))


def test_equal_pixels_make_equal_files(photo: Image.Image) -> None:
    lossless = saved(photo, "WEBP", lossless=True)
    assert brought(saved(photo, "PNG"), MOST) == brought(lossless, MOST)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(photo: Image.Image, orientation: int) -> None:
    """As Pillow's own transposition has it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = saved(photo, "PNG", exif=exif)
    with Image.open(io.BytesIO(data)) as turned:
        upright = ImageOps.exif_transpose(turned)
    assert np.array_equal(np.asarray(kept(data)), np.asarray(upright))
    assert kept(data).size == ((6, 8) if orientation > 4 else (8, 6))


def test_nothing_that_the_file_said_is_kept(photo: Image.Image) -> None:
    """Where it was taken, by whom, and with which prompt."""
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "somebody"
    data = saved(photo, "JPEG", exif=exif, comment=b"at home", dpi=(300, 300))
    found = brought(data, MOST).data
    assert b"somebody" in data
    assert b"somebody" not in found
    assert b"home" not in found
    kinds, at = [], 8
    while at < len(found):
        (length,) = struct.unpack(">I", found[at : at + 4])
        kinds.append(found[at + 4 : at + 8])
        at += 12 + length
    assert set(kinds) == {b"IHDR", b"IDAT", b"IEND"}


def test_a_jpeg_for_print_becomes_rgb(photo: Image.Image) -> None:
    """CMYK, as print programs write it."""
    found = kept(saved(photo.convert("CMYK"), "JPEG", quality=100, subsampling=0))
    assert found.mode == "RGB"
    assert np.abs(np.asarray(found).astype(int) - np.asarray(photo)).max() < 16


def test_grey_of_16_bits_keeps_its_levels() -> None:
    """Their upper half: Pillow's own conversion would make everything above 255 white."""
    levels = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
    found = kept(saved(Image.fromarray(levels), "PNG"))
    assert found.mode == "RGB"
    assert np.array_equal(np.asarray(found)[..., 0], levels >> 8)


def test_colours_of_16_bits_keep_their_levels() -> None:
    levels = np.linspace(0, 65535, 2 * 3 * 3).astype(">u2").reshape(2, 3, 3)
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 2, 16, 2, 0, 0, 0))
    parts = head, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    found = kept(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert np.array_equal(np.asarray(found), levels >> 8)


@pytest.mark.parametrize(
    ("make", "alpha"),
    [
        (lambda image: image.convert("P"), False),
        (lambda image: image.convert("L"), False),
        (lambda image: image.convert("1"), False),
        (lambda image: image.convert("RGBA"), False),
        (lambda image: Image.merge("RGBA", (*image.split(), image.getchannel(0))), True),
        (lambda image: Image.merge("LA", (image.getchannel(1), image.getchannel(0))), True),
    ],
    ids=["palette", "grey", "bits", "opaque", "alpha", "grey with alpha"],
)
def test_every_kind_of_pixel_becomes_rgb_or_rgba(
    photo: Image.Image, make: Callable[[Image.Image], Image.Image], alpha: bool
) -> None:
    """An alpha that hides nothing is none."""
    data = saved(make(photo), "PNG")
    assert brought(data, MOST).has_alpha == alpha
    assert kept(data).mode == ("RGBA" if alpha else "RGB")
    assert np.array_equal(
        np.asarray(kept(data).convert("RGBA")), np.asarray(make(photo).convert("RGBA"))
    )


def test_a_transparent_colour_of_a_palette_is_alpha(photo: Image.Image) -> None:
    data = saved(photo.convert("P"), "PNG", transparency=photo.convert("P").getpixel((0, 0)))
    found = kept(data)
    assert found.mode == "RGBA"
    assert found.getpixel((0, 0))[3] == 0  # pyright: ignore[reportOptionalSubscript,reportIndexIssue]


def test_colours_of_another_profile_are_converted(photo: Image.Image) -> None:
    """Here of one whose red is green, and whose green is red."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"temp", 1).replace(b"gXYZ", b"rXYZ", 1)
    swapped = swapped.replace(b"temp", b"gXYZ", 1)
    found = kept(saved(photo, "PNG", icc_profile=swapped))
    assert "icc_profile" not in found.info
    exchanged = np.asarray(photo)[..., [1, 0, 2]]
    assert np.abs(np.asarray(found).astype(int) - exchanged).max() <= 1
    same = kept(saved(photo, "PNG", icc_profile=srgb))
    assert np.abs(np.asarray(same).astype(int) - np.asarray(photo)).max() <= 1


def test_a_profile_that_cannot_be_read_is_passed_over(photo: Image.Image) -> None:
    found = kept(saved(photo, "PNG", icc_profile=b"no profile"))
    assert np.array_equal(np.asarray(found), np.asarray(photo))


def test_a_phones_jpeg_with_a_second_picture_is_its_first(photo: Image.Image) -> None:
    """MPO: some phones add one for depth."""
    large = photo.resize((64, 48))
    data = saved(large, "MPO", save_all=True, append_images=[large.rotate(180)], quality=100)
    assert data.startswith(b"\xff\xd8\xff")
    assert kept(data).size == (64, 48)
