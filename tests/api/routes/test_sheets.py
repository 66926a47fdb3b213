"""POST /v1/sheets: pictures of finished jobs become pages and files that engines read, or a clear refusal."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from serve_app.api.sheets import BODY_BYTES
from serve_app.artifacts.inspection.inspect import inspect
from serve_app.delivery.sheet import MAX_SPRITES
from tests.api.harness import (
    LocalTransport,
    assert_problem,
    get,
    keys_of,
    make_app,
    ordered,
    serving,
)
from tests.api.studio import drawn, sprite, worked
from tests.factories import JOB_ID
from tests.jobs.harness import World


async def packed(
    world: World, transport: LocalTransport, client: httpx.AsyncClient, **body: Any
) -> dict[str, Any]:
    """The job object of a finished sheet."""
    response = await client.post("/v1/sheets", json=body)
    assert response.status_code == 202, response.text
    assert response.json()["kind"] == "sheet"
    await worked(world, response.json()["job_id"])
    await transport.caught_up()
    return await get(client, response.headers["location"])


async def fetched(client: httpx.AsyncClient, url: str) -> bytes:
    response = await client.get(url)
    assert response.status_code == 200, url
    return response.content


def role(job: dict[str, Any], name: str, page: int = 0) -> dict[str, Any]:
    (file,) = [file for file in job["images"][page]["files"] if file["role"] == name]
    return file


async def test_every_frame_of_the_archive_is_its_source(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """Cut out by what the atlas says, and put back where it was trimmed. Names are those of the prompts."""
    sources = [sprite((20, 14), seed=n) for n in range(3)]
    one = await drawn(world, client, *sources[:2], prompt="A red Potion!", seed=7)
    two = await drawn(world, client, sources[2], prompt="Schild, blau", seed=7)
    job = await packed(
        world,
        transport,
        client,
        items=[{"job_id": one}, {"job_id": two, "index": 0, "name": "shield"}],
        name="icons",
        formats=["texturepacker_hash", "godot", "unity", "tiled", "css", "aseprite"],
        clips=[{"name": "spin", "frames": ["a_red_potion_7", "a_red_potion_8"], "fps": 8}],
    )
    assert job["status"] == "SUCCESS", job["error"]
    file = role(job, "archive")
    assert file["content_type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(await fetched(client, file["url"]))) as archive:
        atlas = json.loads(archive.read("icons.json"))
        names = set(archive.namelist())
        page = Image.open(io.BytesIO(archive.read("icons.png"))).convert("RGBA")
        manifest = archive.read("manifest.json")
    assert {"icons.frames.tres", "icons.png.meta", "icons.tsx", "icons.css"} <= names
    assert atlas["animations"] == {"spin": ["a_red_potion_7", "a_red_potion_8"]}
    for source, name in zip(sources, ["a_red_potion_7", "a_red_potion_8", "shield"], strict=True):
        frame = atlas["frames"][name]
        at, trim = frame["frame"], frame["spriteSourceSize"]
        cut = page.crop((at["x"], at["y"], at["x"] + at["w"], at["y"] + at["h"]))
        whole = Image.new("RGBA", source.size)
        whole.paste(cut, (trim["x"], trim["y"]))
        seen = np.asarray(source)[..., 3:] > 0
        assert np.array_equal(np.asarray(whole), np.asarray(source) * seen)
    assert await fetched(client, role(job, "manifest")["url"]) == manifest
    assert role(job, "atlas")["name"] == "icons.json"
    listed = {f["path"]: f for f in json.loads(manifest)["files"]}
    assert listed["icons.png"]["sha256"] == role(job, "page")["sha256"]


async def test_the_job_says_what_was_ordered_and_the_page_what_it_is_made_of(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """The same body orders the same bytes again."""
    one = await drawn(world, client, sprite(), prompt="a key", seed=1)
    body: dict[str, Any] = {"items": [{"job_id": one}], "padding": 3, "tags": ["ui"]}
    job = await packed(world, transport, client, **body)
    assert job["request"] == {"items": [{"job_id": one}], "padding": 3, "tags": ["ui"]}
    assert (job["resolved"], job["tags"]) == (None, ["ui"])
    page = await fetched(client, job["images"][0]["url"])
    found = inspect(page, 2**20)
    assert found.recipe is not None
    assert found.ai_made
    assert [s["job_id"] for s in found.recipe.record["sources"]] == [one]
    again = await packed(world, transport, client, **job["request"])
    assert again["images"][0]["sha256"] == job["images"][0]["sha256"]
    assert role(again, "archive")["sha256"] == role(job, "archive")["sha256"]


async def test_several_pages_where_one_does_not_hold_all(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    one = await drawn(
        world, client, *(sprite((40, 40), 0, n) for n in range(4)), prompt="a", seed=1
    )
    job = await packed(world, transport, client, items=[{"job_id": one}], max_size=64)
    assert [image["index"] for image in job["images"]] == [0, 1, 2, 3]
    assert len(job["result_urls"]) == 4
    assert {role(job, "page", n)["name"] for n in range(4)} == {f"sheet_{n}.png" for n in range(4)}


async def test_a_tag_packs_what_it_marks_the_oldest_first(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """Not what failed, nor other tags, nor sheets."""
    for n, tags in enumerate((["ui"], ["other"], ["ui", "x"])):
        await drawn(world, client, sprite(seed=n), prompt=f"item {n}", seed=5, tags=tags)
    failed = (await ordered(client, tags=["ui"]))["job_id"]
    await world.started(failed)
    await world.fail(failed, 1)
    job = await packed(world, transport, client, tag="ui", tags=["ui"])
    manifest = json.loads(await fetched(client, role(job, "manifest")["url"]))
    assert [frame["name"] for frame in manifest["frames"]] == ["item_0_5", "item_2_5"]
    again = await packed(world, transport, client, tag="ui")
    manifest = json.loads(await fetched(client, role(again, "manifest")["url"]))
    assert len(manifest["frames"]) == 2


async def test_equal_prompts_and_seeds_get_names_of_their_own(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    items = [
        {"job_id": await drawn(world, client, sprite(seed=n), prompt="a ../KEY: 🗝️ " * 30, seed=3)}
        for n in range(3)
    ]
    job = await packed(world, transport, client, items=items)
    manifest = json.loads(await fetched(client, role(job, "manifest")["url"]))
    first, second, third = (frame["name"] for frame in manifest["frames"])
    assert first.startswith("a_key_a_key")
    assert len(first) < 60
    assert (second, third) == (f"{first}_2", f"{first}_3")


# ---- what is refused ----


async def refused(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    """The first wrong field."""
    response = await client.post("/v1/sheets", json=body)
    return assert_problem(response, 422, "invalid_field")["errors"][0]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "items"),
        ({"items": []}, "items"),
        ({"items": None}, "items"),
        ({"items": [{"job_id": JOB_ID}], "tag": "ui"}, "items"),
        ({"items": [{"job_id": JOB_ID}] * (MAX_SPRITES + 1)}, "items"),
        ({"items": [{"job_id": JOB_ID}] * 5000}, "items"),
        ({"items": [{"index": 0}]}, "items.0.job_id"),
        ({"items": [{"job_id": JOB_ID, "file": "/etc/passwd"}]}, "items.0.file"),
        ({"items": [{"job_id": JOB_ID, "index": -1}]}, "items.0.index"),
        ({"items": [{"job_id": JOB_ID, "index": "0"}]}, "items.0.index"),
        *(
            ({"items": [{"job_id": JOB_ID, "name": name}]}, "items.0.name")
            for name in ("../key", "a:b", "k" * 300, "🗝️", "", "con", "a/b", ".hidden", "a b")
        ),
        ({"tag": "a b"}, "tag"),
        ({"tag": "nobody-has-it"}, "tag"),
        ({"tag": "ui", "name": "../x"}, "name"),
        ({"tag": "ui", "formats": []}, "formats"),
        ({"tag": "ui", "formats": ["png"]}, "formats.0"),
        ({"tag": "ui", "formats": ["css", "css"]}, "formats"),
        ({"tag": "ui", "max_size": 100_000}, "max_size"),
        ({"tag": "ui", "padding": -1}, "padding"),
        ({"tag": "ui", "extrude": 17}, "extrude"),
        ({"tag": "ui", "padding": True}, "padding"),
        ({"tag": "ui", "power_of_two": "yes"}, "power_of_two"),
        ({"tag": "ui", "clips": [{"name": "a", "frames": [], "fps": 5}]}, "clips.0.frames"),
        ({"tag": "ui", "clips": [{"name": "a", "frames": ["b"], "fps": 0}]}, "clips.0.fps"),
        ({"tag": "ui", "colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_field_is_named(
    client: httpx.AsyncClient, world: World, body: dict[str, Any], field: str
) -> None:
    error = await refused(client, **body)
    assert error["field"] == field
    assert error["pointer"] == "#/" + field.replace(".", "/")
    assert world.registry.stats()["live"] == 0


async def test_an_unknown_field_names_those_there_are(client: httpx.AsyncClient) -> None:
    assert "padding" in (await refused(client, tag="ui", colour="red"))["allowed"]
    error = await refused(client, items=[{"job_id": JOB_ID, "x": 1}])
    assert error["allowed"] == ["index", "job_id", "name"]


async def test_jobs_without_pictures_are_named(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """Unknown, no id at all, waiting, failed, deleted, a sheet itself, and an image too many."""
    good = await drawn(world, client, sprite(), prompt="a", seed=1)
    sheet = await packed(world, transport, client, items=[{"job_id": good}])
    waiting = (await ordered(client))["job_id"]
    failed = (await ordered(client))["job_id"]
    await world.started(failed)
    await world.fail(failed, 1)
    deleted = await drawn(world, client, sprite(), prompt="b", seed=1)
    assert (await client.delete(f"/v1/jobs/{deleted}")).status_code == 204
    await transport.caught_up()
    for job_id, why in {
        JOB_ID: "no job of this id",
        "../x": "UUID",
        waiting: "only one that succeeded",
        failed: "is FAILURE",
        deleted: "was deleted",
        sheet["job_id"]: "is a sheet itself",
    }.items():
        error = await refused(client, items=[{"job_id": good}, {"job_id": job_id}])
        assert error["field"] == "items.1.job_id"
        assert why in error["detail"]
    error = await refused(client, items=[{"job_id": good, "index": 1}])
    assert (error["field"], error["allowed"]) == ("items.0.index", [0])


async def test_a_foreign_job_is_as_one_that_is_not_there(
    world: World, transport: LocalTransport, tmp_path: Path
) -> None:
    ann, bob = keys_of(tmp_path / "keys", "ann", "bob")
    app = make_app(transport, api_keys_file=tmp_path / "keys")
    async with serving(app) as client:
        client.headers.update(ann)
        job_id = await drawn(world, client, sprite(), prompt="a", seed=1, tags=["ui"])
        await transport.caught_up()
        client.headers.update(bob)
        foreign = await refused(client, items=[{"job_id": job_id}])
        unknown = await refused(client, items=[{"job_id": JOB_ID}])
        assert foreign == unknown
        assert (await refused(client, tag="ui"))["field"] == "tag"


async def test_two_frames_of_one_name_are_refused(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """Also where only case differs: some systems hold that for one file."""
    one = await drawn(world, client, sprite(), prompt="a", seed=1)
    items = [{"job_id": one, "name": "key"}, {"job_id": one, "name": "Key"}]
    error = await refused(client, items=items)
    assert error["field"] == "items.1.name"
    error = await refused(
        client, items=[{"job_id": one}], clips=[{"name": "x", "frames": ["nope"], "fps": 5}]
    )
    assert (error["field"], error["allowed"]) == ("clips.0.frames.0", ["a_1"])


async def test_a_picture_larger_than_the_page_is_refused_as_soon_as_it_is_known(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    """At once if nothing can be trimmed; else when its pixels are seen."""
    opaque = await drawn(world, client, Image.new("RGB", (40, 8)), prompt="a", seed=1)
    error = await refused(client, items=[{"job_id": opaque}], max_size=32)
    assert error["field"] == "items.0"
    assert "40x8" in error["detail"]
    wide = await drawn(world, client, sprite((40, 8), 1), prompt="b", seed=1)
    job = await packed(world, transport, client, items=[{"job_id": wide}], max_size=32)
    assert (job["status"], job["error"]["code"]) == ("FAILURE", "sheet_failed")
    assert "38x6" in job["error"]["detail"]
    trimmed = await drawn(world, client, sprite((40, 8), 3), prompt="c", seed=1)
    job = await packed(world, transport, client, items=[{"job_id": trimmed}], max_size=34)
    assert job["status"] == "SUCCESS"


async def test_a_picture_that_went_meanwhile_fails_the_job_and_leaves_nothing(
    client: httpx.AsyncClient, world: World, transport: LocalTransport
) -> None:
    one = await drawn(world, client, sprite(), prompt="a", seed=1)
    two = await drawn(world, client, sprite(), prompt="b", seed=1)
    (picture,) = world.files.root.rglob(f"*{two}*")
    picture.unlink()
    job = await packed(world, transport, client, items=[{"job_id": one}, {"job_id": two}])
    assert (job["status"], job["error"]["code"]) == ("FAILURE", "source_missing")
    assert [p.name for p in world.files.root.rglob("*") if job["job_id"] in p.name] == []


async def test_a_body_of_two_thousand_names_fits_and_a_larger_one_is_413(
    client: httpx.AsyncClient,
) -> None:
    items = [{"job_id": JOB_ID, "name": f"{'n' * 90}_{i}"} for i in range(MAX_SPRITES)]
    assert (await refused(client, items=items))["field"] == "items.0.job_id"
    body = b'{"tag": "' + b"x" * BODY_BYTES + b'"}'
    headers = {"content-type": "application/json"}
    response = await client.post("/v1/sheets", content=body, headers=headers)
    assert_problem(response, 413, "body_too_large")


async def test_a_repeated_order_is_one_sheet(client: httpx.AsyncClient, world: World) -> None:
    one = await drawn(world, client, sprite(), prompt="a", seed=1)
    headers = {"Idempotency-Key": "k"}
    body: dict[str, Any] = {"items": [{"job_id": one}]}
    first = await client.post("/v1/sheets", json=body, headers=headers)
    again = await client.post("/v1/sheets", json=body, headers=headers)
    assert first.json()["job_id"] == again.json()["job_id"]
    assert again.headers["idempotency-replayed"] == "true"
    other = await client.post("/v1/sheets", json=body | {"padding": 1}, headers=headers)
    assert_problem(other, 422, "idempotency_key_reuse")
