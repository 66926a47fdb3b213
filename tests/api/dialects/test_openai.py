"""OpenAI's own client draws here: sync, async and streaming, on a real port."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from tests.api.dialects.harness import newest, picture, speaking, studio
from tests.api.harness import Site, keys_of
from tests.api.studio import draw, png
from tests.serving import WAIT_S


@pytest.fixture
def service(tmp_path: Path) -> Generator[Site]:
    with studio(tmp_path) as served:
        yield served


def client_of(service: Site, key: str = "none", retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{service.url}/v1", api_key=key, max_retries=retries, timeout=WAIT_S
    )


def opened(b64_json: str | None) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(b64_json or "")))


def refused(service: Site, **body: Any) -> dict[str, Any]:
    """The error of a body that is wrong."""
    reply = httpx.post(f"{service.url}/v1/images/generations", json={"prompt": "a key"} | body)
    assert reply.status_code == 400, reply.text
    assert reply.headers["x-should-retry"] == "false"
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return error


def test_a_picture_comes_as_it_is_stored(service: Site) -> None:
    with client_of(service) as client:
        reply = client.images.generate(prompt="a key", model="gpt-image-2", size="64x128", n=2)
    assert reply.data is not None
    (one, two) = map(opened, (image.b64_json for image in reply.data))
    assert (one.format, one.size, two.size) == ("PNG", (64, 128), (64, 128))
    assert (reply.size, reply.quality, reply.output_format) == ("64x128", "high", "png")
    assert reply.background == "opaque"
    assert reply.data[0].revised_prompt == "a key"
    job = newest(service)
    stored = httpx.get(f"{service.url}/output/{job['images'][0]['path']}")
    assert base64.b64decode(reply.data[0].b64_json or "") == stored.content
    assert reply.model_extra is not None
    assert reply.model_extra["job_id"] == job["job_id"]


async def test_the_async_client_draws_too(service: Site) -> None:
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none") as client:
        reply = await client.images.generate(
            prompt="a key",
            user="ann",
            quality="low",
            extra_body={"style_id": "icon", "seed": 7, "steps": 5, "unheard_of": 1},
        )
    assert reply.data is not None
    assert opened(reply.data[0].b64_json).size == (64, 64)
    assert reply.data[0].revised_prompt == "a key, game icon"
    job = newest(service)
    assert (job["params"]["seed"], job["params"]["steps"]) == (7, 5)
    assert (job["params"]["quality"], reply.quality) == ("draft", "low")
    assert job["labels"]["metadata"] == {"user": "ann"}


def test_a_url_leads_to_the_stored_file(service: Site) -> None:
    """Models of the old interface give URLs, unless they are told otherwise."""
    with client_of(service) as client:
        old = client.images.generate(prompt="a key", model="dall-e-3")
        new = client.images.generate(prompt="a key", response_format="url", output_format="webp")
    for reply in (old, new):
        assert reply.data is not None
        assert reply.data[0].url is not None
        assert reply.data[0].b64_json is None
        assert Image.open(io.BytesIO(httpx.get(reply.data[0].url).content)).size == (64, 64)
    assert newest(service)["params"]["finishing"]["format"] == "webp"


def test_other_formats_are_made_for_the_answer(service: Site) -> None:
    sizes: dict[int, int] = {}
    with client_of(service) as client:
        for quality in (90, 10):
            reply = client.images.generate(
                prompt="a key", output_format="jpeg", output_compression=quality
            )
            assert reply.data is not None
            assert opened(reply.data[0].b64_json).format == "JPEG"
            sizes[quality] = len(reply.data[0].b64_json or "")
            assert reply.output_format == "jpeg"
        reply = client.images.generate(prompt="a key", output_format="webp", output_compression=0)
        assert reply.data is not None
        assert opened(reply.data[0].b64_json).format == "WEBP"
    assert sizes[10] < sizes[90]


def test_a_transparent_ground_is_ordered_and_never_pretended(service: Site) -> None:
    with client_of(service) as client:
        reply = client.images.generate(prompt="a key", background="transparent")
        assert reply.background == "transparent"
        finishing = newest(service)["params"]["finishing"]
        assert [*finishing["effects"]] == [{"op": "cutout"}]
        assert finishing["require"] == {"coverage": {"max": 0.999}}
        assert finishing["on_fail"] == "fail"
        body = {"effects": [{"op": "cutout"}, {"op": "trim"}]}
        reply = client.images.generate(prompt="a key", background="opaque", extra_body=body)
        assert reply.background == "opaque"
        assert [*newest(service)["params"]["finishing"]["effects"]] == [{"op": "trim"}]


def test_a_stream_looks_at_what_is_drawn(tmp_path: Path) -> None:
    """Partial pictures as the steps go on, each of the size and the format that was ordered."""
    with speaking(tmp_path) as service, ThreadPoolExecutor() as pool, client_of(service) as client:
        kinds: list[str] = []
        looked = threading.Semaphore(0)

        def read() -> list[Any]:
            events = client.images.generate(
                prompt="a key", size="64x128", stream=True, partial_images=2, output_format="webp"
            )
            found: list[Any] = []
            for event in events:
                found.append(event)
                kinds.append(event.type)
                looked.release()
            return found

        reading = pool.submit(read)
        job_id = service.do(_launched, service)
        for number, done in enumerate((0.4, 0.7)):
            service.do(_looks, service, job_id, done, number)
            assert looked.acquire(timeout=WAIT_S)
        service.do(draw, service.world, job_id, [picture((64, 128))])
        first, second, last = reading.result(WAIT_S)
    assert (first.partial_image_index, second.partial_image_index) == (0, 1)
    assert first.type == "image_generation.partial_image"
    assert opened(first.b64_json).size == (64, 128)
    assert opened(first.b64_json).format == opened(last.b64_json).format == "WEBP"
    assert last.type == "image_generation.completed"
    assert last.usage.total_tokens == 0
    assert (last.size, last.background) == ("64x128", "opaque")


async def _launched(service: Site) -> str:
    await service.world.until(lambda: service.world.launcher.running)
    ((job_id, fence),) = service.world.launcher.running
    await service.world.started(job_id, fence)
    return job_id


async def _looks(service: Site, job_id: str, done: float, number: int) -> None:
    assert await service.world.preview(job_id, 1, 0, png(picture((16, 32))))
    progress = {
        "value": done,
        "step": number,
        "steps": 6,
        "image": 0,
        "images": 1,
        "stage": "denoising",
    }
    assert await service.world.progress(job_id, 1, progress)


def test_a_job_that_fails_is_an_error_and_not_tried_again(service: Site) -> None:
    """The service has tried it already. With `stream`, the error is an event."""
    with client_of(service, retries=3) as client:
        with pytest.raises(openai.InternalServerError) as failed:
            client.images.generate(prompt="fail")
        assert failed.value.code == "non_finite"
        assert failed.value.response.headers["x-should-retry"] == "false"
        with pytest.raises(openai.APIError) as streamed:
            list(client.images.generate(prompt="fail", stream=True))
        assert streamed.value.code == "non_finite"
    first = newest(service)
    assert first["status"] == "FAILURE"


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_takes_the_job_along(tmp_path: Path, stream: bool) -> None:
    with speaking(tmp_path) as service:
        client = openai.OpenAI(
            base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=2
        )

        def draw_or_read() -> None:
            reply: Any = client.images.generate(prompt="a key", stream=stream)
            list(reply)

        with client, pytest.raises((openai.APITimeoutError, openai.APIConnectionError)):
            draw_or_read()
        job_id = newest(service)["job_id"]
        service.do(service.world.becomes, job_id, "REVOKED")


def test_a_line_that_is_full_is_worth_another_try(tmp_path: Path) -> None:
    with speaking(tmp_path) as service, client_of(service) as client:
        service.limit(max_in_flight=0, max_pending=1)
        httpx.post(f"{service.url}/v1/generate", json={"prompt": "a key", "style_id": "icon"})
        with pytest.raises(openai.RateLimitError) as refusal:
            client.images.generate(prompt="a key")
        assert refusal.value.code == "queue_full"
        assert refusal.value.response.headers["x-should-retry"] == "true"
        assert 1 <= int(refusal.value.response.headers["retry-after"]) <= 120


def test_a_key_is_asked_for_as_everywhere(tmp_path: Path) -> None:
    (studio_key,) = keys_of(tmp_path / "keys", "studio")
    with studio(tmp_path, api_keys_file=tmp_path / "keys") as service:
        with client_of(service, "wrong") as client:
            with pytest.raises(openai.AuthenticationError) as refusal:
                client.images.generate(prompt="a key")
            assert refusal.value.code == "unauthorized"
        with client_of(service, studio_key["X-API-Key"]) as client:
            assert client.images.generate(prompt="a key").data


def test_a_picture_is_edited(service: Site) -> None:
    """As the client sends it: files and text in a form, the mask by its transparency."""
    mask = Image.new("RGBA", (64, 64), "black")
    mask.paste((0, 0, 0, 0), (16, 16, 48, 48))
    with client_of(service) as client:
        reply = client.images.edit(
            image=("start.png", png(picture())), mask=("mask.png", png(mask)), prompt="a key",
            n=2, size="64x64", quality="low", background="opaque",
            extra_body={"strength": 0.5, "seed": 7, "style_id": "icon"},
        )  # fmt: skip
        assert reply.data is not None
        assert [opened(image.b64_json).size for image in reply.data] == [(64, 64)] * 2
        params = newest(service)["params"]
        assert (params["strength"], params["seed"], params["style_id"]) == (0.5, 7, "icon")
        assert params["init_image"]["upload_id"] != params["mask_image"]["upload_id"]
        client.images.edit(image=[png(picture())], prompt="a key")  # as `image[]`
        assert newest(service)["params"]["mask_image"] is None
        events = list(client.images.edit(image=png(picture()), prompt="a key", stream=True))
        assert [event.type for event in events] == ["image_edit.completed"]


async def test_the_async_client_edits_too(service: Site) -> None:
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none") as client:
        reply = await client.images.edit(image=png(picture()), prompt="a key")
    assert reply.data is not None
    assert opened(reply.data[0].b64_json).size == (64, 64)


def test_an_edit_that_is_wrong_is_named(service: Site) -> None:
    start = png(picture())
    small = png(Image.new("RGBA", (32, 32)))

    def wrong(files: list[tuple[str, bytes]], **fields: str) -> str | None:
        reply = httpx.post(
            f"{service.url}/v1/images/edits",
            data={"prompt": "a key"} | fields,
            files=[(name, ("x.png", data)) for name, data in files],
        )
        assert reply.status_code == 400, reply.text
        return reply.json()["error"]["param"]

    assert wrong([("mask", start)]) == "image"
    assert wrong([("image", start), ("image[]", start)]) == "image"
    assert wrong([("image", b"no picture")]) == "image"
    assert wrong([("image", start), ("mask", b"no picture")]) == "mask"
    assert wrong([("image", start), ("mask", small)]) == "mask_image"
    assert wrong([("image", start), ("mask", start), ("mask", start)]) == "mask"
    assert wrong([("image", start), ("markup", start)]) == "markup"
    assert wrong([("image", start)], n="0") == "n"
    assert wrong([("image", start)], strength="two") == "strength"
    assert wrong([("image", start)], prompt="") == "prompt"
    reply = httpx.post(f"{service.url}/v1/images/edits", json={"prompt": "a key"})
    assert reply.status_code == 400
    assert "multipart" in reply.json()["error"]["message"]
    kind = {"content-type": "multipart/form-data"}
    reply = httpx.post(f"{service.url}/v1/images/edits", content=b"x", headers=kind)
    assert reply.status_code == 400


def test_what_is_wrong_is_named(service: Site) -> None:
    assert refused(service, prompt="")["param"] == "prompt"
    assert refused(service, n=0)["param"] == "n"
    assert refused(service, n=17)["param"] == "n"
    assert refused(service, model="sd-9")["param"] == "model"
    assert "64x64" in refused(service, size="1024x1024")["message"]
    assert refused(service, size="huge")["param"] == "size"
    assert refused(service, output_format="gif")["param"] == "output_format"
    assert refused(service, partial_images=4)["param"] == "partial_images"
    assert refused(service, quality="best")["param"] == "quality"
    assert refused(service, seed=-2)["param"] == "seed"
    jpeg = {"output_format": "jpeg"}
    assert refused(service, background="transparent", **jpeg)["param"] == "background"
    assert refused(service, response_format="url", **jpeg)["param"] == "output_format"
    assert refused(service, effects=[{"op": "nothing"}])["param"] == "effects.0.op"
    reply = httpx.post(f"{service.url}/v1/images/generations", content=b"{")
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"


def test_without_the_setting_there_is_no_such_route(tmp_path: Path) -> None:
    with speaking(tmp_path, dialects=[]) as service:
        reply = httpx.post(f"{service.url}/v1/images/generations", json={"prompt": "a key"})
        assert reply.status_code == 404
        assert reply.json()["code"] == "not_found"
