"""Routes of the catalog: what this server offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from serve_app import __version__
from serve_app.catalog.loras import LoraSpec
from serve_app.catalog.models import Models
from serve_app.errors import ModelError
from serve_app.messages import PoolState
from serve_app.starter.captions import Concept
from serve_app.starter.vocabulary import Vocabulary
from tests.api.harness import (
    ICON,
    MODELS,
    ORDER,
    SWORDS,
    LocalTransport,
    assert_problem,
    get,
    make_app,
    ordered,
    serving,
)


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


async def test_what_a_model_was_taught_is_searched_a_page_at_a_time(
    client: httpx.AsyncClient,
) -> None:
    """Whole names first. The list of models says who has a vocabulary."""
    tiny, other = (await get(client, "/v1/models"))["results"]
    assert tiny["vocabulary_url"] is None
    path = other["vocabulary_url"]
    page = await get(client, path)
    assert (page["total"], page["next"]) == (3, None)
    assert page["results"][0] == {"name": "dagger", "other_names": ["sword"]}
    page = await get(client, f"{path}?q=sword&limit=1")
    assert [page["total"], *(thing["name"] for thing in page["results"])] == [2, "dagger"]
    page = await get(client, page["next"])
    assert ([thing["name"] for thing in page["results"]], page["next"]) == (
        ["crossed swords"],
        None,
    )
    assert (await get(client, f"{path}?q=quark"))["results"] == []


async def test_all_that_a_model_was_taught_is_found(transport: LocalTransport) -> None:
    things = tuple(Concept((f"thing {number}",)) for number in range(130))
    many = Vocabulary(things=things, describing=frozenset(), neighbours={})
    async with serving(make_app(transport, vocabularies={"tiny": many})) as client:
        path, found = "/v1/models/tiny/vocabulary", list[str]()
        while path:
            page = await get(client, path)
            assert page["total"] == 130
            found += [thing["name"] for thing in page["results"]]
            path = page["next"]
    assert found == [thing.names[0] for thing in things]


async def test_a_model_without_a_vocabulary_has_no_page_of_it(client: httpx.AsyncClient) -> None:
    """Nor has one that is unknown; who has one is said. Wrong pages are told by their field."""
    for name in ("tiny", "nobody", "a%20b"):
        response = await client.get(f"/v1/models/{name}/vocabulary")
        assert_problem(response, 404, "not_found")
        assert "Models with one: other." in response.json()["detail"]
    for query in ("limit=0", "limit=1001", "after=-1", "q=" + "x" * 101):
        response = await client.get(f"/v1/models/other/vocabulary?{query}")
        assert_problem(response, 422, "invalid_field")


async def test_an_unknown_noun_is_told_before_it_is_drawn(transport: LocalTransport) -> None:
    """By a dry run, in the words of the job's own notes."""
    async with serving(make_app(transport, vocabularies={"tiny": SWORDS})) as client:
        order = ORDER | {"prompt": "an icy katana", "dry_run": True}
        estimate = (await client.post("/v1/generate", json=order)).json()
        assert "It draws the nearest it knows: dagger." in estimate["notes"][0]
        assert "dagger" in estimate["resolved"]["prompt"]


def state(pool: str, model: str, is_now: Any, reason: str | None = None) -> PoolState:
    return PoolState(pool=pool, model=model, state=is_now, reason=reason)


async def test_several_models_are_served_and_say_how_they_are(transport: LocalTransport) -> None:
    """Orders name one; or their style says it, if the active one does not draw it."""
    transport.states = [
        state("a", "tiny", "resident"),
        state("b", "other", "failed", "no node offers 2 GPU"),
    ]
    async with serving(make_app(transport, served=["tiny", "other"])) as client:
        tiny, other = (await get(client, "/v1/models"))["results"]
        assert (tiny["active"], tiny["served"], tiny["state"], tiny["reason"]) == (
            *(True, True, "resident", None),
        )
        assert (other["active"], other["served"], other["state"]) == (False, True, "failed")
        assert (other["reason"], other["revision"]) == ("no node offers 2 GPU", "other-weights")
        named = await ordered(client, model="other")
        assert named["request"]["model"] == "other"
        assert named["resolved"]["model_revision"] == "other-weights"
        by_style = await ordered(client, style_id="portrait")
        assert by_style["request"]["model"] == "other"
        assert (await ordered(client))["request"]["model"] == "tiny"
        styles = {s["style_id"]: s for s in (await get(client, "/v1/styles"))["results"]}
        assert styles["portrait"]["drawable"]
        body = ORDER | {"style_id": "portrait", "model": "tiny"}
        refused = assert_problem(await client.post("/v1/generate", json=body), 422, "invalid_field")
        assert refused["errors"][0]["detail"].endswith("Order it with `model: other`.")
        dry = {"dry_run": True}
        told = (await client.post("/v1/generate", json=ORDER | dry)).json()
        assert (told["possible"], told["reason"]) == (True, None)
        told = (await client.post("/v1/generate", json=ORDER | dry | {"model": "other"})).json()
        assert (told["possible"], told["reason"]) == (False, "no node offers 2 GPU")
        transport.down = True
        assert {m["state"] for m in (await get(client, "/v1/models"))["results"]} == {None}


async def test_a_model_that_is_not_served_says_what_to_change(client: httpx.AsyncClient) -> None:
    reply = await client.post("/v1/generate", json=ORDER | {"model": "other"})
    (error,) = assert_problem(reply, 422, "invalid_field")["errors"]
    assert (error["field"], error["allowed"]) == ("model", ["tiny"])
    assert "`model: other` under `args:` of its Serve config, or adds a pool" in error["detail"]


async def test_weights_that_are_gone_hold_up_their_own_orders_only(
    transport: LocalTransport,
) -> None:
    """The directory was removed while it was served, and this ingress began after that. It says no path."""
    there = {"tiny"}

    def revision_of(name: str) -> str:
        if name not in there:
            raise ModelError(f"model {name!r}: /srv/{name} is not a directory")
        return f"{name}-weights"

    app = make_app(transport, served=["tiny", "other"], revision_of=revision_of)
    async with serving(app) as client:
        assert [m["revision"] for m in (await get(client, "/v1/models"))["results"]] == [
            *("tiny-weights", None),
        ]
        await ordered(client)
        reply = await client.post("/v1/generate", json=ORDER | {"model": "other"})
        problem = assert_problem(reply, 503, "unavailable")
        assert problem["detail"] == "The weights of other cannot be read on this server now."
        there.add("other")
        assert (await ordered(client, model="other"))["request"]["model"] == "other"


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
