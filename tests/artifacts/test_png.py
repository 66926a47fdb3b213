"""What a finished PNG says about itself, and that its pixels are those of the renderer."""

from __future__ import annotations

import io
import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from serve_app.artifacts.png import infotext, with_metadata
from serve_app.catalog.models import Models
from serve_app.catalog.resolve import Order, resolve
from serve_app.catalog.styles import Styles
from serve_app.catalog.syntax import as_words
from serve_app.params import GenerationParams
from tests.artifacts.pictures import JOB, PARAMS, rendered
from tests.factories import model_spec


def chunks_of(data: bytes) -> dict[str, Any]:
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        return dict(picture.text)  # pyright: ignore[reportAttributeAccessIssue]


def chunks_in_file(
    index: int = 0, params: GenerationParams = PARAMS, fence: int = 1
) -> dict[str, Any]:
    return chunks_of(with_metadata(rendered(index), params, JOB, fence))


# ---- pixels and record ----


@pytest.mark.parametrize(("mode", "color"), [("RGB", (200, 30, 40)), ("RGBA", (1, 2, 3, 4))])
def test_the_pixels_are_those_the_renderer_sent(mode: str, color: tuple[int, ...]) -> None:
    """Chunks are inserted after the header; all other bytes stay as they are."""
    image = rendered(0, color, mode)
    data = with_metadata(image, PARAMS, JOB, 1)
    with Image.open(io.BytesIO(data)) as stored, Image.open(io.BytesIO(image["data"])) as sent:
        assert (stored.mode, stored.size) == (mode, (24, 16))
        assert stored.tobytes() == sent.tobytes()
    assert data.startswith(image["data"][:33])
    assert data.endswith(image["data"][33:])


def test_the_record_holds_everything_that_is_known() -> None:
    """The resolved params, what drew the image, and its notes."""
    record = json.loads(chunks_in_file(1, fence=5)["job"])
    assert (record["schema"], record["job_id"]) == (1, JOB)
    assert (record["index"], record["fence"]) == (1, 5)
    assert GenerationParams.model_validate(record["params"]) == PARAMS
    assert record["made_by"]["dtype"] == "float32"
    assert record["notes"] == rendered(1)["notes"]


def test_an_image_can_be_ordered_again_from_its_file_alone() -> None:
    """The order in the record resolves to the same picture, without the style it came from."""
    order = json.loads(chunks_in_file(2)["job"])["order"]
    spec = model_spec("starter", native_size=(24, 16), schedulers=["ddim", PARAMS.scheduler])
    again = resolve(
        Order(**order),
        styles=Styles({}),
        models=Models({"starter": spec}, "starter"),
        active="starter",
        revision_of=lambda _: PARAMS.model_revision,
        limits=Bounds(),
    )
    kept = {"style_id", "style_revision", "subject", "subject_negative", "seed", "n"}
    assert again.model_dump(exclude=kept) == PARAMS.model_dump(exclude=kept)
    assert (again.seed, again.n) == (9, 1)


class Bounds:
    max_images, max_pixels, max_prompt_chars = 16, 10**6, 2000


def test_machines_can_read_that_a_model_made_it() -> None:
    """The IPTC's digital source type as XMP, and the name of this software."""
    chunks = chunks_in_file()
    name = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    source = ElementTree.fromstring(chunks["XML:com.adobe.xmp"]).find(f".//{name}")
    assert source is not None
    assert str(source.text).endswith("/digitalsourcetype/trainedAlgorithmicMedia")
    assert chunks["Software"].startswith("AI Asset Generator ")


# ---- the `parameters` text ----

PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def read_infotext(text: str) -> tuple[str, str, dict[str, str]]:
    """Reads the format as other programs do: prompt, negative prompt, settings from the last line."""
    *lines, last = text.split("\n")
    pairs = PAIR.findall(last)
    assert len(pairs) >= 3, "with fewer pairs, readers take the last line for a part of the prompt"
    values = {key: json.loads(v) if v.startswith('"') else v for key, v in pairs}
    start = next((i for i, t in enumerate(lines) if t.startswith("Negative prompt:")), len(lines))
    negative = "\n".join(lines[start:]).removeprefix("Negative prompt:").strip()
    return "\n".join(lines[:start]).strip(), negative, values


def words_of(text: str) -> str:
    """Reads a prompt as AUTOMATIC1111's web UI does, and fails where it would not take it for words."""
    assert not re.search(r"<\w+:[^>]+>", text), "a LoRA or another network"
    assert not re.search(r"\b(BREAK|AND)\b", text), "the end of a part of the prompt"
    tokens = re.findall(r"\\.|.", text, re.DOTALL)
    assert not {"(", ")", "[", "]", "\\"} & set(tokens), "a weight"
    return "".join(token[-1] for token in tokens)


def test_the_parameters_text_is_as_other_programs_write_it() -> None:
    """Prompt, negative prompt, one line of settings; the seed is this image's."""
    version = infotext(PARAMS, 0).rpartition("Version: ")[2]
    assert infotext(PARAMS, 2) == (
        "a red potion, game icon\n"
        "Negative prompt: text\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4, Seed: 9, Size: 24x16, "
        f"Model hash: 45dee52b01, Model: starter, RNG: CPU, Version: {version}"
    )


