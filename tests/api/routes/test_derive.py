"""POST /v1/jobs/{id}/derive, and orders with effects: what is refused, and what the registry gets."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pytest
from PIL import Image

from serve_app.messages import StoredFile
from tests.api.harness import (
    ORDER,
    LocalTransport,
    assert_problem,
    get,
    keys_of,
    limit,
    make_app,
    ordered,
    serving,
)
from tests.factories import image_file
from tests.jobs.harness import World

BODY: dict[str, Any] = {"effects": [{"op": "cutout"}, {"op": "trim"}]}


async def drawn(client: httpx.AsyncClient, world: World, **body: Any) -> str:
    """The id of a job of two images that has succeeded."""
    job_id = (await ordered(client, n=2, seed=5, tags=["t"], **body))["job_id"]
    await world.started(job_id)
    images = [
        image_file(path=f"2026-11-22/{job_id}_{i}.png", index=i, seed=5 + i, sha256=f"{i}" * 64)
        for i in range(2)
    ]
    assert await world.finish(job_id, 1, images)
    return job_id


async def test_a_derived_job_names_its_parent_and_needs_no_renderer(
    transport: LocalTransport, world: World, client: httpx.AsyncClient
) -> None:
    parent = await drawn(client, world)
    made = await client.post(f"/v1/jobs/{parent}/derive", json=BODY | {"indices": [1]})
    assert made.status_code == 202, made.text
    job = made.json()
    assert (job["kind"], job["derived_from"], job["tags"]) == ("derive", parent, ["t"])
    assert made.headers["location"].endswith(job["job_id"])
    assert job["request"]["effects"] == BODY["effects"]
    assert job["resolved"] is None
    ticket = await world.launched(job["job_id"])
    assert (ticket["summary"]["pool"], ticket["summary"]["n"]) == ("cpu", 1)
    (source,) = ticket["params"]["sources"]
    assert (source["job_id"], source["index"], source["seed"]) == (parent, 1, 6)
    assert source["sha256"] == "1" * 64
    asset = StoredFile(
        role="asset", path="d/x-asset.png", content_type="image/png", size_bytes=1, sha256="2" * 64
    )
    await world.started(job["job_id"])
    image = image_file(path="d/x-asset.png", original="d/o.png", files=[asset], sha256="2" * 64)
    assert await world.finish(job["job_id"], 1, [image])
    await transport.caught_up()
    shown = await get(client, f"/v1/jobs/{job['job_id']}")
    assert shown["result_urls"] == ["/output/d/x-asset.png"]
    assert shown["images"][0]["original_url"] == "/output/d/o.png"
    again = await client.post(f"/v1/jobs/{job['job_id']}/retry")
    assert again.status_code == 202
    assert (again.json()["kind"], again.json()["retry_of"]) == ("derive", job["job_id"])
    chained = await client.post(f"/v1/jobs/{job['job_id']}/derive", json=BODY)
    (source,) = (await world.launched(chained.json()["job_id"]))["params"]["sources"]
    assert source["path"] == "d/x-asset.png"  # of a derived picture what it became


async def test_the_original_is_finished_again_and_not_its_asset(
    world: World, client: httpx.AsyncClient
) -> None:
    job_id = (await ordered(client, effects=BODY["effects"]))["job_id"]
    await world.started(job_id)
    ticket = await world.launched(job_id)
    assert ticket["summary"].get("extra_files")
    files = [
        StoredFile(role=r, path=f"d/{r}.png", content_type="image/png", size_bytes=1, sha256=r)
        for r in ("original", "asset")
    ]
    image = image_file(path="d/asset.png", original="d/original.png", files=files)
    assert await world.finish(job_id, 1, [image])
    made = (await client.post(f"/v1/jobs/{job_id}/derive", json=BODY)).json()
    (source,) = (await world.launched(made["job_id"]))["params"]["sources"]
    assert (source["path"], source["sha256"]) == ("d/original.png", "original")


async def test_only_a_job_with_images_can_be_derived(
    world: World, client: httpx.AsyncClient
) -> None:
    running = (await ordered(client))["job_id"]
    await world.started(running)
    url = f"/v1/jobs/{running}/derive"
    assert_problem(await client.post(url, json=BODY), 409, "not_final")
    assert await world.fail(running, 1)
    assert_problem(await client.post(url, json=BODY), 409, "no_images")
    await client.delete(f"/v1/jobs/{running}")
    assert_problem(await client.post(url, json=BODY), 410, "deleted")
    nowhere = "019aab42-7c1e-7d30-9f6a-2b54c1f0a3df"
    assert_problem(await client.post(f"/v1/jobs/{nowhere}/derive", json=BODY), 404, "not_found")


async def test_an_expired_job_can_neither_be_derived_nor_packed(
    transport: LocalTransport, world: World, client: httpx.AsyncClient
) -> None:
    job_id = await drawn(client, world)
    limit(world, retention_s=0)
    await transport.restart()
    await world.becomes(job_id, "expired")
    await transport.caught_up()
    answer = await client.post(f"/v1/jobs/{job_id}/derive", json=BODY)
    assert_problem(answer, 410, "expired")
    answer = await client.post("/v1/sheets", json={"items": [{"job_id": job_id}]})
    (error,) = assert_problem(answer, 422, "invalid_field")["errors"]
    assert error["field"] == "items.0.job_id"
    assert "time is over" in error["detail"]


async def test_a_job_of_another_owner_is_not_found(transport: LocalTransport, world: World) -> None:
    path = world.directory / "keys"
    ann, bob = keys_of(path, "ann", "bob")
    async with serving(make_app(transport, api_keys_file=path)) as client:
        client.headers.update(ann)
        job_id = await drawn(client, world)
        answer = await client.post(f"/v1/jobs/{job_id}/derive", json=BODY, headers=bob)
        assert_problem(answer, 404, "not_found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"effects": []}, "effects"),
        ({}, "effects"),
        ({"effects": [{"op": "explode"}]}, "effects.0.op"),
        ({"effects": [{"op": "flip"}] * 17}, "effects"),
        ({**BODY, "indices": [2]}, "indices.0"),
        ({**BODY, "indices": [0, 0]}, "indices.1"),
        ({**BODY, "indices": []}, "indices"),
        ({**BODY, "format": "gif"}, "format"),
        ({**BODY, "seed": 1}, "seed"),
    ],
)
async def test_a_wrong_body_names_the_field(
    world: World, client: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    job_id = await drawn(client, world)
    answer = await client.post(f"/v1/jobs/{job_id}/derive", json=body)
    problem = assert_problem(answer, 422, "invalid_field")
    assert [error["field"] for error in problem["errors"]] == [field]
    assert problem["errors"][0].get("allowed") or field in ("seed", "effects", "indices")


async def test_an_idempotency_key_makes_one_derived_job(
    world: World, client: httpx.AsyncClient
) -> None:
    job_id = await drawn(client, world)
    said = {"Idempotency-Key": "k"}
    url = f"/v1/jobs/{job_id}/derive"
    first, second = [await client.post(url, json=BODY, headers=said) for _ in "ab"]
    assert first.json()["job_id"] == second.json()["job_id"]
    other = await client.post(url, json={"effects": [{"op": "flip"}]}, headers=said)
    assert_problem(other, 422, "idempotency_key_reuse")


async def test_a_key_finds_its_job_when_it_could_not_be_made_any_more(
    world: World, client: httpx.AsyncClient
) -> None:
    """Who was not answered sends the order again, whatever has been deleted meanwhile."""
    url, upload = f"/v1/jobs/{await drawn(client, world)}", await uploaded(client)
    orders = [
        (f"{url}/derive", BODY),
        (f"{url}/retry", None),
        ("/v1/generate", ORDER | {"init_image": {"upload_id": upload}}),
    ]
    made = [
        await client.post(to, json=body, headers={"Idempotency-Key": to}) for to, body in orders
    ]
    assert [reply.status_code for reply in made] == [202] * 3
    for gone in (url, f"/v1/uploads/{upload}"):
        assert (await client.delete(gone)).status_code == 204
    for reply, (to, body) in zip(made, orders, strict=True):
        again = await client.post(to, json=body, headers={"Idempotency-Key": to})
        assert again.status_code == 202, again.text
        assert again.json()["job_id"] == reply.json()["job_id"]
        assert again.headers["idempotency-replayed"] == "true"
        new = await client.post(to, json=body, headers={"Idempotency-Key": "another"})
        assert new.status_code in (410, 422)
        other = await client.post(
            f"{url}/derive",
            json={"effects": [{"op": "flip"}]},
            headers={"Idempotency-Key": to},
        )
        assert_problem(other, 422, "idempotency_key_reuse")


async def uploaded(client: httpx.AsyncClient) -> str:
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    headers = {"content-type": "image/png"}
    sent = await client.post("/v1/uploads", content=file.getvalue(), headers=headers)
    return sent.json()["upload_id"]


# ---- orders with effects ----


async def test_an_order_is_shown_with_all_that_is_done_with_its_pictures(
    world: World, client: httpx.AsyncClient
) -> None:
    """And orders the same again."""
    asked: dict[str, Any] = {
        "effects": [{"op": "pixelate", "width": 16}],
        "require": {"coverage": {"min": 0.1}},
        "redraws": 2,
        "on_fail": "fail",
        "format": "webp",
    }
    job = await ordered(client, **asked)
    assert {name: job["request"][name] for name in asked} == {
        **asked,
        "require": {"coverage": {"min": 0.1}},
    }
    ticket = await world.launched(job["job_id"])
    again = await ordered(client, **job["request"])
    assert (await world.launched(again["job_id"]))["params"] == ticket["params"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"effects": [{"op": "trim", "pad": 1}]}, "effects.0.trim.pad"),
        ({"effects": {"op": "trim"}}, "effects"),
        ({"require": {"beauty": 1}}, "require.beauty"),
        ({"redraws": 2}, "redraws"),
        ({"redraws": 9, "require": {"not_blank": True}}, "redraws"),
        ({"on_fail": "cry"}, "on_fail"),
        ({"format": "gif"}, "format"),
        ({"seed": 2**32 - 2, "redraws": 2, "require": {"not_blank": True}}, "seed"),
    ],
)
async def test_a_wrong_wish_names_the_field(
    client: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    answer = await client.post("/v1/generate", json={"prompt": "a sword"} | body)
    problem = assert_problem(answer, 422, "invalid_field")
    assert [error["field"] for error in problem["errors"]] == [field]
    assert problem["errors"][0]["allowed"]


async def test_effects_and_palettes_are_listed(client: httpx.AsyncClient) -> None:
    effects = (await get(client, "/v1/effects"))["results"]
    assert {"cutout", "pixelate", "palette", "seam"} <= {entry["op"] for entry in effects}
    for entry in effects:
        assert entry["title"].endswith(".")
        assert entry["schema"]["properties"]["op"]["const"] == entry["op"]
        assert entry["example"]["op"] == entry["op"]
    palettes = (await get(client, "/v1/palettes"))["results"]
    (gameboy,) = [palette for palette in palettes if palette["name"] == "gameboy_4"]
    assert len(gameboy["colors"]) == 4
