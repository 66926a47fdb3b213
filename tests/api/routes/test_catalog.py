"""Routes of the catalog: what this server offers."""

from __future__ import annotations

from pathlib import Path

import httpx

from serve_app import __version__
from serve_app.catalog.loras import LoraSpec
from serve_app.catalog.models import Models
from tests.api.harness import ICON, MODELS, ORDER, LocalTransport, make_app, ordered, serving


async def test_styles_say_who_draws_them(client: httpx.AsyncClient) -> None:
    styles = {s["style_id"]: s for s in (await client.get("/v1/styles")).json()["results"]}
    assert list(styles) == ["none", "icon", "portrait"]
    assert styles["icon"]["drawable"]
    assert styles["icon"]["revision"] == ICON.revision
    assert styles["icon"]["defaults"]["steps"] == 6
    assert not styles["portrait"]["drawable"]
    assert styles["portrait"]["models"] == ["other"]


async def test_models_are_listed_as_openais_clients_read_them(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/models")).json()
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == [m["name"] for m in body["results"]]
    for model in body["data"]:
        assert (model["object"], model["created"], model["owned_by"]) == ("model", 0, "local")


async def test_models_say_what_they_allow(client: httpx.AsyncClient) -> None:
    tiny, other = (await client.get("/v1/models")).json()["results"]
    assert (tiny["name"], tiny["active"], tiny["revision"]) == ("tiny", True, "tiny-weights")
    assert (other["name"], other["active"], other["revision"]) == ("other", False, None)
    assert tiny["sizes"] == [[64, 64], [64, 128]]
    assert tiny["schedulers"] == ["ddim", "euler"]
    assert "path" not in tiny


async def test_loras_are_listed_and_ordered(transport: LocalTransport) -> None:
    """With their trigger words; a job says which drew it, and the one of another family is refused."""
    file = Path(__file__)
    loras = {
        "ink": LoraSpec("ink", file, "Ink drawings", "sd", ("ink drawing",)),
        "oil": LoraSpec("oil", file, "Oil", "sdxl", ()),
    }
    app = make_app(transport, models=Models(MODELS, "tiny", loras))
    async with serving(app) as client:
        ink, _ = (await client.get("/v1/loras")).json()["results"]
        assert (ink["name"], ink["title"], ink["family"]) == ("ink", "Ink drawings", "sd")
        assert (ink["triggers"], ink["revision"]) == (["ink drawing"], loras["ink"].revision)
        job = await ordered(client, loras=[{"name": "ink", "weight": 0.8}])
        assert job["request"]["loras"] == [{"name": "ink", "weight": 0.8}]
        body = ORDER | {"loras": [{"name": "oil"}]}
        refused = (await client.post("/v1/generate", json=body)).json()
        assert refused["code"] == "invalid_field"
        assert refused["errors"][0]["allowed"] == ["ink"]


async def test_capabilities_hold_the_limits(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/capabilities")).json()
    assert (body["version"], body["model"]) == (__version__, "tiny")
    assert body["schedulers"] == ["ddim", "euler"]
    assert body["limits"]["images"] == 16
    assert body["limits"]["seed"] == 2**32 - 1


async def test_the_catalog_needs_no_registry(
    client: httpx.AsyncClient, transport: LocalTransport
) -> None:
    transport.down = True
    for path in ("/v1/styles", "/v1/models", "/v1/loras", "/v1/capabilities"):
        assert (await client.get(path)).status_code == 200
