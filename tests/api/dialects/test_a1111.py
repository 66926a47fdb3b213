"""The web UI's clients draw here: the webuiapi package on a real port, and what others send."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import webuiapi
from PIL import Image

from serve_app.catalog.models import Models
from tests.api.dialects.harness import newest, picture, speaking, studio
from tests.api.harness import MODELS, OTHER, Site, keys_of
from tests.api.studio import draw, png
from tests.serving import WAIT_S

SMALL: dict[str, Any] = {"prompt": "a key", "width": 64, "height": 64, "steps": 5, "cfg_scale": 3}


@pytest.fixture
def service(tmp_path: Path) -> Generator[Site]:
    with studio(tmp_path) as served:
        yield served


def client_of(service: Site, **more: Any) -> Any:
    return webuiapi.WebUIApi(baseurl=f"{service.url}/sdapi/v1", sampler="Euler", steps=5, **more)


def post(service: Site, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{service.url}/sdapi/v1/{path}", json=body, timeout=WAIT_S)


def refused(service: Site, path: str, **body: Any) -> dict[str, Any]:
    """The error of a body that is wrong, as the web UI words it."""
    reply = post(service, path, **body)
    assert reply.status_code == 422, reply.text
    error = reply.json()
    assert {"error", "detail", "body", "errors"} <= set(error)
    assert error["body"] == ""
    return error


def in_base64(image: Image.Image) -> str:
    return base64.b64encode(png(image)).decode()


def test_the_package_draws_from_words(service: Site) -> None:
    api = client_of(service)
    result = api.txt2img(
        **{**SMALL, "height": 128}, negative_prompt="text", seed=7, batch_size=2, n_iter=2,
        tiling=False, styles=["icon"],
    )  # fmt: skip
    assert [image.size for image in result.images] == [(64, 128)] * 4
    assert result.info["all_seeds"] == [7, 8, 9, 10]
    assert result.info["all_prompts"] == ["a key, game icon"] * 4
    assert result.info["sampler_name"] == "Euler"
    assert result.info["notes"] == []
    assert "Steps: 5, Sampler: Euler" in result.info["infotexts"][0]
    job = newest(service)
    assert job["job_id"] == result.info["job_id"]
    params = job["params"]
    assert (params["scheduler"], params["guidance_scale"], params["steps"]) == ("euler", 3.0, 5)
    assert (params["style_id"], params["seed"], params["n"]) == ("icon", 7, 4)
    assert result.parameters["prompt"] == "a key"


def test_without_a_style_the_words_are_drawn_as_they_stand(service: Site) -> None:
    result = client_of(service).txt2img(**SMALL)
    assert result.info["all_prompts"] == ["a key"]
    assert newest(service)["params"]["style_id"] == "none"


def test_what_is_not_done_is_named_and_its_value_is_not(
    service: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """SillyTavern puts its server's address and credentials into the body."""
    with caplog.at_level(logging.DEBUG):
        reply = post(
            service,
            "txt2img",
            **SMALL,
            sampler_name="DPM++ 2M",
            scheduler="Karras",
            enable_hr=True,
            restore_faces=True,
            subseed=5,
            subseed_strength=0.0,
            unheard_of="s3cret",
            url="http://user:s3cret@host",
            auth="user:s3cret",
            alwayson_scripts={"ADetailer": {"args": [True]}},
            override_settings={"sd_vae": "mine.safetensors"},
        )
    assert reply.status_code == 200, reply.text
    notes = json.loads(reply.json()["info"])["notes"]
    assert notes == [
        "sampler: DPM++ 2M Karras is not of this model, which used ddim",
        "ignored: enable_hr, restore_faces, subseed, unheard_of, alwayson_scripts, "
        "override_settings.sd_vae",
    ]
    assert "s3cret" not in reply.text
    assert "s3cret" not in caplog.text
    assert "a key" not in "".join(r.message for r in caplog.records if r.levelno > logging.DEBUG)


def test_our_own_fields_may_stand_beside(service: Site) -> None:
    body = {**SMALL, "effects": [{"op": "trim"}], "quality": "draft", "tags": ["level-3"]}
    assert post(service, "txt2img", **body).status_code == 200
    job = newest(service)
    assert job["params"]["quality"] == "draft"
    assert job["labels"]["tags"] == ["level-3", "a1111"]


def basic(words: str) -> dict[str, str]:
    """As both clients make it of what somebody typed in, which may be nothing."""
    words = f"Basic {base64.b64encode(words.encode()).decode()}"
    return {"Authorization": words.strip()}  # no receiver sees the space at the end


