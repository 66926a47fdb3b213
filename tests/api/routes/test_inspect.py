"""POST /v1/inspect: the file is the body, the answer says what made it, and its order can be sent."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from serve_app.artifacts.png import with_metadata
from tests.api.harness import LocalTransport, assert_problem, make_app, serving
from tests.artifacts.inspection import samples
from tests.artifacts.pictures import JOB, PARAMS, rendered

PNG = {"content-type": "image/png"}


async def inspected(client: httpx.AsyncClient, data: bytes) -> dict[str, Any]:
    response = await client.post("/v1/inspect", content=data, headers=PNG)
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_order_in_the_answer_is_taken_as_it_is(client: httpx.AsyncClient) -> None:
    """The server draws 64x64 and 64x128 with two schedulers, so the rest is left out and named."""
    found = await inspected(client, samples.png(parameters=samples.A1111))
    assert found["recipe"]["program"] == "automatic1111"
    assert found["order"] == {
        "prompt": "a knight, (red cape:1.2),\nsecond line",
        "negative_prompt": "blurry, bad hands\nand more",
        "style_id": "none",
        "seed": 965400086,
        "steps": 20,
        "guidance_scale": 7.5,
    }
    missing = [note.split(": ")[1] for note in found["notes"] if note.startswith("not_here")]
    assert missing == ["width", "scheduler"]
    accepted = await client.post("/v1/generate", json=found["order"])
    assert accepted.status_code == 202, accepted.text


async def test_a_seed_that_is_too_large_here_is_named(client: httpx.AsyncClient) -> None:
    """ComfyUI's have 64 bits."""
    found = await inspected(client, samples.png(prompt=json.dumps(samples.GRAPH)))
    assert "seed" not in found["order"]
    assert found["recipe"]["seed"] == 156680208700286
    assert any(note.startswith("not_here: seed") for note in found["notes"])


async def test_our_own_file_gives_its_record(client: httpx.AsyncClient) -> None:
    found = await inspected(client, with_metadata(rendered(0), PARAMS, JOB, 1))
    assert found["recipe"]["record"]["job_id"] == JOB
    assert found["ai_made"]
    assert found["recipe"]["program"] == "ai-asset-generator"


async def test_without_a_prompt_there_is_no_order(client: httpx.AsyncClient) -> None:
    text = "Steps: 20, Sampler: Euler, Seed: 5"
    found = await inspected(client, samples.png(parameters=text))
    assert found["recipe"]["seed"] == 5
    assert found["order"] is None


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"GIF89a", b"not a picture"])
async def test_what_is_no_picture_is_422(client: httpx.AsyncClient, data: bytes) -> None:
    response = await client.post("/v1/inspect", content=data, headers=PNG)
    problem = assert_problem(response, 422, "invalid_field")
    assert problem["errors"][0]["allowed"] == ["PNG", "WebP", "JPEG"]


async def test_a_file_that_is_too_large_is_413_and_its_limit_named(
    transport: LocalTransport,
) -> None:
    async with serving(make_app(transport, max_upload_bytes=2000)) as client:
        response = await client.post("/v1/inspect", content=b"x" * 2001, headers=PNG)
        assert "2000 bytes" in assert_problem(response, 413, "body_too_large")["detail"]
        limits = (await client.get("/v1/capabilities")).json()["limits"]
        assert limits["upload_bytes"] == 2000


@pytest.mark.parametrize("media_type", ["application/json", "image/gif", "", "multipart/form-data"])
async def test_other_types_are_415(client: httpx.AsyncClient, media_type: str) -> None:
    headers = {"content-type": media_type} if media_type else {}
    response = await client.post("/v1/inspect", content=samples.png(), headers=headers)
    assert "image/png" in assert_problem(response, 415, "unsupported_media_type")["detail"]


async def test_an_order_is_still_json_only(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/generate", content=samples.png(), headers=PNG)
    assert_problem(response, 415, "unsupported_media_type")


async def test_a_picture_beyond_the_limit_of_pixels_is_not_decoded(
    transport: LocalTransport,
) -> None:
    async with serving(make_app(transport, max_pixels=100)) as client:
        found = await inspected(client, samples.png())
        assert found["pixels_sha256"] is None
        assert found["notes"][0].startswith("not_decoded: 16x8")
