"""finish: effects in their order, what they say, and equal bytes for equal input."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from serve_app.errors import InvalidField
from serve_app.finishing.finish import finish
from serve_app.finishing.masks import dilate
from serve_app.finishing.picture import EffectFailed, Picture
from serve_app.finishing.png import write_png
from tests.finishing.sprites import opaque, sprite

EVERYTHING = [
    {"op": "cutout"},
    {"op": "trim", "padding": 2},
    {"op": "scale", "factor": 1.5},
    {"op": "pixelate", "width": 48},
    {"op": "palette", "colors": 12, "dither": "bayer4"},
    {"op": "outline", "color": "#101020"},
    {"op": "shadow", "dx": 2, "dy": 3, "blur": 1.5},
    {"op": "rotate", "degrees": 90},
    {"op": "seam"},
    {"op": "pivot", "anchor": "bottom"},
    {"op": "normal_map"},
]


def test_no_effects_change_nothing() -> None:
    picture = sprite(64).truth
    done = finish(picture, [])
    assert done.picture is picture
    assert done.notes == ()


def test_effects_run_in_their_order() -> None:
    picture = sprite(64).truth
    small = finish(picture, [{"op": "pad", "pixels": 4}, {"op": "trim"}]).picture
    large = finish(picture, [{"op": "trim"}, {"op": "pad", "pixels": 4}]).picture
    assert (large.width, large.height) == (small.width + 8, small.height + 8)


def test_each_effects_notes_are_its_own() -> None:
    done = finish(sprite(96).drawn, [{"op": "cutout"}, {"op": "flip"}, {"op": "trim"}])
    assert [[note.code for note in notes] for notes in done.notes] == [["cutout"], [], ["trim"]]


def test_what_the_notes_say_is_plain_json() -> None:
    done = finish(sprite(96, noise=4).drawn, EVERYTHING)
    numbers = [dict(note.numbers) for notes in done.notes for note in notes]
    assert json.loads(json.dumps(numbers)) == numbers


def test_equal_input_gives_equal_bytes() -> None:
    made = sprite(96, noise=4).drawn
    first, second = (finish(Picture(made.pixels.copy()), EVERYTHING) for _ in range(2))
    assert write_png(first.picture, {}) == write_png(second.picture, {})
    assert (
        first.picture.files["normal_map"].tobytes() == second.picture.files["normal_map"].tobytes()
    )
    assert first.notes == second.notes


def digest() -> str:
    """Of everything on one colour, and of a cutout on a ground that changes."""
    done = finish(sprite(96, noise=4).drawn, EVERYTHING).picture
    changing = sprite(256, (60, 60, 60), noise=3).drawn.rgb + np.linspace(0, 90, 256)[:, None, None]
    cut = finish(opaque(changing), [{"op": "cutout"}])
    assert [note.code for note in cut.notes[0]] == ["cutout_holes", "cutout"]
    return hashlib.sha256(done.pixels.tobytes() + cut.picture.pixels.tobytes()).hexdigest()


@pytest.mark.parametrize("threads", ["1", "4"])
def test_the_bytes_depend_on_neither_process_nor_threads(threads: str) -> None:
    code = "from tests.finishing.test_finish import digest; print(digest())"
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": threads} | dict.fromkeys(
        names, threads
    )
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True
    )
    assert out.stdout.decode().strip() == digest()


def test_a_failure_names_the_effects_place() -> None:
    with pytest.raises(
        EffectFailed, match=r"^effect 2, pixelate: 1024x1024 pixels cannot be made of"
    ):
        finish(sprite(64).drawn, [{"op": "flip"}, {"op": "pixelate", "width": 1024}])


def test_growth_stops_at_the_limit() -> None:
    picture = Picture(sprite(64).truth.pixels, max_pixels=100_000)
    with pytest.raises(EffectFailed, match="effect 3, the picture would be 512x512"):
        finish(picture, [{"op": "scale", "factor": 2}] * 4)


def test_a_list_that_would_be_refused_is_refused_here_too() -> None:
    with pytest.raises(InvalidField):
        finish(sprite(64).drawn, [{"op": "flip"}] * 17)


@pytest.mark.parametrize(
    "effects",
    [
        [{"op": "cutout"}],
        [{"op": "cutout"}, {"op": "scale", "factor": 0.5}],
        [{"op": "cutout"}, {"op": "pad", "pixels": 6}, {"op": "trim", "padding": 3}],
        [{"op": "cutout"}, {"op": "outline", "color": "#ffffff"}],
    ],
)
def test_next_to_what_is_seen_no_hidden_colour_is_foreign(effects: list[dict[str, object]]) -> None:
    """Bilinear filters read one pixel beyond the edge: it repeats the colour of a neighbour."""
    picture = finish(sprite(128).drawn, effects).picture
    height, width = picture.alpha.shape
    seen = picture.alpha > 0
    beside = dilate(seen) & ~seen
    y, x = np.nonzero(beside)
    known = np.zeros(len(y), bool)
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        there = (np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1))
        known |= seen[there] & (picture.rgb[there] == picture.rgb[y, x]).all(axis=1)
    assert len(y)
    assert known.all()


def test_a_picture_that_is_all_ground_goes_through_every_effect() -> None:
    ground = Picture(np.full((64, 64, 4), 255, np.uint8))
    done = finish(ground, EVERYTHING)
    assert done.notes[0][0].code == "cutout_empty"
    assert not done.picture.alpha.any()


def test_the_room_loads_no_torch_nor_ray_nor_http() -> None:
    code = "import sys, serve_app.finishing.__main__; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(out.stdout.split()) & {
        "torch",
        "ray",
        "fastapi",
        "httpx",
        "onnxruntime",
        "spandrel",
    }


def test_an_effect_that_runs_out_of_memory_says_so() -> None:
    """In a process that may have 100 MB more than it has; the effect wants more."""
    code = """
import resource, sys
import numpy as np
from serve_app.finishing.finish import finish
from serve_app.finishing.picture import EffectFailed, Picture
picture = Picture(np.random.default_rng(0).integers(0, 255, (2000, 2000, 4), np.uint8))
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100 * 2**20,) * 2)
try:
    finish(picture, [{"op": "flip"}, {"op": "shadow", "blur": 32}])
except EffectFailed as error:
    sys.exit(error.detail)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "effect 2 ran out of memory"
    assert done.returncode == 1