def of_sillytavern(url: str, auth: str, **changes: Any) -> dict[str, Any]:
    """Of its `generateAutoImage`. What is undefined there, as a seed that is to be drawn, is not sent; its
    server takes Forge's modules out, since our options name no `forge_preset`."""
    return {
        "url": url,
        "auth": auth,
        "prompt": "a key",
        "negative_prompt": "text",
        "sampler_name": "Euler",
        "scheduler": "normal",
        "steps": 5,
        "cfg_scale": 3,
        "width": 64,
        "height": 64,
        "restore_faces": False,
        "enable_hr": False,
        "hr_upscaler": "Latent",
        "hr_scale": 1,
        "hr_additional_modules": [],
        "denoising_strength": 0.7,
        "hr_second_pass_steps": 0,
        "override_settings": {"CLIP_stop_at_last_layers": 1},
        "override_settings_restore_afterwards": True,
        "clip_skip": 1,
        "save_images": True,
        "send_images": True,
        "do_not_save_grid": False,
        "do_not_save_samples": False,
        **changes,
    }


@pytest.mark.parametrize("keys", [False, True])
def test_sillytavern_draws(tmp_path: Path, keys: bool) -> None:
    """Every call of `src/endpoints/stable-diffusion.js`, with the body of its extension of 2026."""
    found = keys_of(tmp_path / "keys", "studio") if keys else [{"X-API-Key": ""}]
    auth = f"anything:{found[0]['X-API-Key']}" if keys else ""
    more: dict[str, Any] = {"api_keys_file": tmp_path / "keys"} if keys else {}
    with studio(tmp_path, **more) as service, httpx.Client(timeout=WAIT_S) as http:
        root, headers = f"{service.url}/sdapi/v1", basic(auth)

        def got(path: str) -> Any:
            reply = http.get(f"{root}/{path}", headers=headers)
            assert reply.status_code == 200, reply.text
            return reply.json()

        options = got("options")  # a ping, and before each picture
        assert options["sd_model_checkpoint"] == "tiny"
        assert "forge_preset" not in options
        for names in ("upscalers", "latent-upscale-modes", "samplers", "schedulers"):
            assert all(entry["name"] for entry in got(names)), names
        for names in ("sd-vae", "sd-modules"):
            assert [entry["model_name"] for entry in got(names)] == []
        assert [entry["title"] for entry in got("sd-models")] == ["tiny"]
        chosen = {"sd_model_checkpoint": "tiny"}
        assert http.post(f"{root}/options", json=chosen, headers=headers).status_code == 200
        progress = got("progress")  # until the model is loaded
        assert (progress["progress"], progress["state"]["job_count"]) == (0.0, 0)
        body = of_sillytavern(service.url, auth, seed=7)
        reply = http.post(f"{root}/txt2img", json=body, headers=headers)
        assert reply.status_code == 200, reply.text
        assert Image.open(io.BytesIO(base64.b64decode(reply.json()["images"][0]))).size == (64, 64)
        params = newest(service, "studio" if keys else "local")["params"]
        assert (params["seed"], params["steps"], params["scheduler"]) == (7, 5, "euler")
        assert json.loads(reply.json()["info"])["notes"] == []
        if keys:
            assert auth not in reply.text
        assert http.post(f"{root}/interrupt", headers=headers).status_code == 200


def test_all_that_sillytavern_can_switch_on_is_drawn_without_and_named(service: Site) -> None:
    faces = {"ADetailer": {"args": [True, True, {"ad_model": "face_yolov8n.pt"}]}}
    body = of_sillytavern(
        service.url,
        "",
        restore_faces=True,
        enable_hr=True,
        hr_scale=2,
        hr_second_pass_steps=10,
        clip_skip=2,
        override_settings={"CLIP_stop_at_last_layers": 2, "sd_vae": "mine.safetensors"},
        alwayson_scripts=faces,
    )
    reply = post(service, "txt2img", **body)
    assert reply.status_code == 200, reply.text
    assert json.loads(reply.json()["info"])["notes"] == [
        "ignored: restore_faces, enable_hr, hr_second_pass_steps, alwayson_scripts, "
        "override_settings.sd_vae",
    ]
    assert newest(service)["params"]["clip_skip"] == 2