def test_what_does_not_apply_is_left_out() -> None:
    """The line of an empty negative prompt, and the schedule of a sampler that has only one."""
    text = infotext(PARAMS.model_copy(update={"negative_prompt": "", "scheduler": "ddim"}), 0)
    assert "Negative prompt" not in text
    assert "Sampler: DDIM, CFG scale" in text


@pytest.mark.parametrize(("ours", "theirs"), [(0.0, "1"), (1.0, "1"), (7.5, "7.5"), (12.0, "12")])
def test_guidance_is_given_in_the_scale_of_that_format(ours: float, theirs: str) -> None:
    """No guidance is 1 there, and 0 or 1 here."""
    text = infotext(PARAMS.model_copy(update={"guidance_scale": ours}), 0)
    assert read_infotext(text)[2]["CFG scale"] == theirs


def test_a_value_with_a_comma_is_quoted() -> None:
    """Otherwise a reader would end it at the comma."""
    text = infotext(PARAMS.model_copy(update={"model": 'a, "b": c'}), 0)
    assert read_infotext(text)[2]["Model"] == 'a, "b": c'


@pytest.mark.parametrize(
    "prompt",
    [
        "red, round: a potion, (glowing:1.3)",
        'a sign that says "Steps: 20, Sampler: Euler"',
        "first line\nsecond: line, with a comma",
        "ein Drache, größer als ein Haus",
        "赤いポーション、ゲームアイコン",
        "Steps: 20, Sampler: Euler a, Seed: 3",
        "🧪 potion \\ backslash",
    ],
)
def test_any_prompt_can_be_read_from_the_file(prompt: str) -> None:
    """Commas, colons, quotes, line breaks and other scripts."""
    params = PARAMS.model_copy(update={"prompt": prompt, "negative_prompt": f"no {prompt}"})
    chunks = chunks_in_file(params=params)
    read, negative, values = read_infotext(chunks["parameters"])
    assert (words_of(read), words_of(negative)) == (prompt, f"no {prompt}")
    assert (values["Seed"], values["Size"]) == ("7", "24x16")
    assert json.loads(chunks["job"])["params"]["prompt"] == prompt


visible = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1)


@given(visible.map(str.strip).filter(bool), visible.map(str.strip))
def test_any_words_survive_the_parameters_text(prompt: str, negative: str) -> None:
    """Except a prompt that begins like the format's own second line: no reader could tell them apart."""
    if prompt.startswith("Negative prompt:"):
        return
    params = PARAMS.model_copy(update={"prompt": prompt, "negative_prompt": negative})
    read = read_infotext(infotext(params, 0))[:2]
    assert tuple(map(words_of, read)) == (prompt, negative)


def test_the_parameters_text_claims_no_weights_and_no_lora() -> None:
    """They were drawn as words, so a program that reads the text must draw the same words. The record, and
    the order in it, have the prompt as it is."""
    prompt = "(masterpiece:1.2), ((best)) [ugly] <lora:x:0.8> BREAK [a|b] AND c\\d"
    params = PARAMS.model_copy(update={"prompt": prompt, "negative_prompt": "(worst:1.4)"})
    chunks = chunks_in_file(params=params)
    read, negative, _ = read_infotext(chunks["parameters"])
    drawn = "(masterpiece:1.2), ((best)) [ugly] < lora:x:0.8> break [a|b] and c\\d"
    assert (words_of(read), words_of(negative)) == (drawn, "(worst:1.4)")
    assert json.loads(chunks["job"])["order"]["prompt"] == prompt


def test_the_words_that_are_read_are_the_tokens_that_were_drawn() -> None:
    """The space in a network's mark and the small letters of BREAK change nothing for CLIP."""
    words = re.compile(
        r"[a-z]+|[0-9]|[^\sa-z0-9]+"
    )  # how CLIP splits a text that it has made small
    prompt = "a <lora:x:0.8> BREAK fox AND <hypernet:y:1> BREAKER sAND"
    assert words.findall(as_words(prompt).lower()) == words.findall(prompt.lower())


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff\xe0" + bytes(40), b"\x89PNG\r\n\x1a\n" + bytes(40)]
)
def test_what_is_not_a_png_is_refused(data: bytes) -> None:
    """Chunks in the middle of another format would destroy it."""
    image = rendered()
    image["data"] = data
    with pytest.raises(ValueError, match="not a PNG"):
        with_metadata(image, PARAMS, JOB, 1)


def test_weights_that_were_read_are_written_as_they_are() -> None:
    """So that the other program reads the same; and the layer under its own name."""
    order = PARAMS.model_copy(
        update={"prompt": "a (red:1.3) fox", "prompt_syntax": "weighted", "clip_skip": 2}
    )
    text = infotext(order, 0)
    assert text.startswith("a (red:1.3) fox\n")
    assert "Clip skip: 2, " in text
