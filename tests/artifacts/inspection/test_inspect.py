"""Files that are broken, hostile or huge: what can be known is told, and nothing is fetched."""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import threading
import time
import tracemalloc
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from serve_app.artifacts.imprint import distance, imprint_of
from serve_app.artifacts.inspection.container import MAX_TEXT
from serve_app.artifacts.inspection.inspect import C2pa, inspect
from serve_app.artifacts.png import with_metadata
from serve_app.errors import InvalidField
from tests.artifacts.inspection import samples
from tests.artifacts.pictures import JOB, PARAMS, rendered

MAX_PIXELS = 2**20
PNG = samples.png(parameters=samples.A1111)


def codes(notes: list[str]) -> list[str]:
    return [note.partition(":")[0] for note in notes]


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"\x89PNG", b"GIF89a", b"PK\x03\x04" + b"\0" * 99, b"RIFF\0\0\0\0WAVE", b"<svg/>"],
)
def test_what_is_no_picture_is_refused_and_the_allowed_named(data: bytes) -> None:
    with pytest.raises(InvalidField) as refused:
        inspect(data, MAX_PIXELS)
    assert refused.value.allowed == ["PNG", "WebP", "JPEG"]


def test_a_zip_is_refused_and_one_behind_a_picture_is_told() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("picture.png", PNG)
    with pytest.raises(InvalidField):
        inspect(file.getvalue(), MAX_PIXELS)
    found = inspect(PNG + file.getvalue(), MAX_PIXELS)
    assert codes(found.notes) == ["trailing_bytes"]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_truncated_file_says_so_and_never_fails(kind: str, part: float) -> None:
    comment = b"UNICODE\0" + samples.A1111.encode("utf-16-be")
    data = PNG if kind == "PNG" else samples.with_exif(kind, comment)
    found = inspect(data[: int(len(data) * part)], MAX_PIXELS)
    assert set(codes(found.notes)) <= {"truncated", "not_decoded", "unreadable_text"}
    assert found.notes


def test_a_truncated_png_still_says_what_stands_before_the_cut() -> None:
    found = inspect(PNG[:-30], MAX_PIXELS)
    assert found.recipe is not None
    assert (found.width, found.height) == (16, 8)
    assert found.imprint is None


def test_a_picture_of_a_hundred_megapixels_is_not_decoded() -> None:
    """Its header says 10,000 x 10,000; its pixels would be 400 MB. They are 100 kB of zeros here."""
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 6, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 400_010_000, 9)
    data = samples.png()
    chunk = b"IHDR" + header
    data = data[:8] + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = samples.with_chunk(data, b"IDAT", pixels) + b"\0\0\0\0IEND\xaeB`\x82"
    tracemalloc.start()
    found = inspect(data, 16 * 2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.width, found.height) == (10_000, 10_000)
    assert codes(found.notes) == ["not_decoded"]
    assert peak < 4 * len(data) + 2**20


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
def test_a_text_of_fifty_megabytes_is_left_out(kind: bytes) -> None:
    """Packed it is 50 kB. The texts beside it are read."""
    text = b"x" * 50_000_000
    body = {
        b"tEXt": b"parameters\0" + text,
        b"zTXt": b"parameters\0\0" + zlib.compress(text),
        b"iTXt": b"parameters\0\1\0\0\0" + zlib.compress(text),
    }[kind]
    data = samples.with_chunk(samples.png(Comment="kept"), kind, body)
    tracemalloc.start()
    found = inspect(data, MAX_PIXELS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert codes(found.notes) == ["text_too_large"]
    assert found.texts == {"Comment": "kept"}
    assert found.imprint is not None
    assert peak < 4 * MAX_TEXT + len(data) * (kind == b"tEXt") * 0.1


@pytest.mark.parametrize(
    "body", [b"", b"key", b"key\0", b"key\0\0", b"key\0\1\0", b"key\0\1\0\0\0zzz", b"\0" * 99]
)
@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
def test_a_broken_text_chunk_hides_nothing_else(kind: bytes, body: bytes) -> None:
    found = inspect(samples.with_chunk(PNG, kind, body), MAX_PIXELS)
    assert found.recipe is not None
    assert found.imprint is not None


def test_ten_million_empty_chunks_end_soon() -> None:
    chunk = b"\0\0\0\0abCd" + struct.pack(">I", zlib.crc32(b"abCd"))
    began = time.process_time()
    found = inspect(PNG[:33] + chunk * 1_000_000 + PNG[33:], MAX_PIXELS)
    assert "too_many_chunks" in codes(found.notes)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "hostile",
    [
        "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        "<!DOCTYPE a SYSTEM 'http://127.0.0.1:1/a.dtd'><a/>",
        "<a>" * 200_000,
        "<a>" * 100_000 + "</a>" * 100_000,
        "",
        "<",
    ],
)
def test_hostile_xmp_is_passed_over(hostile: str) -> None:
    found = inspect(samples.png(xmp=hostile), MAX_PIXELS)
    assert (found.source_type, found.c2pa) == ("", None)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 100_000, "{" + "9" * 10_000 + "}"])