@pytest.mark.parametrize("keys", [False, True])
def test_open_webui_draws(tmp_path: Path, keys: bool) -> None:
    """Every call of its `routers/images.py`: where nothing was typed in, `authorization` is empty."""
    found = keys_of(tmp_path / "keys", "studio") if keys else [{"X-API-Key": ""}]
    headers = basic(f"x:{found[0]['X-API-Key']}") if keys else {"Authorization": ""}
    more: dict[str, Any] = {"api_keys_file": tmp_path / "keys"} if keys else {}
    with studio(tmp_path, **more) as service, httpx.Client(timeout=WAIT_S, headers=headers) as http:
        root = f"{service.url}/sdapi/v1"
        options = http.get(f"{root}/options").json()
        assert options["sd_model_checkpoint"] == "tiny"
        (model,) = http.get(f"{root}/sd-models").json()
        assert (model["title"], model["model_name"]) == ("tiny", "tiny")
        # It sends all options back when another model is chosen.
        assert http.post(f"{root}/options", json=options).status_code == 200
        body = {"prompt": "a key", "batch_size": 2, "width": 64, "height": 64}
        more = {"steps": 5, "negative_prompt": "text"}
        typed_in = {"cfg_scale": 3, "sampler_name": "Euler", "scheduler": "automatic"}
        for sent in (body, {**body, **more, **typed_in}):
            reply = http.post(f"{root}/txt2img", json=sent)
            assert reply.status_code == 200, reply.text
            assert len(reply.json()["images"]) == 2
            assert isinstance(reply.json()["info"], str)
        job = newest(service, "studio" if keys else "local")
        assert job["params"]["subject_negative"] == "text"


def test_lists_without_anything_are_there(service: Site) -> None:
    root = f"{service.url}/sdapi/v1"
    with httpx.Client(timeout=WAIT_S) as http:
        assert all(entry["name"] for entry in http.get(f"{root}/prompt-styles").json())
        for name in ("sd-vae", "sd-modules", "latent-upscale-modes", "loras", "hypernetworks"):
            assert http.get(f"{root}/{name}").json() == [], name
        assert http.head(f"{root}/options").status_code == 200


def test_the_package_lists_what_there_is(service: Site) -> None:
    api = client_of(service)
    assert api.util_get_model_names() == ["tiny"]
    assert api.util_get_current_model() == "tiny"
    api.util_set_model("tin")  # finds the nearest
    assert api.util_get_sampler_names() == ["DDIM", "Euler"]
    assert "uniform" in api.util_get_scheduler_names()
    assert [style["name"] for style in api.get_prompt_styles()] == ["icon"]
    assert api.get_scripts() == {"txt2img": [], "img2img": []}
    assert api.get_embeddings() == {"loaded": {}, "skipped": {}}
    assert api.get_cmd_flags() == {}
    assert api.get_memory()["ram"]["total"] == 0
    assert api.refresh_checkpoints() is None
    assert api.get_sd_vae() == api.get_loras() == api.get_face_restorers() == []


def test_the_package_draws_from_a_picture(service: Site) -> None:
    api = client_of(service)
    start = picture()
    api.img2img(images=[start], denoising_strength=0.5, **SMALL)
    params = newest(service)["params"]
    assert params["strength"] == 0.5
    assert params["init_image"]["upload_id"]
    assert params["mask_image"] is None
    api.img2img(
        images=[start, start], mask_image=Image.new("L", (64, 64), 255), mask_blur=9,
        inpainting_mask_invert=1, **SMALL,
    )  # fmt: skip
    again = newest(service)["params"]
    assert again["init_image"]["sha256"] == params["init_image"]["sha256"]
    assert again["mask_image"]["upload_id"]


def test_a_picture_tells_what_made_it(service: Site) -> None:
    api = client_of(service)
    drawn = api.txt2img(**SMALL, seed=7)
    stored = httpx.get(f"{service.url}/output/{newest(service)['images'][0]['path']}").content
    told = api.png_info(Image.open(io.BytesIO(stored)))
    assert told.info == drawn.info["infotexts"][0]
    assert told.parameters == {"Prompt": "a key", "Seed": 7}
    assert api.png_info(picture()).info == ""


def test_a_picture_is_enlarged(service: Site) -> None:
    api = client_of(service)
    large = api.extra_single_image(picture((20, 10)), upscaling_resize=3, upscaler_1="Nearest")
    assert large.image.size == (60, 30)
    cut = api.extra_single_image(
        picture((20, 10)), resize_mode=1, upscaling_resize_w=30, upscaling_resize_h=30,
        upscaler_1="Lanczos",
    )  # fmt: skip
    assert cut.image.size == (30, 30)
    both = api.extra_batch_images([picture((4, 4)), picture((6, 6))], upscaling_resize=2)
    assert [image.size for image in both.images] == [(8, 8), (12, 12)]


