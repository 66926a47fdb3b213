"""ObjectFiles: an object is served as a file of a folder is, with the same headers and the same safety."""

from __future__ import annotations

import asyncio
import io
import itertools
import uuid
from collections.abc import AsyncGenerator

import httpx
import pytest
from PIL import Image

from serve_app.artifacts.objects import ObjectStorage
from serve_app.artifacts.storage import FolderStorage, storage_at
from tests.api.harness import LocalTransport, assert_problem, make_app, serving
from tests.api.test_output import OUTSIDE
from tests.bucket import Bucket
from tests.jobs.harness import World

FILE = "2025-11-22/a.png"


@pytest.fixture(name="address")
def _address(bucket: Bucket) -> str:
    """Of a place with two pictures, and what must not be served."""
    address = bucket.at(f"served/{uuid.uuid4().hex}")
    storage, noise = storage_at(address), io.BytesIO()
    Image.effect_noise((512, 512), 80).convert("RGB").save(noise, "PNG")
    storage.put(FILE, b"pixels")
    storage.put("2025-11-22/noise.png", noise.getvalue())
    storage.put("2025-11-22/.hidden.png", b"hidden")
    storage.put("2025-11-22/page.html", b"<script>")
    return address


@pytest.fixture
async def objects(address: str, transport: LocalTransport) -> AsyncGenerator[httpx.AsyncClient]:
    async with serving(make_app(transport, output=address)) as client:
        yield client


ASKED: list[dict[str, str]] = [
    {},
    {"Range": "bytes=0-1"},
    {"Range": "bytes=-2"},
    {"Range": "BYTES=2-"},
    {"Range": "bytes=0-9999"},
    {"Range": "bytes=5-2"},
    {"Range": "items=0-5"},
    {"Range": "bytes=99-"},
    {"Range": "bytes=0-1", "If-Range": '"another"'},
]


async def test_it_answers_as_a_folder_does(
    client: httpx.AsyncClient, objects: httpx.AsyncClient, world: World
) -> None:
    FolderStorage(world.files.root).put(FILE, b"pixels")
    changing = {"etag", "last-modified", "x-request-id", "date"}
    for method, wanted in itertools.product(("GET", "HEAD"), ASKED):
        folder = await client.request(method, f"/output/{FILE}", headers=wanted)
        bucket = await objects.request(method, f"/output/{FILE}", headers=wanted)
        assert (bucket.status_code, bucket.content) == (folder.status_code, folder.content)
        headers = [
            {name: value for name, value in answer.headers.items() if name not in changing}
            for answer in (folder, bucket)
        ]
        if folder.status_code != 416:  # a problem names its request
            assert headers[0] == headers[1], (method, wanted)
        assert headers[1].get("content-range") == headers[0].get("content-range")


async def test_what_a_client_has_is_not_sent_again(objects: httpx.AsyncClient) -> None:
    first = await objects.get(f"/output/{FILE}")
    for known in (
        {"If-None-Match": first.headers["etag"]},
        {"If-None-Match": f'"x", W/{first.headers["etag"]}'},
        {"If-Modified-Since": first.headers["last-modified"]},
    ):
        again = await objects.get(f"/output/{FILE}", headers=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    changed = await objects.get(f"/output/{FILE}", headers={"If-None-Match": '"other"'})
    assert changed.status_code == 200


async def test_nothing_else_is_served(objects: httpx.AsyncClient) -> None:
    for name in (".hidden.png", "page.html", "b.png"):
        assert_problem(await objects.get(f"/output/2025-11-22/{name}"), 404, "not_found")
    for path in OUTSIDE:
        assert_problem(await objects.get(path), 404, "not_found")


async def test_a_look_is_made_of_it(objects: httpx.AsyncClient) -> None:
    look = await objects.get("/output/2025-11-22/noise.png?thumb=128")
    assert look.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(look.content)).size == (128, 128)
    assert (await objects.get(f"/output/{FILE}?thumb=128")).content == b"pixels"
    assert_problem(await objects.get("/output/2025-11-22/b.png?thumb=128"), 404, "not_found")


async def test_while_the_store_is_away_a_file_is_not_gone(
    objects: httpx.AsyncClient, bucket: Bucket
) -> None:
    bucket.says = 503
    for path in (FILE, f"{FILE}?thumb=128"):
        response = await objects.get(f"/output/{path}")
        assert_problem(response, 503, "storage_failed")
        assert response.headers["retry-after"]
        assert "127.0.0.1" not in response.text
    bucket.says = None
    assert (await objects.get(f"/output/{FILE}")).content == b"pixels"


async def test_a_client_may_be_sent_to_the_store(
    bucket: Bucket, address: str, transport: LocalTransport
) -> None:
    """For a whole file that is there. The page may show what comes from that server, and nothing more."""
    app = make_app(transport, output=address, output_redirect=True)
    async with serving(app) as client:
        response = await client.get(f"/output/{FILE}")
        assert response.status_code == 307
        assert response.headers["cache-control"] == "private, max-age=1800"
        assert response.headers["referrer-policy"] == "no-referrer"
        fetched = await asyncio.to_thread(httpx.get, response.headers["location"])
        assert (fetched.content, fetched.headers["content-type"]) == (b"pixels", "image/png")
        assert (await client.head(f"/output/{FILE}")).status_code == 200
        assert_problem(await client.get("/output/2025-11-22/b.png"), 404, "not_found")
        assert_problem(await client.get("/output/2025-11-22/.hidden.png"), 404, "not_found")
        look = await client.get("/output/2025-11-22/noise.png?thumb=128")
        assert (look.status_code, look.headers["content-type"]) == (200, "image/webp")
        policy = (await client.get("/")).headers["content-security-policy"]
        origin = f"http://127.0.0.1:{bucket.port}"
        assert f"img-src 'self' data: blob: {origin};" in policy
        assert f"connect-src 'self' {origin};" in policy


def test_an_archive_reads_it_in_pieces(bucket: Bucket, address: str) -> None:
    """Through the same door, so that memory holds a piece of a file only."""
    storage = storage_at(address)
    assert isinstance(storage, ObjectStorage)
    before = bucket.asked["GET"]
    with storage.open("2025-11-22/noise.png") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    assert bucket.asked["GET"] - before == 1
