"""Forwarded: the service below a path, and what a proxy in front of it may say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serve_app.client import Client, Image
from tests.api.harness import (
    ORDER,
    LocalTransport,
    assert_problem,
    keys_of,
    make_app,
)
from tests.factories import JOB_ID
from tests.jobs.harness import World

PREFIX = "/assets"


def below(app: FastAPI, peer: tuple[str, int], root: str = "") -> httpx.AsyncClient:
    """A client whose requests come from `peer`, to an app that Serve mounted at `root`."""
    transport = httpx.ASGITransport(app, root_path=root, client=peer)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


def paths(answer: Any) -> Iterator[str]:
    """Every absolute path in an answer."""
    if isinstance(answer, dict):
        answer = list(answer.values())
    if isinstance(answer, list):
        for value in answer:
            yield from paths(value)
    elif isinstance(answer, str) and answer.startswith("/"):
        yield answer


@pytest.fixture(params=["route_prefix", "proxy"])
async def mounted(request: pytest.FixtureRequest, transport: LocalTransport, tmp_path: Path) -> Any:
    """App, client, and what to put before a path: the prefix is part of it, or the proxy cut it off."""
    (key,) = keys_of(tmp_path / "keys", "studio")
    app = make_app(transport, api_keys_file=tmp_path / "keys", trusted_proxies=["127.0.0.1"])
    async with app.router.lifespan_context(app):
        if request.param == "proxy":
            client, before = below(app, ("127.0.0.1", 4000)), ""
            client.headers["X-Forwarded-Prefix"] = PREFIX
        else:
            client, before = below(app, ("127.0.0.1", 4000), PREFIX), PREFIX
        async with client:
            yield client, before, key


async def test_every_link_of_every_answer_has_the_prefix(mounted: Any, world: World) -> None:
    client, before, key = mounted
    client.headers.update(key)
    response = await client.post(before + "/v1/generate", json=ORDER)
    assert response.status_code == 202, response.text
    job_id = response.json()["job_id"]
    await client.post(before + "/v1/generate", json=ORDER)
    await world.draw(job_id)
    answers = [response]
    for path in (
        f"/v1/jobs/{job_id}",
        "/v1/jobs?limit=1",
        f"/v1/jobs/{JOB_ID}",
        "/nowhere",
    ):
        answers.append(await client.get(before + path))
    stream = await client.get(before + f"/v1/jobs/{job_id}/events")
    data = [line[6:] for line in stream.text.splitlines() if line.startswith("data: ")]
    links = [response.headers["location"]]
    for answer in [*(answer.json() for answer in answers), *map(json.loads, data)]:
        links += paths(answer)
    assert len(links) > 20
    assert all(link.startswith(PREFIX + "/") for link in links), links
    picture = next(link for link in links if link.endswith(".png"))
    taken_off = picture if before else picture.removeprefix(PREFIX)
    assert (await client.get(taken_off)).status_code == 200


async def test_guards_look_below_the_prefix(mounted: Any, world: World) -> None:
    """What is open stays open, and nothing else is."""
    client, before, _ = mounted
    (world.files.root / "a.png").write_bytes(b"png")
    for path in ("/healthz", "/readyz", "/openapi.json", "/docs", "/output/a.png"):
        assert (await client.get(before + path)).status_code == 200, path
    assert_problem(await client.get(before + "/v1/styles"), 401, "unauthorized")
    docs = await client.get(before + "/docs")
    assert f"{PREFIX}/docs/static/" in docs.text
    assert f"{PREFIX}/openapi.json" in docs.text
    assert "script-src" in docs.headers["content-security-policy"]
    described = (await client.get(before + "/openapi.json")).json()
    assert described["servers"] == [{"url": PREFIX}]


@pytest.mark.parametrize(
    ("peer", "believed"),
    [
        (("10.1.2.3", 4000), True),
        (("10.2.0.1", 4000), False),
        (("127.0.0.1", 4000), True),
        (("203.0.113.9", 0), True),  # uvicorn: a peer on loopback sent X-Forwarded-For
        (("testclient", 4000), False),
    ],
)
async def test_only_a_trusted_proxy_is_believed(
    transport: LocalTransport, peer: tuple[str, int], believed: bool
) -> None:
    app = make_app(
        transport,
        trusted_proxies="127.0.0.1, 10.1.0.0/16",
        allowed_hosts=["art.example", "localhost"],
    )
    said = {"X-Forwarded-Prefix": PREFIX, "X-Forwarded-Host": "evil.example"}
    async with below(app, peer) as client:
        response = await client.get("/v1/nowhere", headers={"X-Forwarded-Prefix": PREFIX})
        assert response.json()["instance"] == (PREFIX if believed else "") + "/v1/nowhere"
        host = await client.get("/healthz", headers=said)
        assert (host.status_code == 400) == believed
        said["X-Forwarded-Host"] = "art.example"
        inner = {"Host": "10.0.0.9:8000"}
        public = await client.get("/healthz", headers=said | inner)
        assert (public.status_code == 200) == believed


@pytest.mark.parametrize("prefix", ["//evil.example", "https://evil.example", "a", "/a b", "/", ""])
async def test_a_prefix_is_a_path(transport: LocalTransport, prefix: str) -> None:
    app = make_app(transport, trusted_proxies=["127.0.0.1"])
    async with below(app, ("127.0.0.1", 1)) as client:
        response = await client.get("/v1/nowhere", headers={"X-Forwarded-Prefix": prefix})
    assert response.json()["instance"] == "/v1/nowhere"


@pytest.mark.parametrize("said", ["/assets/output/d/x.png", "/output/d/x.png"])
@pytest.mark.parametrize("server", ["http://art.example/assets", "http://art.example/assets/"])
def test_the_client_keeps_the_path_of_its_address(server: str, said: str) -> None:
    """Whether the service knows of the prefix or not."""
    image = Image(url=said, index=0, seed=1, width=1, height=1, sha256="")
    with Client(server) as client:
        assert client.url(image) == "http://art.example/assets/output/d/x.png"