def test_progress_is_of_this_clients_own_order(tmp_path: Path) -> None:
    with speaking(tmp_path) as service, ThreadPoolExecutor() as pool:
        api = client_of(service)
        assert api.get_progress()["progress"] == 0
        drawing = pool.submit(api.txt2img, **SMALL)
        job_id = service.do(_launched, service)
        api.get_progress()  # from now on there are previews
        service.do(_looks, service, job_id)
        seen = api.get_progress()
        assert (seen["progress"], seen["state"]["sampling_step"]) == (0.5, 3)
        assert (seen["state"]["job_count"], seen["state"]["job"]) == (1, job_id)
        assert Image.open(io.BytesIO(base64.b64decode(seen["current_image"]))).size == (16, 16)
        url = f"{service.url}/sdapi/v1/progress"
        quiet = httpx.get(url, params={"skip_current_image": "true"}).json()
        assert quiet["current_image"] is None
        other = httpx.get(url, headers={"X-Client-Id": "ben"}).json()
        assert (other["progress"], other["state"]["job_count"]) == (0, 0)
        httpx.post(f"{service.url}/sdapi/v1/interrupt", headers={"X-Client-Id": "ben"})
        assert api.get_progress()["state"]["job_count"] == 1
        service.do(draw, service.world, job_id, [picture()])
        assert len(drawing.result(WAIT_S).images) == 1
        assert api.get_progress()["state"]["job_count"] == 0


async def _launched(service: Site) -> str:
    await service.world.until(lambda: service.world.launcher.running)
    ((job_id, fence),) = service.world.launcher.running
    await service.world.started(job_id, fence)
    return job_id


async def _looks(service: Site, job_id: str) -> None:
    assert await service.world.preview(job_id, 1, 0, png(picture((16, 16))))
    progress = {
        "value": 0.5, "step": 3, "steps": 6, "image": 0, "images": 1, "stage": "denoising",
    }  # fmt: skip
    assert await service.world.progress(job_id, 1, progress)


def test_interrupt_cancels_what_this_client_ordered_here(tmp_path: Path) -> None:
    with speaking(tmp_path) as service, ThreadPoolExecutor() as pool:
        api = client_of(service)
        other = httpx.post(f"{service.url}/v1/generate", json={"prompt": "a", "style_id": "icon"})
        drawing = pool.submit(post, service, "txt2img", **SMALL)
        service.do(service.world.until, lambda: len(service.world.launcher.running) == 2)
        assert api.interrupt() == {}
        reply = drawing.result(WAIT_S)
        assert (reply.status_code, reply.json()["code"]) == (409, "cancelled")
        kept = httpx.get(f"{service.url}/v1/jobs/{other.json()['job_id']}").json()
        assert kept["status"] in ("PENDING", "STARTED")


def test_a_key_may_be_the_password(tmp_path: Path) -> None:
    (key,) = keys_of(tmp_path / "keys", "studio")
    with studio(tmp_path, api_keys_file=tmp_path / "keys") as service:
        api = client_of(service, username="anything", password=key["X-API-Key"])
        assert len(api.txt2img(**SMALL).images) == 1
        wrong = httpx.get(f"{service.url}/sdapi/v1/options", auth=("anything", "wrong"))
        assert (wrong.status_code, wrong.json()["code"]) == (401, "unauthorized")
        for odd in ("Basic", "Basic ?", "Basic AAAA"):
            url = f"{service.url}/sdapi/v1/options"
            assert httpx.get(url, headers={"Authorization": odd}).status_code == 401
        elsewhere = httpx.get(f"{service.url}/v1/jobs", auth=("x", key["X-API-Key"]))
        assert elsewhere.status_code == 401


