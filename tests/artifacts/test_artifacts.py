"""OutputDir: names, what a file says about itself, and that nothing half-written or overwritten stays."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import re
import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from serve_app.artifacts.names import ArtifactName, parse_name
from serve_app.artifacts.folder import OutputDir
from serve_app.artifacts.png import _reason, infotext
from serve_app.catalog.models import Models, ModelSpec
from serve_app.catalog.resolve import Order, resolve
from serve_app.catalog.styles import NONE
from serve_app.errors import StorageFailed
from serve_app.messages import RenderedImage
from serve_app.params import MAX_SEED, GenerationParams

JOB = "019aad21-8a00-7abc-8def-0123456789ab"  # ordered on DAY, as its first 48 bits say
OTHER = "019aad21-8a00-7abc-8def-0123456789ac"
DAY = "2025-11-22"

PARAMS = GenerationParams(
    prompt="a red potion, game icon",
    negative_prompt="text",
    seed=7,
    n=4,
    width=24,
    height=16,
    steps=20,
    guidance_scale=4.0,
    scheduler="dpmpp_2m_karras",
    model="starter",
    model_revision="45dee52b0123456789abcdef",
    style_id="game_icon",
    style_revision="4be1c9d2aa10",
    subject="a red potion",
)


def rendered(
    index: int = 0, color: tuple[int, ...] = (200, 30, 40), mode: str = "RGB"
) -> RenderedImage:
    """A small PNG, as a renderer sends it."""
    picture = Image.new(mode, (24, 16), color)
    picture.putpixel((3, 5), tuple(255 - c for c in color))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return RenderedImage(
        kind="image",
        index=index,
        seed=7 + index,
        width=24,
        height=16,
        has_alpha=mode == "RGBA",
        data=buffer.getvalue(),
        render_seconds=1.5,
        made_by={"device": "cpu", "dtype": "float32", "threads": 2},
        notes=["prompt_truncated: 31 of 45 tokens used"],
    )


def chunks_of(data: bytes) -> dict[str, Any]:
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        return dict(picture.text)  # pyright: ignore[reportAttributeAccessIssue]


# ---- names ----

names = st.builds(
    ArtifactName,
    style_id=st.from_regex(r"[a-z0-9][a-z0-9_]{0,39}", fullmatch=True),
    seed=st.integers(0, MAX_SEED),
    job_id=st.uuids(version=4).map(lambda u: str(u)[:14] + "7" + str(u)[15:]),
    index=st.integers(0, 100),
    fence=st.integers(0, 10**6),
)


@given(names)
def test_a_name_can_be_read_back(name: ArtifactName) -> None:
    """Whatever underscores and digits the style's id holds."""
    assert parse_name(str(name)) == name


@given(st.text() | names.map(lambda n: f"{n}\n") | names.map(lambda n: f"0{n}".replace("_", "_0")))
def test_only_our_own_names_are_read(text: str) -> None:
    """What is parsed is spelled exactly as we would have spelled it."""
    parsed = parse_name(text)
    assert parsed is None or str(parsed) == text


def test_a_file_lies_under_the_day_of_its_job(tmp_path: Path) -> None:
    """The day comes from the job's id, so that an attempt after midnight does not move it."""
    file = OutputDir(tmp_path).write(rendered(2), PARAMS, JOB, 3)
    assert file["path"] == f"{DAY}/game_icon_9_{JOB}_2_3.png"
    assert (tmp_path / file["path"]).is_file()


# ---- content ----


@pytest.mark.parametrize(("mode", "color"), [("RGB", (200, 30, 40)), ("RGBA", (1, 2, 3, 4))])
def test_the_pixels_are_those_the_renderer_sent(
    tmp_path: Path, mode: str, color: tuple[int, ...]
) -> None:
    """The encoded image data is not touched: the file is the renderer's PNG with chunks put in."""
    image = rendered(0, color, mode)
    file = OutputDir(tmp_path).write(image, PARAMS, JOB, 1)
    data = (tmp_path / file["path"]).read_bytes()
    with Image.open(io.BytesIO(data)) as stored, Image.open(io.BytesIO(image["data"])) as sent:
        assert (stored.mode, stored.size) == (mode, (24, 16))
        assert stored.tobytes() == sent.tobytes()
    assert data.startswith(image["data"][:33])
    assert data.endswith(image["data"][33:])


