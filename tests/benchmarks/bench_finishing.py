"""What each effect costs, and how good a cutout and a found grid are beside simpler means.

    python -m tests.benchmarks.bench_finishing [--out FILE.md] [--effects ROW ...] [--sizes 512 ...]

With `--effects` or `--sizes` only the table of costs is made, of the rows that begin so: a minute, where all
takes ten.

Workload, on one core: the drawn sprite of tests/finishing/sprites.py (noise 3, on a green key) at 128, 512
and 1024 pixels a side. Effects that need alpha get the cut sprite, `seam` the drawn one; `pixelate` looks
for a grid, finds none, and makes 64 columns. Time: of the CPU, median of the runs, after one that does not
count; other processes disturb it less than the clock's.
Memory: the peak that numpy and Python allocate in one run beyond the picture itself (Pillow's own
buffers, of the picture's size, are not seen). Peers in the same run: a hard mask at the same threshold, with
colours untouched, for `cutout`; Pillow's median cut for `palette`; perfect-pixel for the grid.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from serve_app.finishing.backdrop import find_backdrop
from serve_app.finishing.colors import nearest_color, oklab, quantized, unique_colors
from serve_app.finishing.cutout import Cutout
from serve_app.finishing.finish import finish
from serve_app.finishing.grid import SURE, find_grid
from serve_app.finishing.picture import Picture
from serve_app.finishing.require import Require, judge
from tests.finishing.sprites import GREEN, GREY, MAGENTA, WHITE, edge_error, sprite
from tests.finishing.test_pixelate import CASES, art, by_oracle, enlarged

SIZES = (128, 512, 1024)
EFFECTS: list[tuple[str, bool, dict[str, object]]] = [  # label, cut before, effect
    ("cutout", False, {"op": "cutout"}),
    ("bleed, 8 px", True, {"op": "bleed"}),
    ("trim", True, {"op": "trim"}),
    ("pad", True, {"op": "pad", "pixels": 2}),
    ("canvas", True, {"op": "canvas", "width": 256, "height": 256}),
    ("scale to half, Lanczos", True, {"op": "scale", "factor": 0.5}),
    ("scale x2, EPX", True, {"op": "scale", "factor": 2, "filter": "epx"}),
    ("pixelate to 64", True, {"op": "pixelate", "width": 64}),
    ("palette, 16 found", True, {"op": "palette", "colors": 16}),
    ("palette, as few as look alike", True, {"op": "palette"}),
    ("palette, 16 found, bayer8", True, {"op": "palette", "colors": 16, "dither": "bayer8"}),
    ("outline, 2 px smooth", True, {"op": "outline", "pixels": 2, "edge": "smooth"}),
    ("shadow", True, {"op": "shadow"}),
    ("seam, mended", False, {"op": "seam", "limit": 0}),
    ("nine_slice", True, {"op": "nine_slice"}),
    ("normal_map", True, {"op": "normal_map"}),
    ("flip", True, {"op": "flip"}),
    ("rotate", True, {"op": "rotate", "degrees": 90}),
]
GATES = Require(clear_border=True, seam=1.3, not_blank=True, unique=True, colors=256)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--effects", nargs="+", metavar="ROW", help="rows that begin with these")
    parser.add_argument("--sizes", nargs="+", type=int, metavar="PIXELS")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    parts = [costs(options.runs, options.sizes or SIZES, tuple(options.effects or [""]))]
    if options.effects is None and options.sizes is None:
        parts += [edges(), grids(), colours()]
    text = "\n\n".join(parts) + "\n"
    if options.out:
        options.out.write_text(text)
    print(text)


def costs(runs: int, sizes: Sequence[int], wanted: tuple[str, ...]) -> str:
    """`finish` as a job calls it: the effect, and the colours bled under what is transparent. Then the gates,
    and the peers."""
    works: list[tuple[str, bool, Callable[[Picture], object]]] = [
        *((label, cut, partial(finish, effects=[effect])) for label, cut, effect in EFFECTS),
        ("all gates of `require`", True, partial(judge, require=GATES)),
        ("peer: hard mask", False, hard_mask),
        ("peer: Pillow's median cut to 16", False, pillow_16),
    ]
    head = " | ".join(f"{size} px" for size in sizes)
    rows = [
        f"| {label} | {cells(work, cut, runs, sizes)} |"
        for label, cut, work in works
        if label.startswith(wanted)
    ]
    return "\n".join([f"| ms / MB | {head} |", "| --- |" + " --- |" * len(sizes), *rows])


def cells(work: Callable[[Picture], object], cut: bool, runs: int, sizes: Sequence[int]) -> str:
    found: list[str] = []
    for size in sizes:
        drawn = sprite(size, GREEN, noise=3).drawn
        ready = partial(work, Cutout().apply(drawn) if cut else drawn)
        found.append(f"{milliseconds(ready, runs):.1f} / {megabytes(ready):.0f}")
    return " | ".join(found)


def milliseconds(work: Callable[[], object], runs: int) -> float:
    work()
    taken: list[float] = []
    for _ in range(runs):
        began = time.process_time()
        work()
        taken.append(1000 * (time.process_time() - began))
    return statistics.median(taken)


def megabytes(work: Callable[[], object]) -> float:
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6


def hard_mask(picture: Picture) -> Picture:
    backdrop = find_backdrop(picture.rgb)
    pixels = picture.pixels.copy()
    pixels[backdrop.distance(picture.rgb) < backdrop.threshold, 3] = 0
    return Picture(pixels)


def pillow_16(picture: Picture) -> Image.Image:
    return picture.to_image().quantize(16)


def edges() -> str:
    """Mean difference per channel of edge pixels from the truth, on black, white and violet."""
    keys = {"green": GREEN, "white": WHITE, "magenta": MAGENTA, "grey": GREY}
    rows = ["| edge error, 512 px | noise 0 | noise 3 | noise 8 |", "| --- | --- | --- | --- |"]
    for how, cut in (("cutout", Cutout(method="matte").apply), ("hard mask", hard_mask)):
        for name, key in keys.items():
            made = [sprite(512, key, noise) for noise in (0, 3, 8)]
            errors = [f"{edge_error(cut(each.drawn), each):.1f}" for each in made]
            rows.append(f"| {how}, {name} key | {' | '.join(errors)} |")
    return "\n".join(rows)


def grids() -> str:
    """Ten pictures of 64 x 64 pixels for each way of drawing them larger."""
    rows = ["| cell, blur, noise, wobble | found | perfect-pixel |", "| --- | --- | --- |"]
    for case in CASES:
        ours = theirs = 0
        for seed in range(10):
            drawn = enlarged(art(seed), *case, seed=seed)
            grid = find_grid(drawn.pixels)
            ours += grid.confidence >= SURE and (grid.width, grid.height) == (64, 64)
            theirs += by_oracle(drawn) == (64, 64)
        rows.append(f"| {', '.join(map(str, case))} | {ours} of 10 | {theirs} of 10 |")
    return "\n".join(rows)


def colours() -> str:
    picture = sprite(512, noise=8).drawn
    rgb = picture.rgb.reshape(-1, 3)
    rows = ["| error of k colours (OKLab) | found | Pillow's median cut |", "| --- | --- | --- |"]
    for k in (4, 8, 16, 32):
        cut = np.asarray(picture.to_image().quantize(k).convert("RGB")).reshape(-1, 3)
        _, square = nearest_color(oklab(rgb), oklab(unique_colors(cut)[0]))
        rows.append(f"| {k} | {quantized(rgb, k)[1]:.4f} | {float(np.sqrt(square.mean())):.4f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
