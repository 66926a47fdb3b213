"""POST /v1/jobs/{id}/reproduce: made again, and compared pixel by pixel with what was published."""

from __future__ import annotations

import copy
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.api.harness import (
    LocalTransport,
    assert_problem,
    get,
    keys_of,
    make_app,
    ordered,
    serving,
)
from tests.api.studio import draw, drawn, finished, sprite, worked
from tests.jobs.harness import World

EFFECTS: list[dict[str, Any]] = [{"op": "palette", "colors": 4}]


def opaque() -> Image.Image:
    """Noise, another one each time."""
    return sprite(rim=0).convert("RGB")


async def again(
    world: World,
    transport: LocalTransport,
    client: httpx.AsyncClient,
    job_id: str,
    *pictures: Image.Image,
    **made_by: Any,
) -> dict[str, Any]:
    """The job that makes this one's images again; without pictures it needs no renderer."""
    reply = await client.post(f"/v1/jobs/{job_id}/reproduce")
    assert reply.status_code == 202, reply.text
    new = reply.json()["job_id"]
    if pictures:
        await finished(world, new, *pictures, **made_by)
    else:
        await worked(world, new)
    await transport.caught_up()
    job = await get(client, f"/v1/jobs/{new}")
    assert job["status"] == "SUCCESS", job["error"]
    assert job["reproduces"] == job_id
    return job


@pytest.mark.parametrize("effects", [[], EFFECTS])
async def test_the_same_pixels_are_exact(
    world: World,
    transport: LocalTransport,
    client: httpx.AsyncClient,
    effects: list[dict[str, Any]],
) -> None:
    """The drawn picture and the finished one. Order and seeds are the old ones, tags are not."""
    order = {"n": 2, "seed": 5, "tags": ["t"], "effects": effects}
    job_id = (await ordered(client, **order))["job_id"]
    pictures = [opaque(), opaque()]
    if effects:
        await finished(world, job_id, *pictures)
    else:
        await draw(world, job_id, pictures)
    job = await again(world, transport, client, job_id, *pictures)
    assert [image["seed"] for image in job["images"]] == [5, 6]
    assert job["tags"] == []
    assert job["request"]["effects"] == effects
    for index, image in enumerate(job["images"]):
        found = image["reproduction"]
        assert (found["match"], found["job_id"], found["index"]) == ("exact", job_id, index)
        roles = ["original", "result"] if effects else ["result"]
        assert [file["role"] for file in found["files"]] == roles
        assert found["reasons"] == []
    old = await get(client, f"/v1/jobs/{job_id}")
    prints = [[image["pixels_sha256"] for image in found["images"]] for found in (old, job)]
    assert prints[0] == prints[1]
    assert len(set(prints[0])) == 2


async def test_what_differs_is_measured_and_comes_with_what_changed(
    world: World, transport: LocalTransport, client: httpx.AsyncClient
) -> None:
    picture = opaque()
    job_id = (await ordered(client, effects=EFFECTS))["job_id"]
    await finished(world, job_id, picture, device="cpu", weights="old")
    other = picture.copy()
    red, green, blue = other.getpixel((3, 4))  # pyright: ignore[reportGeneralTypeIssues]
    other.putpixel((3, 4), (red ^ 2, green, blue))
    job = await again(world, transport, client, job_id, other, device="H100", weights="new")
    found = job["images"][0]["reproduction"]
    assert found["match"] == "differs"
    assert found["files"][0] == {
        "role": "original",
        "match": "differs",
        "max_difference": 2,
        "differing": round(1 / 120, 6),
        "where": {"x": 3, "y": 4, "width": 1, "height": 1},
    }
    assert found["reasons"] == [
        "weights_changed: old then, new now",
        "other_device: cpu then, H100 now",
    ]


async def test_a_file_that_is_gone_or_changed_is_unavailable(
    world: World, transport: LocalTransport, client: httpx.AsyncClient
) -> None:
    """And the new job succeeds all the same. By the hash that was published, equal is seen without it."""
    job_id = (await ordered(client, n=4, seed=5))["job_id"]
    pictures = [opaque() for _ in range(4)]
    await draw(world, job_id, pictures)
    held = await world.registry.get(job_id)
    assert held is not None
    assert "images" in held
    job = copy.deepcopy(held["images"])
    for image in job[:2]:  # as they were before hashes of pixels were noted
        del image["pixels_sha256"], image["dhash"]
    old = (await ordered(client, n=4, seed=5))["job_id"]
    await world.started(old)
    assert await world.finish(old, 1, job)
    paths = [world.files.root / image["path"] for image in job]
    for index in (0, 2, 3):
        paths[index].unlink()
    paths[1].write_bytes(paths[1].read_bytes() + b"!")
    made = await again(world, transport, client, old, *pictures[:3], opaque())
    found = [image["reproduction"] for image in made["images"]]
    assert [one["match"] for one in found] == ["unavailable", "unavailable", "exact", "differs"]
    assert [one["reasons"] for one in found] == [
        ["file_gone: A picture that this job works on is not there any more"],
        ["file_gone: A picture that this job works on is not what it was."],
        [],
        ["file_gone: A picture that this job works on is not there any more"],
    ]


async def test_sheets_and_derived_pictures_are_made_again_without_a_renderer(
    world: World, transport: LocalTransport, client: httpx.AsyncClient
) -> None:
    job_id = await drawn(world, client, sprite(seed=1))
    derive = await client.post(f"/v1/jobs/{job_id}/derive", json={"effects": [{"op": "flip"}]})
    sheet = await client.post("/v1/sheets", json={"items": [{"job_id": job_id}]})
    for reply in (derive, sheet):
        made = reply.json()["job_id"]
        await worked(world, made)
        job = await again(world, transport, client, made)
        assert job["kind"] == reply.json()["kind"]
        assert job["images"][0]["reproduction"]["match"] == "exact"


async def test_only_a_job_with_images_can_be_reproduced(
    world: World, client: httpx.AsyncClient
) -> None:
    running = (await ordered(client))["job_id"]
    await world.started(running)
    url = f"/v1/jobs/{running}/reproduce"
    assert_problem(await client.post(url), 409, "not_final")
    assert await world.fail(running, 1)
    assert_problem(await client.post(url), 409, "no_images")
    await client.delete(f"/v1/jobs/{running}")
    assert_problem(await client.post(url), 410, "deleted")
    nowhere = "019aab42-7c1e-7d30-9f6a-2b54c1f0a3df"
    assert_problem(await client.post(f"/v1/jobs/{nowhere}/reproduce"), 404, "not_found")


async def test_a_job_of_another_owner_is_not_found_and_a_key_makes_one_job(
    transport: LocalTransport, world: World
) -> None:
    path = world.directory / "keys"
    ann, bob = keys_of(path, "ann", "bob")
    async with serving(make_app(transport, api_keys_file=path)) as client:
        client.headers.update(ann)
        job_id = await drawn(world, client, opaque())
        answer = await client.post(f"/v1/jobs/{job_id}/reproduce", headers=bob)
        assert_problem(answer, 404, "not_found")
        said = {"Idempotency-Key": "k"}
        url = f"/v1/jobs/{job_id}/reproduce"
        first, second = [(await client.post(url, headers=said)).json()["job_id"] for _ in "ab"]
        assert first == second
