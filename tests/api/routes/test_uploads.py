"""POST, GET and DELETE /v1/uploads: who may see which picture, and what is refused."""

from __future__ import annotations

import io
import threading

import httpx
import pytest
from PIL import Image

from serve_app.artifacts import brought as module
from tests.api.harness import LocalTransport, assert_problem, get, keys_of, make_app, serving
from tests.jobs.harness import World

PNG = {"content-type": "image/png"}


def picture(shade: int = 0, size: tuple[int, int] = (8, 6)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


async def uploaded(client: httpx.AsyncClient, data: bytes) -> dict[str, object]:
    response = await client.post("/v1/uploads", content=data, headers=PNG)
    assert response.status_code == 201, response.text
    return response.json()


async def test_an_upload_is_shown_until_it_is_deleted(client: httpx.AsyncClient) -> None:
    made = await client.post("/v1/uploads", content=picture(), headers=PNG)
    assert made.status_code == 201
    found = made.json()
    assert (found["width"], found["height"], found["has_alpha"]) == (8, 6, False)
    path = made.headers["location"]
    assert path == f"/v1/uploads/{found['upload_id']}"
    assert await get(client, path) == found
    assert (await client.head(path)).status_code == 200
    again = await client.post("/v1/uploads", content=picture(), headers=PNG)
    assert again.status_code == 200
    assert again.json()["upload_id"] == found["upload_id"]
    assert (await client.delete(path)).status_code == 204
    for method in ("GET", "DELETE"):
        assert_problem(await client.request(method, path), 404, "not_found")
    assert (await client.head(path)).status_code == 404


async def test_the_upload_of_another_owner_is_not_found(
    transport: LocalTransport, world: World
) -> None:
    path = world.directory / "keys"
    ann, bob = keys_of(path, "ann", "bob")
    async with serving(make_app(transport, api_keys_file=path)) as client:
        assert_problem(
            await client.post("/v1/uploads", content=picture(), headers=PNG), 401, "unauthorized"
        )
        made = await client.post("/v1/uploads", content=picture(), headers=PNG | ann)
        url = made.headers["location"]
        assert_problem(await client.get(url, headers=bob), 404, "not_found")
        assert_problem(await client.delete(url, headers=bob), 404, "not_found")
        assert (await client.get(url, headers=ann)).status_code == 200


async def test_no_upload_is_a_finished_file(client: httpx.AsyncClient, world: World) -> None:
    await uploaded(client, picture())
    (name,) = (path.name for path in (world.files.root / ".uploads").iterdir())
    assert_problem(await client.get(f"/output/.uploads/{name}"), 404, "not_found")
    assert_problem(await client.get(f"/output/%2euploads/{name}"), 404, "not_found")


async def test_more_than_a_share_is_429(transport: LocalTransport) -> None:
    async with serving(make_app(transport, max_uploads=1)) as client:
        await uploaded(client, picture(1))
        full = await client.post("/v1/uploads", content=picture(2), headers=PNG)
        assert "at most 1" in assert_problem(full, 429, "uploads_full")["detail"]
        assert 80_000 < int(full.headers["retry-after"]) <= 86_400
        limits = (await get(client, "/v1/capabilities"))["limits"]
        assert limits["uploads"] == 1


@pytest.mark.parametrize(
    ("headers", "data", "status", "code"),
    [
        (PNG, b"", 422, "invalid_field"),
        (PNG, b"GIF89a", 422, "invalid_field"),
        (PNG, picture(size=(2000, 1000)), 422, "invalid_field"),
        ({"content-type": "application/json"}, b"{}", 415, "unsupported_media_type"),
        (PNG, b"\x89PNG\r\n\x1a\n" + bytes(40_000), 413, "body_too_large"),
    ],
    ids=["empty", "gif", "pixels", "json", "bytes"],
)
async def test_what_is_refused_leaves_nothing(
    transport: LocalTransport,
    world: World,
    headers: dict[str, str],
    data: bytes,
    status: int,
    code: str,
) -> None:
    app = make_app(transport, max_upload_bytes=30_000, max_pixels=1_000_000)
    async with serving(app) as client:
        response = await client.post("/v1/uploads", content=data, headers=headers)
        assert_problem(response, status, code)
    assert not (world.files.root / ".uploads").exists()


async def test_a_disk_that_takes_nothing_is_503(client: httpx.AsyncClient, world: World) -> None:
    (world.files.root / ".uploads").write_text("")
    response = await client.post("/v1/uploads", content=picture(), headers=PNG)
    assert_problem(response, 503, "storage_failed")


async def test_decoding_is_no_work_of_the_loop(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an ingress runs user code, every poll waits for it."""
    threads: list[threading.Thread] = []
    real = module.encoded

    def seen(pixels: Image.Image) -> module.PlainPng:
        threads.append(threading.current_thread())
        return real(pixels)

    monkeypatch.setattr(module, "encoded", seen)
    await uploaded(client, picture())
    assert threads
    assert threading.current_thread() not in threads