def test_the_answer_describes_the_file(tmp_path: Path) -> None:
    """Size and hash are those of the bytes on disk."""
    file = OutputDir(tmp_path).write(rendered(1), PARAMS, JOB, 1)
    data = (tmp_path / file["path"]).read_bytes()
    assert (file["size_bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert (file["index"], file["seed"], file["width"], file["height"]) == (1, 8, 24, 16)
    assert (file["content_type"], file["has_alpha"]) == ("image/png", False)
    assert file["notes"] == ["prompt_truncated: 31 of 45 tokens used"]


def test_the_record_holds_everything_we_know(tmp_path: Path) -> None:
    """The resolved order, who made it, and what a buyer should know."""
    file = OutputDir(tmp_path).write(rendered(1), PARAMS, JOB, 5)
    record = json.loads(chunks_of((tmp_path / file["path"]).read_bytes())["job"])
    assert (record["schema"], record["job_id"]) == (1, JOB)
    assert (record["index"], record["fence"]) == (1, 5)
    assert GenerationParams.model_validate(record["params"]) == PARAMS
    assert record["made_by"]["dtype"] == "float32"
    assert record["notes"] == file["notes"]


def test_an_image_can_be_ordered_again_from_its_file_alone(tmp_path: Path) -> None:
    """The order in the record resolves to the same picture, without the style it came from."""
    file = OutputDir(tmp_path).write(rendered(2), PARAMS, JOB, 1)
    order = json.loads(chunks_of((tmp_path / file["path"]).read_bytes())["job"])["order"]
    spec = ModelSpec(
        name="starter",
        family="sd",
        path="weights",
        native_size=(24, 16),
        steps=9,
        guidance_scale=1,
        schedulers=["ddim", PARAMS.scheduler],
    )
    again = resolve(
        Order(**order),
        styles={"none": NONE},
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


def test_machines_are_told_that_a_model_made_it(tmp_path: Path) -> None:
    """The IPTC's digital source type as XMP, and our name as Software."""
    file = OutputDir(tmp_path).write(rendered(), PARAMS, JOB, 1)
    chunks = chunks_of((tmp_path / file["path"]).read_bytes())
    name = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    source = ElementTree.fromstring(chunks["XML:com.adobe.xmp"]).find(f".//{name}")
    assert source is not None
    assert str(source.text).endswith("/digitalsourcetype/trainedAlgorithmicMedia")
    assert chunks["Software"].startswith("AI Asset Generator ")


# ---- the `parameters` text ----

PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def read_infotext(text: str) -> tuple[str, str, dict[str, str]]:
    """A reader of the format as other programs have it: prompt, negative prompt, the last line."""
    *lines, last = text.split("\n")
    pairs = PAIR.findall(last)
    assert len(pairs) >= 3, "readers take a last line with fewer pairs for prompt"
    values = {key: json.loads(v) if v.startswith('"') else v for key, v in pairs}
    start = next((i for i, t in enumerate(lines) if t.startswith("Negative prompt:")), len(lines))
    negative = "\n".join(lines[start:]).removeprefix("Negative prompt:").strip()
    return "\n".join(lines[:start]).strip(), negative, values


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
    """No negative prompt, no line; a sampler with one schedule does not name it."""
    text = infotext(PARAMS.model_copy(update={"negative_prompt": "", "scheduler": "ddim"}), 0)
    assert "Negative prompt" not in text
    assert "Sampler: DDIM, CFG scale" in text


@pytest.mark.parametrize(("ours", "theirs"), [(0.0, "1"), (1.0, "1"), (7.5, "7.5"), (12.0, "12")])
def test_guidance_is_said_in_their_scale(ours: float, theirs: str) -> None:
    """No guidance is 1 there, also when it is 0 here."""
    text = infotext(PARAMS.model_copy(update={"guidance_scale": ours}), 0)
    assert read_infotext(text)[2]["CFG scale"] == theirs


def test_a_value_with_a_comma_is_quoted() -> None:
    """Or the reader would end it there."""
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
def test_any_prompt_can_be_read_from_the_file(tmp_path: Path, prompt: str) -> None:
    """Commas, colons, quotes, line breaks and other scripts."""
    params = PARAMS.model_copy(update={"prompt": prompt, "negative_prompt": f"no {prompt}"})
    file = OutputDir(tmp_path).write(rendered(), params, JOB, 1)
    chunks = chunks_of((tmp_path / file["path"]).read_bytes())
    read, negative, values = read_infotext(chunks["parameters"])
    assert (read, negative) == (prompt, f"no {prompt}")
    assert (values["Seed"], values["Size"]) == ("7", "24x16")
    assert json.loads(chunks["job"])["params"]["prompt"] == prompt


visible = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1)


@given(visible.map(str.strip).filter(bool), visible.map(str.strip))
def test_any_words_survive_the_parameters_text(prompt: str, negative: str) -> None:
    """Except words that look like the format's own second line, which no reader could tell apart."""
    if prompt.startswith("Negative prompt:"):
        return
    params = PARAMS.model_copy(update={"prompt": prompt, "negative_prompt": negative})
    assert read_infotext(infotext(params, 0))[:2] == (prompt, negative)


# ---- failures ----


def everything_in(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir())


@contextmanager
def files_at_most(size: int) -> Generator[None]:
    """A real write error half-way: the kernel refuses to let any file grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    """And it works again as soon as there is room."""
    output = OutputDir(tmp_path)
    with files_at_most(100), pytest.raises(StorageFailed) as caught:
        output.write(rendered(), PARAMS, JOB, 1)
    assert caught.value.code == "storage_failed"
    assert str(tmp_path) not in caught.value.detail
    assert everything_in(tmp_path) == []
    assert output.write(rendered(), PARAMS, JOB, 1)["path"] in everything_in(tmp_path)


def test_a_directory_that_cannot_be_used_is_a_storage_failure(tmp_path: Path) -> None:
    """Here a file stands where the directory should be."""
    (tmp_path / "output").write_text("")
    with pytest.raises(StorageFailed, match="output directory"):
        OutputDir(tmp_path / "output").write(rendered(), PARAMS, JOB, 1)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "may not write there"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_the_reason_is_in_plain_words_and_names_no_path(number: int, words: str) -> None:
    """An operator knows what to do, a client learns nothing of the machine."""
    reason = _reason(OSError(number, "Input/output error", "/srv/output/secret.png"))
    assert words in reason
    assert "/srv" not in reason


def test_a_stored_image_is_never_overwritten(tmp_path: Path) -> None:
    """A second write of the same name fails, and the first file is as it was."""
    output = OutputDir(tmp_path)
    path = tmp_path / output.write(rendered(), PARAMS, JOB, 1)["path"]
    before = path.read_bytes()
    with pytest.raises(StorageFailed, match="stored already"):
        output.write(rendered(color=(9, 9, 9)), PARAMS, JOB, 1)
    assert path.read_bytes() == before
    assert len(everything_in(tmp_path)) == 1


def test_attempts_do_not_meet(tmp_path: Path) -> None:
    """Each has its fence in the name."""
    output = OutputDir(tmp_path)
    paths = {output.write(rendered(), PARAMS, JOB, fence)["path"] for fence in (1, 2)}
    assert paths == set(everything_in(tmp_path))


def test_what_is_not_a_png_is_refused(tmp_path: Path) -> None:
    """Nothing is written under a name that would lie."""
    image = rendered() | {"data": b"\xff\xd8\xff\xe0"}
    with pytest.raises(ValueError, match="not a PNG"):
        OutputDir(tmp_path).write(image, PARAMS, JOB, 1)  # pyright: ignore[reportArgumentType]
    assert everything_in(tmp_path) == []


# ---- finding and removing ----


@pytest.fixture
def mixed(tmp_path: Path) -> OutputDir:
    """Two jobs' files, one of them unfinished, among things that are not ours."""
    output = OutputDir(tmp_path)
    for job_id in (JOB, OTHER):
        output.write(rendered(), PARAMS, job_id, 1)
    unfinished = ArtifactName("game_icon", 8, JOB, 1, 1)
    (tmp_path / DAY / f".{unfinished}.tmp").write_bytes(b"\x89PNG")
    (tmp_path / DAY / "notes.txt").write_text("mine")
    (tmp_path / ".gitkeep").write_text("")
    (tmp_path / "2026-01-01").mkdir()
    (tmp_path / "moodboard").mkdir()
    (tmp_path / "moodboard" / str(unfinished)).write_text("mine")
    return output


def test_the_files_of_a_job_are_found_unfinished_ones_too(mixed: OutputDir) -> None:
    """And no file of another job, even one ordered in the same millisecond."""
    assert sorted(files_of(mixed, JOB)) == [
        f"{DAY}/.game_icon_8_{JOB}_1_1.png.tmp",
        f"{DAY}/game_icon_7_{JOB}_0_1.png",
    ]


def test_the_files_of_several_jobs_are_found_at_once(mixed: OutputDir) -> None:
    """Nothing that is a studio's own is among them."""
    found = mixed.files_of([OTHER, JOB])
    assert {job_id: len(paths) for job_id, paths in found.items()} == {OTHER: 1, JOB: 2}


def test_nothing_is_found_where_nothing_was_written(tmp_path: Path) -> None:
    """The first start: there is no directory yet."""
    assert files_of(OutputDir(tmp_path / "output"), JOB) == []


def test_the_names_of_a_job_are_known_without_looking(tmp_path: Path) -> None:
    """All that its attempts can have written is among them, and nothing of a later one."""
    output, params = OutputDir(tmp_path), PARAMS.model_copy(update={"n": 2})
    for fence in (1, 2, 3):
        for index in range(2):
            output.write(rendered(index=index), params, JOB, fence)
    unfinished = ArtifactName(params.style_id, params.seed + 1, JOB, 1, 2)
    (tmp_path / DAY / f".{unfinished}.tmp").write_bytes(b"\x89PNG")
    names = output.names_for(JOB, params.model_dump(), 2)
    there = files_of(output, JOB)
    assert set(there) - set(names) == {path for path in there if path.endswith("_3.png")}
    assert set(there) & set(names) == {path for path in there if not path.endswith("_3.png")}
    output.remove(names)
    assert len(files_of(output, JOB)) == 2


def test_remove_is_idempotent(mixed: OutputDir) -> None:
    """A file that is gone already is gone."""
    paths = files_of(mixed, JOB)
    assert mixed.remove(paths) == mixed.remove(paths) == 2
    assert files_of(mixed, JOB) == []
    assert len(files_of(mixed, OTHER)) == 1


def files_of(output: OutputDir, job_id: str) -> list[str]:
    return output.files_of([job_id])[job_id]


@pytest.mark.parametrize("path", ["../pyproject.toml", f"{DAY}/notes.txt", f"{DAY}/../x", "/etc/x"])
def test_remove_takes_no_other_path(mixed: OutputDir, path: str) -> None:
    """Whatever a damaged row says, only files of attempts are deleted."""
    with pytest.raises(ValueError, match="not a path of ours"):
        mixed.remove([path])


def test_a_file_that_cannot_be_removed_does_not_hide_the_failure_that_led_here(
    mixed: OutputDir, tmp_path: Path
) -> None:
    """It stays for the next sweep, and the others go."""
    stuck = ArtifactName("game_icon", 9, JOB, 2, 1).path
    (tmp_path / stuck).mkdir()
    assert mixed.remove([stuck, *files_of(mixed, OTHER)]) == 1
    assert files_of(mixed, OTHER) == []
