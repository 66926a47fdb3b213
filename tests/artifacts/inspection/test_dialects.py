"""What other programs write into pictures is read back, and an independent reader agrees where it can."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from PIL import Image
from sd_parsers import ParserManager

from serve_app.artifacts.inspection.inspect import inspect
from serve_app.artifacts.inspection.recipe import Recipe, scheduler_of
from serve_app.artifacts.png import with_metadata
from serve_app.catalog.schedulers import SCHEDULERS
from tests.artifacts.inspection import samples
from tests.artifacts.pictures import JOB, PARAMS, rendered

MAX_PIXELS = 2**20


def recipe(data: bytes) -> Recipe:
    found = inspect(data, MAX_PIXELS).recipe
    assert found is not None
    return found


FILES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "automatic1111": (
        samples.png(parameters=samples.A1111),
        {
            "prompt": "a knight, (red cape:1.2),\nsecond line",
            "negative_prompt": "blurry, bad hands\nand more",
            "seed": 965400086,
            "steps": 20,
            "guidance_scale": 7.5,
            "width": 512,
            "height": 768,
            "scheduler": "dpmpp_2m_karras",
        },
    ),
    "comfyui": (
        samples.png(prompt=json.dumps(samples.GRAPH), workflow='{"links": []}'),
        {
            "prompt": "a castle on a hill",
            "negative_prompt": "watermark",
            "seed": 156680208700286,
            "steps": 25,
            "guidance_scale": 8.0,
            "width": 1024,
            "height": 576,
            "scheduler": "euler_a",
        },
    ),
    "invokeai": (
        samples.png(invokeai_metadata=json.dumps(samples.INVOKE)),
        {
            "prompt": "a dragon",
            "negative_prompt": "text",
            "seed": 7,
            "steps": 30,
            "guidance_scale": 5.5,
            "width": 1024,
            "height": 1024,
            "scheduler": "dpmpp_2m_karras",
        },
    ),
    "novelai": (
        samples.png(
            Software="NovelAI",
            Description="a witch",
            Source="Stable Diffusion F1022D28",
            Comment=json.dumps(samples.NOVEL),
        ),
        {
            "prompt": "a witch",
            "negative_prompt": "lowres",
            "seed": 99,
            "steps": 28,
            "guidance_scale": 6.0,
            "width": 832,
            "height": 1216,
            "scheduler": "euler_a",
        },
    ),
    "swarmui": (
        samples.png(parameters=json.dumps(samples.SWARM)),
        {
            "prompt": "a ship",
            "negative_prompt": "fog",
            "seed": 11,
            "steps": 12,
            "guidance_scale": 4.0,
            "width": 640,
            "height": 448,
            "scheduler": "euler",
        },
    ),
    "fooocus": (
        samples.png(parameters=json.dumps(samples.FOOOCUS)),
        {
            "prompt": "a lamp",
            "negative_prompt": "dark",
            "seed": 123,
            "steps": 30,
            "guidance_scale": 4.0,
            "width": 1152,
            "height": 896,
            "scheduler": "dpmpp_2m_sde_karras",
        },
    ),
    "draw_things": (
        samples.draw_things(),
        {
            "prompt": "a robot",
            "negative_prompt": "rust",
            "seed": 3,
            "steps": 20,
            "guidance_scale": 7.0,
            "width": 512,
            "height": 512,
            "scheduler": "dpmpp_2m_karras",
        },
    ),
}


@pytest.mark.parametrize("program", FILES)
def test_each_program_is_read_and_gives_an_order(program: str) -> None:
    data, order = FILES[program]
    found = recipe(data)
    assert found.program == program
    assert found.order == {"style_id": "none", **order}


def test_our_own_file_gives_the_order_in_its_record() -> None:
    found = recipe(with_metadata(rendered(1), PARAMS, JOB, 3))
    assert found.program == "ai-asset-generator"
    assert found.record["job_id"] == JOB
    assert found.order == found.record["order"]
    assert found.order["seed"] == PARAMS.seed + 1


@pytest.mark.parametrize("program", ["automatic1111", "comfyui", "novelai", "fooocus"])
def test_an_independent_reader_sees_the_same(program: str) -> None:
    """sd-parsers knows four of them."""
    data, order = FILES[program]
    with Image.open(io.BytesIO(data)) as image:
        theirs = ParserManager().parse(image)
    assert theirs is not None
    (sampler,) = theirs.samplers
    assert sampler.parameters["seed"] in (order["seed"], str(order["seed"]))
    assert float(sampler.parameters["cfg_scale"]) == order["guidance_scale"]
    if program != "comfyui":  # it does not follow a text that a node of its own holds
        assert [p.value for p in sampler.prompts] == [order["prompt"]]
        assert [p.value for p in sampler.negative_prompts] == [order["negative_prompt"]]


def test_an_independent_reader_reads_our_own_file() -> None:
    with Image.open(io.BytesIO(with_metadata(rendered(0), PARAMS, JOB, 1))) as image:
        theirs = ParserManager().parse(image)
    assert theirs is not None
    (sampler,) = theirs.samplers
    assert sampler.parameters["seed"] == str(PARAMS.seed)


@pytest.mark.parametrize("kind", ["WEBP", "JPEG"])
@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le"])
def test_infotext_is_read_from_exif(kind: str, encoding: str) -> None:
    comment = b"UNICODE\0" + samples.A1111.encode(encoding)
    assert recipe(samples.with_exif(kind, comment)).seed == 965400086


def test_comfyui_is_read_from_webp() -> None:
    """Its own node for WebP writes `prompt:{...}` into the tag Model."""
    said = ("prompt:" + json.dumps(samples.GRAPH)).encode()
    assert recipe(samples.with_exif("WEBP", said, tag=0x0110)).prompt == "a castle on a hill"


def test_a_sampler_of_several_nodes_is_put_together() -> None:
    found = recipe(samples.png(prompt=json.dumps(samples.FLUX_GRAPH)))
    assert (found.prompt, found.seed, found.steps) == ("a fox", 42, 4)
    assert (found.model, found.width) == ("flux.safetensors", 512)


@pytest.mark.parametrize(
    "graph",
    [
        {},
        {"1": "x", "2": {"inputs": 3}, "3": {"inputs": {}}},
        {"1": {"inputs": {"seed": ["1", 0], "steps": ["1", 0], "positive": ["1", 0]}}},
        {"1": {"inputs": {"noise": ["1", 0], "sigmas": ["2", 0], "guider": ["9", 0]}}},
        {"1": {"inputs": {"seed": {"a": 1}, "steps": None, "positive": ["1"], "negative": [1, 2, 3]}}},
    ],
)  # fmt: skip
def test_a_broken_or_circular_graph_gives_what_there_is(graph: dict[str, Any]) -> None:
    found = inspect(samples.png(prompt=json.dumps(graph)), MAX_PIXELS).recipe
    assert found is None or found.prompt == ""


@pytest.mark.parametrize(
    "text",
    ["", "a prompt", "Steps: 20", "a\nSteps: 1, Seed: 2", '{"a": 1', "[1]", "Steps:,:,:,:" * 5000],
)
def test_a_text_that_is_nothing_is_no_recipe(text: str) -> None:
    assert inspect(samples.png(parameters=text), MAX_PIXELS).recipe is None


def test_every_scheduler_is_found_again_by_what_our_files_call_it() -> None:
    """Two that only place their steps otherwise share a name with another."""
    for name, spec in SCHEDULERS.items():
        assert scheduler_of(spec.sampler, spec.schedule or "") == name


@pytest.mark.parametrize(
    ("sampler", "schedule", "name"),
    [
        ("DPM++ 2M Karras", "", "dpmpp_2m_karras"),
        ("Euler a", "Automatic", "euler_a"),
        ("dpmpp_2m", "karras", "dpmpp_2m_karras"),
        ("uni_pc", "normal", "unipc"),
        ("Restart", "Karras", None),
        ("", "", None),
    ],
)
def test_a_sampler_of_others_has_a_name_here_or_none(
    sampler: str, schedule: str, name: str | None
) -> None:
    assert scheduler_of(sampler, schedule) == name
