"""OutputFiles: what is served of the output folder, and what is not, however it is asked for."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from serve_app.config import PROJECT_ROOT
from tests.api.harness import LocalTransport, assert_problem, make_app
from tests.jobs.harness import World

OUTSIDE = [
    "/output/%2e%2e/pyproject.toml",
    "/output/..%2fpyproject.toml",
    "/output/%252e%252e/pyproject.toml",
    "/output/..%5cpyproject.toml",
    "/output/%2fetc/passwd",
    "/output//etc/passwd",
    "/output/a/%2e%2e/%2e%2e/pyproject.toml",
    "/output/pyproject.toml%00.png",
    "/output/a.png%00",
    "/output/%c0%ae%c0%ae/pyproject.toml",
    "/output/..%2fsecret.png",
    "/output/%2e%2e/secret.png",
    "/output/....//secret.png",
    "/output/" + "x" * 5000 + ".png",
    "/output/a.png/b.png",
    "/output/",
    "/output",
]


@pytest.mark.parametrize("path", OUTSIDE)
async def test_nothing_outside_output_is_served(
    client: httpx.AsyncClient, world: World, path: str
) -> None:
    """Not even a file of an allowed kind next to it."""
    (world.files.root / "a.png").write_bytes(b"png")
    (world.directory / "secret.png").write_bytes(b"secret")
    (world.directory / "pyproject.toml").write_bytes(b"secret")
    assert_problem(await client.get(path), 404, "not_found")


async def test_a_path_that_no_client_has_resolved_is_refused(transport: LocalTransport) -> None:
    """Clients resolve `..` themselves, so the app is called with what a raw socket would send."""
    app: FastAPI = make_app(transport, output_dir=PROJECT_ROOT / "output")
    sent: list[dict[str, object]] = []

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message)

    async def receive() -> dict[str, object]:
        return {"type": "http.request"}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/output/../pyproject.toml",
        "raw_path": b"/output/../pyproject.toml",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == 404


@pytest.mark.parametrize(
    "name", [".hidden.png", "a.png.tmp", "a.part", "a.html", "a.svg", "a", ".dir/a.png"]
)
async def test_only_finished_images_are_served(
    client: httpx.AsyncClient, world: World, name: str
) -> None:
    path = world.files.root / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    assert_problem(await client.get(f"/output/{name}"), 404, "not_found")


@pytest.mark.parametrize("path", ["/output/a.png", "/docs/static/swagger-ui.css"])
@pytest.mark.parametrize(
    "wanted",
    [
        *("items=0-5", "bytes", "bytes=x-5", "bytes=", "=", "none", "", "bytes=5-2"),
        *("bytes=0-1, 9-3", "bytes=0--1", "bytes=,", "bytes=1 - 2", "bytes=0-1;2-3", "bytes=-"),
    ],
)
async def test_a_range_that_is_not_understood_is_ignored(
    client: httpx.AsyncClient, world: World, path: str, wanted: str
) -> None:
    (world.files.root / "a.png").write_bytes(b"pixels")
    whole = await client.get(path)
    response = await client.get(path, headers={"Range": wanted})
    assert (response.status_code, response.content) == (200, whole.content)


@pytest.mark.parametrize(
    ("wanted", "content"),
    [("bytes=0-1", b"pi"), ("bytes=-2", b"ls"), ("BYTES=2-", b"xels"), ("bytes=0-9999", b"pixels")],
)
async def test_bytes_of_a_file(
    client: httpx.AsyncClient, world: World, wanted: str, content: bytes
) -> None:
    (world.files.root / "a.png").write_bytes(b"pixels")
    response = await client.get("/output/a.png", headers={"Range": wanted})
    assert (response.status_code, response.content) == (206, content)
    assert response.headers["content-range"].endswith("/6")


@pytest.mark.parametrize("path", ["/output/a.png", "/docs/static/swagger-ui.css"])
async def test_bytes_that_are_not_there_are_a_problem(
    client: httpx.AsyncClient, world: World, path: str
) -> None:
    (world.files.root / "a.png").write_bytes(b"pixels")
    response = await client.get(path, headers={"Range": "bytes=99999999-"})
    assert_problem(response, 416, "range_not_satisfiable")
    size = len((await client.get(path)).content)
    assert response.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize("wanted", ["bytes=-", "bytes=,", "bytes=" + "9" * 1500 + "-"])
async def test_whatever_range_is_sent_no_answer_is_plain_text(
    client: httpx.AsyncClient, world: World, wanted: str
) -> None:
    """Starlette refuses some by itself."""
    (world.files.root / "a.png").write_bytes(b"pixels")
    response = await client.get("/output/a.png", headers={"Range": wanted})
    assert response.status_code in (200, 206, 400, 416)
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("target", ["../secret.png", "real.png"])
async def test_no_link_is_followed(client: httpx.AsyncClient, world: World, target: str) -> None:
    output = world.files.root
    (world.directory / "secret.png").write_bytes(b"secret")
    (output / "real.png").write_bytes(b"png")
    (output / "link.png").symlink_to(target)
    (output / "day").symlink_to(output, target_is_directory=True)
    assert (await client.get("/output/real.png")).status_code == 200
    assert_problem(await client.get("/output/link.png"), 404, "not_found")
    assert_problem(await client.get("/output/day/real.png"), 404, "not_found")
