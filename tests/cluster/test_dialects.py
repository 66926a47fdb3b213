"""Dialects on a real cluster: other people's clients draw with a real renderer; one that leaves frees it."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import httpx
import openai
import pytest
import webuiapi
from PIL import Image

from .service import Service, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

OURS: dict[str, Any] = {"style_id": "none", "seed": 7, "steps": 4}


def opened(image: str | None) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(image or "")))


def test_two_other_clients_draw_the_pixels_of_an_order_of_ours(shared: Service) -> None:
    ours = shared.result(shared.submit(**OURS, size="32x32"))
    with Image.open(shared.output / ours["result_urls"][0].removeprefix("/output/")) as image:
        pixels = image.convert("RGB").tobytes()
    url = f"http://127.0.0.1:{shared.port}"
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        reply = client.images.generate(
            prompt="a red sword", size="32x32", output_format="webp", extra_body=OURS
        )
        assert reply.data is not None
        drawn = opened(reply.data[0].b64_json)
        assert (drawn.format, drawn.convert("RGB").tobytes()) == ("WEBP", pixels)
        events = list(
            client.images.generate(
                prompt="a red sword", size="64x64", stream=True, partial_images=1,
                extra_body={**OURS, "steps": 40},
            )
        )  # fmt: skip
        assert [event.type for event in events][-1] == "image_generation.completed"
        assert len(events) <= 2
        edited = client.images.edit(
            image=("x.png", base64.b64decode(reply.data[0].b64_json or "")),
            prompt="a red sword", size="32x32", extra_body={**OURS, "strength": 0.5},
        )  # fmt: skip
        assert edited.data is not None
        assert opened(edited.data[0].b64_json).size == (32, 32)
        with pytest.raises(openai.BadRequestError) as refusal:  # noise has no ground to cut
            client.images.generate(
                prompt="a red sword", size="32x32", background="transparent", extra_body=OURS
            )
        assert refusal.value.code == "quality_failed"
    api: Any = webuiapi.WebUIApi(baseurl=f"{url}/sdapi/v1", sampler="DDIM", steps=4)
    result = api.txt2img(prompt="a red sword", seed=7, width=32, height=32, cfg_scale=5)
    assert result.image.convert("RGB").tobytes() == pixels
    assert json.loads(result.json["info"])["seed"] == 7


def test_who_leaves_frees_the_renderer(shared: Service) -> None:
    """Through Serve's proxy, before and after the answer has begun."""
    for stream in (False, True):
        body = {"prompt": "a red sword", "size": "64x64", "stream": stream, "tags": ["leaves"]}
        url = f"http://127.0.0.1:{shared.port}/v1/images/generations"
        with httpx.Client(timeout=1.5) as client, pytest.raises(httpx.ReadTimeout):
            client.post(url, json=body | {"steps": 1000, "n": 8, "style_id": "none"})
        (job, *_) = shared.http.get("/v1/jobs?tag=leaves&limit=1").json()["results"]
        ended = shared.result(job["job_id"], timeout_s=30)
        assert (ended["status"], ended["error"]["code"]) == ("REVOKED", "cancelled")
    wait_until(lambda: shared.renderers("stats")[0]["live"] == 0, 30, "the engine is idle")
