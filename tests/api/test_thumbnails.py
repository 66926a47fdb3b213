"""`?thumb=` of finished files: made once, while it may be made; never of what is gone."""

from __future__ import annotations

import asyncio
import io
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest
from PIL import Image

from serve_app.api import thumbnails
from serve_app.api.output import OutputFiles
from serve_app.api.thumbnails import Thumbnails
from serve_app.artifacts.thumbnail import thumbnail
from tests.api.harness import assert_problem
from tests.jobs.harness import World

FILE = "2025-11-22/icon_7.png"


@pytest.fixture
def stored(world: World) -> bytes:
    """What the file `FILE` holds."""
    path = world.files.root / FILE
    path.parent.mkdir()
    Image.effect_noise((512, 512), 80).convert("RGB").save(path)
    return path.read_bytes()


async def test_a_look_is_small_and_may_be_kept(client: httpx.AsyncClient, stored: bytes) -> None:
    response = await client.get(f"/output/{FILE}?thumb=256")
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/webp"
    assert response.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert Image.open(io.BytesIO(response.content)).size == (256, 256)
    assert len(response.content) < len(stored) / 4
    known = {"If-None-Match": response.headers["etag"]}
    assert (await client.get(f"/output/{FILE}?thumb=256", headers=known)).status_code == 304
    head = await client.head(f"/output/{FILE}?thumb=256")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == "image/webp"


async def test_the_file_without_a_question_stays_the_file(
    client: httpx.AsyncClient, stored: bytes
) -> None:
    assert (await client.get(f"/output/{FILE}")).content == stored


async def test_what_is_small_or_no_picture_comes_as_it_is(
    client: httpx.AsyncClient, world: World
) -> None:
    Image.new("RGB", (64, 64)).save(world.files.root / "small.png")
    (world.files.root / "sheet.json").write_text("{}")
    for name in ("small.png", "sheet.json"):
        response = await client.get(f"/output/{name}?thumb=128")
        assert response.content == (world.files.root / name).read_bytes()


@pytest.mark.parametrize("side", ["", "0", "77", "1e9", "-128", "256.0"])
async def test_other_sizes_are_refused(client: httpx.AsyncClient, stored: bytes, side: str) -> None:
    response = await client.get(f"/output/{FILE}?thumb={side}")
    (error,) = assert_problem(response, 422, "invalid_field")["errors"]
    assert error["field"] == "thumb"


async def test_a_file_that_is_gone_has_no_look(
    client: httpx.AsyncClient, world: World, stored: bytes
) -> None:
    assert (await client.get(f"/output/{FILE}?thumb=128")).status_code == 200
    world.files.remove([FILE])
    assert_problem(await client.get(f"/output/{FILE}?thumb=128"), 404, "not_found")
    assert_problem(await client.get("/output/../jobs.db?thumb=128"), 404, "not_found")


async def test_many_who_ask_at_once_share_one_making(
    client: httpx.AsyncClient, stored: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Counter[int] = Counter()

    def counted(path: Path, side: int, most: int) -> bytes | None:
        made[side] += 1
        return thumbnail(path, side, most)

    monkeypatch.setattr(thumbnails, "thumbnail", counted)
    looks = [f"/output/{FILE}?thumb={side}" for side in (128, 256) * 5]
    responses = await asyncio.gather(*map(client.get, looks))
    assert {response.status_code for response in responses} == {200}
    assert made == {128: 1, 256: 1}
    await client.get(looks[0])
    assert made[128] == 1


async def test_the_loop_turns_while_a_look_is_made(
    client: httpx.AsyncClient, stored: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def waiting(path: Path, side: int, most: int) -> bytes | None:
        assert go.wait(20)
        return thumbnail(path, side, most)

    monkeypatch.setattr(thumbnails, "thumbnail", waiting)
    asked = asyncio.create_task(client.get(f"/output/{FILE}?thumb=256"))
    assert (await client.get("/healthz")).status_code == 200
    assert not asked.done()
    go.set()
    assert (await asked).status_code == 200


async def test_what_is_kept_has_a_limit(tmp_path: Path) -> None:
    for name in "abcd":
        Image.effect_noise((300, 300), 80).convert("RGB").save(tmp_path / f"{name}.png")
    one = len(thumbnail(tmp_path / "a.png", 128, 10**6) or b"")
    kept = Thumbnails(OutputFiles(tmp_path), 10**6, most_bytes=int(2.5 * one))
    scope = {"type": "http", "method": "GET", "headers": []}
    for name in "abcd":
        assert (await kept.response(f"{name}.png", 128, scope)).status_code == 200
    assert kept.size <= 2.5 * one
    assert list(kept.names) == ["c.png", "d.png"]