def test_of_several_models_an_order_names_one(tmp_path: Path) -> None:
    """With the samplers of that one. Options, which would hold for every later order, are refused."""
    models = Models({**MODELS, "other": OTHER.model_copy(update={"schedulers": ["lcm"]})}, "tiny")
    with studio(tmp_path, served=["tiny", "other"], models=models) as service:
        assert client_of(service).util_get_model_names() == ["other", "tiny"]
        other = {"override_settings": {"sd_model_checkpoint": "other [0123]"}}
        for sampler, scheduler in ("LCM", "lcm"), ("Euler", "lcm"):
            assert (
                post(service, "txt2img", **SMALL, **other, sampler_name=sampler).status_code == 200
            )
            params = newest(service)["params"]
            assert (params["model"], params["scheduler"]) == ("other", scheduler)
        error = refused(service, "options", sd_model_checkpoint="other")
        assert "name it in `override_settings` of each order" in error["detail"]


def test_what_is_wrong_is_named(service: Site) -> None:
    assert "batch_size" in refused(service, "txt2img", **SMALL, batch_size=0)["errors"]
    error = refused(service, "txt2img", **SMALL, sampler_name="Eulerian")
    assert "sampler_name" in error["errors"]
    assert "Euler" in error["detail"]
    other = {"override_settings": {"sd_model_checkpoint": "other"}}
    assert "sd_model_checkpoint" in refused(service, "txt2img", **SMALL, **other)["errors"]
    assert "sd_model" in refused(service, "options", sd_model_checkpoint="other")["errors"]
    for text in ("%%%", "data:image/png;base64,", "", "aGVsbG8="):
        error = refused(service, "img2img", **SMALL, init_images=[text])
        assert "init_images.0" in error["errors"]
        assert "image" in refused(service, "png-info", image=text)["errors"]
        assert "image" in refused(service, "extra-single-image", image=text)["errors"]
    assert "init_images" in refused(service, "img2img", **SMALL)["errors"]
    start, mask = in_base64(picture()), in_base64(Image.new("L", (32, 32)))
    error = refused(service, "img2img", **SMALL, init_images=[start], mask=mask)
    assert "mask" in error["errors"]
    assert "64x64" in refused(service, "txt2img", prompt="a", width=512, height=512)["detail"]
    assert "prompt" in refused(service, "txt2img", width=64)["errors"]
    assert "styles" in refused(service, "txt2img", **SMALL, styles=["icon", "icon"])["errors"]
    assert "loras" in refused(service, "txt2img", prompt="a <lora:ink:0.8> key")["errors"]
    cut = png(picture((40, 40)))[:400]
    error = refused(service, "extra-single-image", image=base64.b64encode(cut).decode())
    assert "image" in error["errors"]
    assert (
        "upscaler_1"
        in refused(service, "extra-single-image", image=start, upscaler_1="x")["errors"]
    )
    huge = in_base64(Image.new("1", (5000, 5000)))
    assert "pixels" in refused(service, "extra-single-image", image=huge)["detail"]
    assert (
        "pixels"
        in refused(
            service,
            "extra-single-image",
            image=in_base64(picture((2000, 2000))),
            upscaling_resize=8,
        )["detail"]
    )


def test_odd_values_are_answered_like_others(service: Site) -> None:
    """What JSON can hold, where something else is meant."""
    assert "tags" in refused(service, "txt2img", **SMALL, tags=5)["errors"]
    assert "seed" in refused(service, "txt2img", **{**SMALL, "seed": 7.5})["errors"]
    assert "n" in refused(service, "txt2img", **SMALL, batch_size=10**9, n_iter=10**9)["errors"]
    clip = {"override_settings": {"CLIP_stop_at_last_layers": "two"}}
    assert "clip_skip" in refused(service, "txt2img", **SMALL, **clip)["errors"]
    model = {"override_settings": {"sd_model_checkpoint": [1]}}
    assert "sd_model_checkpoint" in refused(service, "txt2img", **SMALL, **model)["errors"]
    odd = {"metadata": {"odd": "\ud800"}}
    content = json.dumps({**SMALL, **odd})
    kind = {"content-type": "application/json"}
    reply = httpx.post(f"{service.url}/sdapi/v1/txt2img", content=content, headers=kind)
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_field")
    assert post(service, "txt2img", **SMALL, sampler_index=3).status_code == 200


def test_a_job_that_fails_says_why(service: Site) -> None:
    reply = post(service, "txt2img", **{**SMALL, "prompt": "fail"})
    assert (reply.status_code, reply.json()["code"]) == (502, "non_finite")


def test_without_the_setting_there_are_no_such_routes(tmp_path: Path) -> None:
    with speaking(tmp_path, dialects=["openai"]) as service:
        reply = httpx.get(f"{service.url}/sdapi/v1/options")
        assert (reply.status_code, reply.json()["code"]) == (404, "not_found")