def test_deep_json_is_passed_over(text: str) -> None:
    for keyword in ("prompt", "invokeai_metadata", "parameters", "job"):
        assert inspect(samples.png((16, 8), **{keyword: text}), MAX_PIXELS).recipe is None


def test_c2pa_that_points_to_the_network_is_told_and_not_fetched() -> None:
    """A server listens where the file points, and nobody comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/manifest.c2pa"
        came: list[object] = []

        def answer() -> None:
            with contextlib.suppress(OSError):  # it was shut down
                came.append(server.accept())

        waiting = threading.Thread(target=answer)
        waiting.start()
        found = inspect(
            samples.png(xmp=samples.xmp(attributes=f"dcterms:provenance='{url}'")), 2**20
        )
        server.shutdown(socket.SHUT_RDWR)
        waiting.join()
    assert came == []
    assert found.c2pa == C2pa(remote_url=url)
    assert codes(found.notes) == ["c2pa_remote"]


def test_an_embedded_manifest_is_measured() -> None:
    """One that is none is invalid."""
    found = inspect(samples.with_chunk(PNG, b"caBX", b"m" * 100), MAX_PIXELS).c2pa
    assert found is not None
    assert (found.size_bytes, found.remote_url) == (100, "")
    assert found.credentials is not None
    assert found.credentials.state == "invalid"


def test_our_own_file_says_that_a_model_made_it() -> None:
    found = inspect(with_metadata(rendered(0), PARAMS, JOB, 1), MAX_PIXELS)
    assert found.source_type == "trainedAlgorithmicMedia"
    assert found.ai_made
    assert found.software.startswith("AI Asset Generator")
    assert found.notes == []


def test_a_photograph_says_nothing() -> None:
    found = inspect(samples.png(), MAX_PIXELS)
    assert (found.recipe, found.ai_made, found.notes) == (None, False, [])


@given(st.binary(max_size=400), st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", PNG[:60]]))
def test_noise_never_breaks_it(noise: bytes, head: bytes) -> None:
    inspect(head + noise, MAX_PIXELS)
    inspect(b"RIFF" + noise[:4].ljust(4, b"\0") + b"WEBP" + noise, MAX_PIXELS)


@given(st.data())
def test_flipped_bytes_never_break_it(data: st.DataObject) -> None:
    whole = bytearray(samples.with_exif("JPEG", b"UNICODE\0" + samples.A1111.encode("utf-16-be")))
    for _ in range(4):
        whole[data.draw(st.integers(3, len(whole) - 1))] = data.draw(st.integers(0, 255))
    inspect(bytes(whole), MAX_PIXELS)


# ---- fingerimprint ----


def encoded(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def test_the_pixels_have_one_name_however_they_are_packed() -> None:
    image = samples.picture((64, 48))
    one = imprint_of(encoded(image, compress_level=0))
    assert imprint_of(encoded(image.convert("RGBA"), compress_level=9)) == one
    turned = imprint_of(encoded(Image.frombytes("RGB", (48, 64), image.tobytes())))
    assert turned.pixels_sha256 != one.pixels_sha256


def test_alike_pictures_have_near_names_and_others_do_not() -> None:
    noise = Image.effect_noise((128, 128), 90).convert("RGB")
    other = Image.effect_noise((128, 128), 90).convert("RGB")
    one = imprint_of(encoded(noise)).dhash
    assert distance(one, imprint_of(encoded(noise.resize((96, 96)))).dhash) <= 10
    assert distance(one, imprint_of(encoded(other)).dhash) > 10


def test_hidden_colours_change_no_look() -> None:
    clear = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    noise = Image.effect_noise((32, 32), 99).convert("RGBA")
    noise.putalpha(0)
    assert imprint_of(encoded(clear)).dhash == imprint_of(encoded(noise)).dhash
