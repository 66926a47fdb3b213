"""Orders that start from a picture: what it is found to be, how long it is kept, and what is refused."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from PIL import Image

from serve_app.catalog.models import ControlSpec, Models, ReferenceSpec
from serve_app.catalog.styles import Styles
from serve_app.params import CONTROL_WORK
from tests.api.harness import (
    ICON,
    MODEL,
    LocalTransport,
    assert_problem,
    get,
    keys_of,
    make_app,
    ordered,
    serving,
)
from tests.api.studio import drawn, output_of, png, sprite
from tests.factories import JOB_ID
from tests.jobs.harness import World

PNG = {"content-type": "image/png"}


async def uploaded(
    client: httpx.AsyncClient, shade: int = 0, size: tuple[int, int] = (64, 64)
) -> str:
    picture = png(Image.new("RGB", size, (shade, 0, 0)))
    response = await client.post("/v1/uploads", content=picture, headers=PNG)
    assert response.status_code in (200, 201), response.text
    return response.json()["upload_id"]


async def params_of(world: World, job_id: str) -> dict[str, Any]:
    return (await world.launched(job_id))["params"]


async def test_an_order_names_an_upload(client: httpx.AsyncClient, world: World) -> None:
    """It is pinned by its hash, and shown as it was sent; sent again, it orders the same."""
    init, mask = await uploaded(client, 1), await uploaded(client, 2)
    sent: dict[str, Any] = {
        "init_image": {"upload_id": init},
        "strength": 0.5,
        "mask_image": {"upload_id": mask},
        "seed": 3,
    }
    job = await ordered(client, **sent)
    assert {name: job["request"][name] for name in sent} == sent
    params = await params_of(world, job["job_id"])
    shown = await get(client, f"/v1/uploads/{init}")
    assert params["init_image"] == {
        "upload_id": init, "sha256": shown["sha256"], "given": {"upload_id": init}
    }  # fmt: skip
    assert params["strength"] == 0.5
    again = await ordered(client, **job["request"])
    assert await params_of(world, again["job_id"]) == params


async def test_only_the_steps_that_are_drawn_count_as_work(
    client: httpx.AsyncClient, world: World
) -> None:
    init = {"upload_id": await uploaded(client)}
    jobs = [
        await ordered(client, steps=20),
        await ordered(client, steps=20, init_image=init, strength=0.25),
    ]
    whole, part = [(await world.launched(job["job_id"]))["summary"]["work"] for job in jobs]
    assert part == whole / 4


async def test_a_strength_that_is_left_out(client: httpx.AsyncClient, world: World) -> None:
    """With a mask the part that is drawn anew owes nothing to what was there."""
    source = {"upload_id": await uploaded(client)}
    for more, strength in (({}, 0.6), ({"mask_image": source}, 1.0)):
        job = await ordered(client, init_image=source, **more)
        assert (await params_of(world, job["job_id"]))["strength"] == strength
    plain = await ordered(client)
    assert (plain["request"]["init_image"], plain["request"]["strength"]) == (None, None)


async def test_an_image_of_a_job_is_kept_for_the_jobs_that_need_it(
    client: httpx.AsyncClient, world: World
) -> None:
    """Its own job may be deleted meanwhile. Of a drawn image it is the picture before the effects."""
    parent = await drawn(world, client, sprite(), sprite(seed=1), prompt="a", seed=5)
    source = {"job_id": parent, "index": 1}
    job = await ordered(client, init_image=source)
    assert job["request"]["init_image"] == source
    use = (await params_of(world, job["job_id"]))["init_image"]
    assert (await client.delete(f"/v1/jobs/{parent}")).status_code == 204
    assert output_of(world).uploads.read(use["upload_id"], use["sha256"])
    found = await client.post("/v1/generate", json={"prompt": "a", "init_image": source})
    problem = assert_problem(found, 422, "invalid_field")
    assert problem["errors"][0]["field"] == "init_image.job_id"


async def test_a_dry_run_keeps_nothing(client: httpx.AsyncClient, world: World) -> None:
    parent = await drawn(world, client, sprite(), prompt="a", seed=5)
    body = {"prompt": "a", "init_image": {"job_id": parent}, "dry_run": True}
    response = await client.post("/v1/generate", json=body)
    assert response.status_code == 200, response.text
    assert response.json()["request"]["init_image"] == {"job_id": parent, "index": 0}
    assert not (world.files.root / ".uploads").exists()


async def test_a_retry_needs_the_picture_and_not_the_upload(
    client: httpx.AsyncClient, world: World
) -> None:
    """The new job gets the picture for itself, and is told when there is none any more."""
    upload_id = await uploaded(client)
    first = await ordered(client, init_image={"upload_id": upload_id})
    await world.started(first["job_id"])
    assert await world.fail(first["job_id"], 1)
    assert (await client.delete(f"/v1/uploads/{upload_id}")).status_code == 204
    retried = await client.post(f"/v1/jobs/{first['job_id']}/retry")
    assert retried.status_code == 202, retried.text
    use = (await params_of(world, retried.json()["job_id"]))["init_image"]
    assert use["upload_id"] != upload_id
    uploads = output_of(world).uploads
    uploads.remove([upload_id], time.time())
    assert uploads.read(use["upload_id"], use["sha256"])
    gone = await client.post(f"/v1/jobs/{first['job_id']}/retry")
    problem = assert_problem(gone, 422, "invalid_field")
    assert problem["errors"][0]["field"] == "init_image"
    assert "not kept any more" in problem["errors"][0]["detail"]


async def test_pictures_of_another_owner_are_not_found(
    transport: LocalTransport, world: World
) -> None:
    path = world.directory / "keys"
    ann, bob = keys_of(path, "ann", "bob")
    async with serving(make_app(transport, api_keys_file=path)) as client:
        client.headers.update(ann)
        upload_id = await uploaded(client)
        job_id = await drawn(world, client, sprite(), prompt="a", seed=1)
        for source, field in (
            ({"upload_id": upload_id}, "upload_id"),
            ({"job_id": job_id}, "job_id"),
        ):
            body = {"prompt": "a", "init_image": source}
            response = await client.post("/v1/generate", json=body, headers=bob)
            problem = assert_problem(response, 422, "invalid_field")
            assert problem["errors"][0]["field"] == f"init_image.{field}"
            assert problem["errors"][0]["detail"].startswith("There is no")


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({"init_image": {"upload_id": JOB_ID}}, "init_image.upload_id", "no upload"),
        ({"init_image": {"job_id": JOB_ID}}, "init_image.job_id", "no job"),
        ({"init_image": {"job_id": "RUNNING"}}, "init_image.job_id", "STARTED"),
        ({"init_image": {"job_id": "DRAWN", "index": 7}}, "init_image.index", "no image 7"),
        ({"init_image": {}}, "init_image", "either"),
        ({"init_image": {"upload_id": "UP", "job_id": JOB_ID}}, "init_image", "either"),
        ({"init_image": {"upload_id": "UP", "index": 1}}, "init_image", "no index"),
        ({"init_image": {"upload_id": "UP", "url": "http://x"}}, "init_image.url", "Unknown"),
        ({"init_image": "UP"}, "init_image", ""),
        ({"strength": 0.5}, "strength", "needs an init_image"),
        ({"mask_image": {"upload_id": "UP"}}, "mask_image", "needs an init_image"),
        ({"init_image": {"upload_id": "UP"}, "strength": 0}, "strength", "none would be drawn"),
        ({"init_image": {"upload_id": "UP"}, "strength": 0.1}, "strength", "of 6 steps none"),
        ({"init_image": {"upload_id": "UP"}, "strength": 1.01}, "strength", ""),
        (
            {"init_image": {"upload_id": "UP"}, "mask_image": {"upload_id": "SMALL"}},
            "mask_image",
            "is 32x64, init_image is 64x64",
        ),
    ],
)
async def test_a_wrong_picture_names_the_field(
    client: httpx.AsyncClient, world: World, body: dict[str, Any], field: str, said: str
) -> None:
    """And nothing is ordered."""
    running = (await ordered(client))["job_id"]
    await world.started(running)
    names = {
        "UP": await uploaded(client),
        "SMALL": await uploaded(client, size=(32, 64)),
        "RUNNING": running,
        "DRAWN": await drawn(world, client, sprite(), prompt="a", seed=1),
    }

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: named(one) for key, one in value.items()}
        return names.get(value, value) if isinstance(value, str) else value

    before = len((await get(client, "/v1/jobs"))["results"])
    response = await client.post(
        "/v1/generate", json={"prompt": "a", "style_id": "icon"} | named(body)
    )
    problem = assert_problem(response, 422, "invalid_field")
    (error,) = problem["errors"]
    assert error["field"] == field
    assert said in error["detail"]
    assert len((await get(client, "/v1/jobs"))["results"]) == before


async def test_strength_1_draws_every_step(client: httpx.AsyncClient, world: World) -> None:
    source = {"upload_id": await uploaded(client)}
    job = await ordered(client, init_image=source, strength=1, steps=7)
    ticket = await world.launched(job["job_id"])
    assert (ticket["params"]["strength"], ticket["params"]["steps"]) == (1.0, 7)


# ---- pictures whose shapes are followed ----

CONTROLLED = Models(
    {
        "tiny": MODEL.model_copy(
            update={
                "reference": ReferenceSpec(path="a.safetensors", image_encoder="encoder"),
                "controls": {
                    "canny": ControlSpec(path="nowhere", prepare="canny"),
                    "depth": ControlSpec(path="nowhere"),
                },
            }
        )
    },
    "tiny",
)


@pytest.fixture
async def controlled(transport: LocalTransport) -> AsyncGenerator[httpx.AsyncClient]:
    """A service whose model has ControlNets."""
    styles = Styles({"icon": ICON})
    async with serving(make_app(transport, models=CONTROLLED, styles=styles)) as client:
        yield client


async def test_an_order_follows_pictures(controlled: httpx.AsyncClient, world: World) -> None:
    """Each is pinned, and prepared as the model says unless it comes prepared; sent again it is the same."""
    image = {"upload_id": await uploaded(controlled)}
    sent: list[dict[str, Any]] = [
        {"type": "canny", "image": image, "weight": 0.5, "end": 0.8},
        {"type": "canny", "image": image, "prepared": True},
        {"type": "depth", "image": image},
    ]
    job = await ordered(controlled, control=sent, seed=1)
    ticket = await world.launched(job["job_id"])
    uses = ticket["params"]["control"]
    assert [use["prepare"] for use in uses] == ["canny", "none", "none"]
    assert {use["image"]["upload_id"] for use in uses} == {image["upload_id"]}
    plain = await ordered(controlled, seed=1)
    work = (await world.launched(plain["job_id"]))["summary"]["work"]
    assert ticket["summary"]["work"] == pytest.approx(work * (1 + 3 * CONTROL_WORK))
    again = await ordered(controlled, **job["request"])
    assert (await world.launched(again["job_id"]))["params"] == ticket["params"]
    (model,) = (await get(controlled, "/v1/models"))["results"]
    assert model["controls"] == ["canny", "depth"]


async def test_a_retry_needs_the_pictures_that_are_followed(
    controlled: httpx.AsyncClient, world: World
) -> None:
    upload_id = await uploaded(controlled)
    first = await ordered(
        controlled, control=[{"type": "canny", "image": {"upload_id": upload_id}}]
    )
    await world.started(first["job_id"])
    assert await world.fail(first["job_id"], 1)
    retried = await controlled.post(f"/v1/jobs/{first['job_id']}/retry")
    (use,) = (await params_of(world, retried.json()["job_id"]))["control"]
    assert use["image"]["upload_id"] != upload_id
    output_of(world).uploads.remove([upload_id], time.time())
    gone = await controlled.post(f"/v1/jobs/{first['job_id']}/retry")
    problem = assert_problem(gone, 422, "invalid_field")
    assert problem["errors"][0]["field"] == "control.0.image"


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"type": "pose"}, "control.0.type", "tiny has no ControlNet 'pose'"),
        ({"image": {"upload_id": JOB_ID}}, "control.0.image.upload_id", "no upload"),
        ({"image": {"job_id": JOB_ID}}, "control.0.image.job_id", "no job"),
        ({"start": 0.6, "end": 0.5}, "control.0.end", "above start"),
        ({"weight": 0}, "control.0.weight", ""),
        ({"weight": 1e9}, "control.0.weight", ""),
        ({"end": 1.5}, "control.0.end", ""),
        ({"map": "canny"}, "control.0.map", "Unknown"),
    ],
)
async def test_a_wrong_control_names_the_field(
    controlled: httpx.AsyncClient, changes: dict[str, Any], field: str, said: str
) -> None:
    right = {"type": "canny", "image": {"upload_id": await uploaded(controlled)}}
    response = await controlled.post(
        "/v1/generate", json={"prompt": "a", "control": [right | changes]}
    )
    problem = assert_problem(response, 422, "invalid_field")
    (error,) = problem["errors"]
    assert error["field"] == field
    assert said in error["detail"]
    assert error.get("allowed") or "upload_id" in field or "job_id" in field


async def test_a_control_without_a_control_model_is_told_so(client: httpx.AsyncClient) -> None:
    image = {"upload_id": await uploaded(client)}
    body = {"prompt": "a", "control": [{"type": "canny", "image": image}]}
    response = await client.post("/v1/generate", json=body)
    (error,) = assert_problem(response, 422, "invalid_field")["errors"]
    assert error["field"] == "control.0.type"
    assert error["allowed"] == ["none: tiny has no ControlNets here"]


async def test_no_more_than_three_controls(controlled: httpx.AsyncClient) -> None:
    one = {"type": "canny", "image": {"upload_id": await uploaded(controlled)}}
    response = await controlled.post("/v1/generate", json={"prompt": "a", "control": [one] * 4})
    (error,) = assert_problem(response, 422, "invalid_field")["errors"]
    assert error["field"] == "control"


# ---- a picture to take after ----


async def test_an_order_takes_after_a_picture(
    controlled: httpx.AsyncClient, client: httpx.AsyncClient, world: World
) -> None:
    """It is pinned; sent again it is the same; a retry needs it; a model without an IP-Adapter refuses it."""
    upload_id = await uploaded(controlled)
    wanted = {"image": {"upload_id": upload_id}, "weight": 0.6}
    job = await ordered(controlled, reference=wanted, seed=1)
    ticket = await world.launched(job["job_id"])
    use = ticket["params"]["reference"]
    assert (use["image"]["upload_id"], use["weight"]) == (upload_id, 0.6)
    assert job["request"]["reference"] == wanted
    again = await ordered(controlled, **job["request"])
    assert (await world.launched(again["job_id"]))["params"] == ticket["params"]
    assert await world.fail(job["job_id"], 1)
    retried = await controlled.post(f"/v1/jobs/{job['job_id']}/retry")
    use = (await params_of(world, retried.json()["job_id"]))["reference"]
    assert use["image"]["upload_id"] != upload_id
    (model,) = (await get(controlled, "/v1/models"))["results"]
    assert model["reference"]
    refused = await client.post("/v1/generate", json={"prompt": "a", "reference": wanted})
    (error,) = assert_problem(refused, 422, "invalid_field")["errors"]
    assert (error["field"], "no IP-Adapter" in str(error["allowed"])) == ("reference", True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"image": {"upload_id": JOB_ID}}, "reference.image.upload_id"),
        ({"image": {"job_id": JOB_ID}}, "reference.image.job_id"),
        ({"weight": 0}, "reference.weight"),
        ({"weight": 1e9}, "reference.weight"),
        ({"type": "face"}, "reference.type"),
    ],
)
async def test_a_wrong_reference_names_the_field(
    controlled: httpx.AsyncClient, changes: dict[str, Any], field: str
) -> None:
    right = {"image": {"upload_id": await uploaded(controlled)}}
    response = await controlled.post(
        "/v1/generate", json={"prompt": "a", "reference": right | changes}
    )
    (error,) = assert_problem(response, 422, "invalid_field")["errors"]
    assert error["field"] == field
