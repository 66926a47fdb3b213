"""Sheet: sprites cut to what is visible and given a place on pages; the one thing every format reads.

Knows no file format. `pack` decides places, `draw` paints one page: pages are large, so they are
painted one at a time, by whoever writes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serve_app.delivery import maxrects
from serve_app.delivery.grid import Grid, pack_grid
from serve_app.delivery.names import natural_key
from serve_app.delivery.spec import Clip, SheetSpec
from serve_app.delivery.sprite import Borders, Pixels, Sprite
from serve_app.errors import InvalidField

MAX_SPRITES = 2_000
MAX_PIXELS = 2**26  # of all sprites together: 256 MiB as RGBA
MAX_PAGES = 64


@dataclass(frozen=True, slots=True)
class Page:
    """One picture file of a sheet, and its size in pixels."""

    file: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A sprite on a page. `x`, `y`: its visible part there, without extrusion. `trim_x`, `trim_y`:
    that part's place in the sprite as it came, which was `source_width` x `source_height`."""

    name: str
    page: int
    x: int
    y: int
    pixels: Pixels
    trim_x: int
    trim_y: int
    source_width: int
    source_height: int
    pivot: tuple[float, float]
    borders: Borders | None

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def trimmed(self) -> bool:
        return (self.width, self.height) != (self.source_width, self.source_height)


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """`frames` are in the order in which the sprites came. `key` names the sheet across deliveries:
    ids that engines keep (Unity's guid) are made of it; without one it is the sheet's name. `grid` is
    None unless the pages are grids of whole sprites."""

    spec: SheetSpec
    key: str
    pages: tuple[Page, ...]
    frames: tuple[Frame, ...]
    grid: Grid | None

    def on(self, page: int) -> list[Frame]:
        return [frame for frame in self.frames if frame.page == page]

    def clip_frames(self, clip: Clip) -> list[Frame]:
        by_name = {frame.name: frame for frame in self.frames}
        return [by_name[name] for name in clip.frames]

    @property
    def notes(self) -> list[str]:
        """What whoever ordered the sheet should know of it."""
        return [
            f"clip_over_pages: {clip.name} has frames on several pages; texturepacker_hash and tiled "
            "cannot say such a clip and leave it out"
            for clip in self.spec.clips
            if len({frame.page for frame in self.clip_frames(clip)}) > 1
        ]


def pack(sprites: Sequence[Sprite], spec: SheetSpec, key: str = "") -> Sheet:
    """Equal sprites and spec give an equal sheet. Sprites that are of one size once they are trimmed
    become a grid in their own order; others are placed to waste little.

    Raises InvalidField: nothing to pack, too much, a name twice, a sprite that no page holds, too many
    pages, a clip of frames that do not exist.
    """
    check(sprites, spec)
    boxes = [_visible(sprite) if spec.trim else _all(sprite) for sprite in sprites]
    rim = 2 * spec.extrude
    sizes = [(right - left + rim, bottom - top + rim) for left, top, right, bottom in boxes]
    limit = largest_side(spec)
    _refuse_pages(sprites, sizes, limit)
    grid, bins = pack_grid(sizes, spec, limit)
    if grid is None:
        bins = maxrects.pack(sizes, limit, spec.padding, spec.power_of_two)
    if len(bins) > MAX_PAGES:
        raise _too_many_pages(len(bins), limit)
    numbers = [""] if len(bins) == 1 else [f"_{i}" for i in range(len(bins))]
    pages = tuple(
        Page(f"{spec.name}{number}.png", one.width, one.height)
        for number, one in zip(numbers, bins, strict=True)
    )
    placed = {i: (n, *at) for n, one in enumerate(bins) for i, at in one.places.items()}
    frames = tuple(
        _frame(sprite, box, placed[i], spec.extrude)
        for i, (sprite, box) in enumerate(zip(sprites, boxes, strict=True))
    )
    if any(frame.trimmed for frame in frames):
        grid = None  # a tile would show its sprite shifted by what was cut
    return Sheet(spec, key or spec.name, pages, frames, grid)


def check(sprites: Sequence[Sprite], spec: SheetSpec) -> None:
    """Everything that can be refused before anything is placed."""
    refuse_too_much([(sprite.width, sprite.height) for sprite in sprites])
    check_names([sprite.name for sprite in sprites], spec)


def check_names(names: Sequence[str], spec: SheetSpec) -> None:
    """Of sprites and clips: each once, and no clip of frames that there are not. Raises InvalidField."""
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        # Windows and macOS hold names that differ in case for one file.
        first = seen.setdefault(name.casefold(), i)
        if first != i:
            raise InvalidField(f"items.{i}.name", f"{name!r} is the name of item {first} already")
    known = set(names)
    clips: set[str] = set()
    for i, clip in enumerate(spec.clips):
        if clip.name.casefold() in clips:
            raise InvalidField(f"clips.{i}.name", f"{clip.name!r} is a clip already")
        clips.add(clip.name.casefold())
        for j, name in enumerate(clip.frames):
            if name not in known:
                allowed = sorted(known, key=natural_key)[:20]
                raise InvalidField(f"clips.{i}.frames.{j}", f"no frame is called {name!r}", allowed)


def refuse_too_much(sizes: Sequence[tuple[int, int]], field: str = "items") -> None:
    """Of sprites whose sizes are known: may be asked before their pixels are read."""
    if not 1 <= len(sizes) <= MAX_SPRITES:
        raise InvalidField(field, f"{len(sizes)} pictures; a sheet takes 1 to {MAX_SPRITES}")
    pixels = sum(width * height for width, height in sizes)
    if pixels > MAX_PIXELS:
        raise InvalidField(
            field, f"{pixels} pixels in all; a sheet takes up to {MAX_PIXELS}: make several"
        )


def draw(sheet: Sheet, page: int) -> Pixels:
    """The page's pixels; what no frame covers is transparent black."""
    canvas = np.zeros((sheet.pages[page].height, sheet.pages[page].width, 4), np.uint8)
    extrude = sheet.spec.extrude
    for frame in sheet.on(page):
        rim = ((extrude, extrude), (extrude, extrude), (0, 0))
        pixels = np.pad(frame.pixels, rim, mode="edge") if extrude else frame.pixels
        top, left = frame.y - extrude, frame.x - extrude
        canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return canvas


def whole(frame: Frame) -> Pixels:
    """The sprite as it came, of what is visible: what was trimmed is transparent black."""
    pixels = np.zeros((frame.source_height, frame.source_width, 4), np.uint8)
    down, right = frame.trim_y + frame.height, frame.trim_x + frame.width
    pixels[frame.trim_y : down, frame.trim_x : right] = frame.pixels
    return pixels


def largest_side(spec: SheetSpec) -> int:
    """Of a page, in pixels: with `power_of_two`, the last power that is not above `max_size`."""
    return 1 << (spec.max_size.bit_length() - 1) if spec.power_of_two else spec.max_size


def _refuse_pages(sprites: Sequence[Sprite], sizes: Sequence[maxrects.Size], limit: int) -> None:
    """What can be known of pages before anything is placed."""
    for i, (width, height) in enumerate(sizes):
        refuse_too_large(f"items.{i}", sprites[i].name, (width, height), limit)
    at_least = math.ceil(sum(width * height for width, height in sizes) / limit**2)
    if at_least > MAX_PAGES:
        raise _too_many_pages(at_least, limit)


def refuse_too_large(field: str, name: str, size: maxrects.Size, limit: int) -> None:
    """`size`: with extrusion. Raises InvalidField: no page of this limit holds it."""
    width, height = size
    if max(width, height) > limit:
        raise InvalidField(
            field,
            f"{name} takes {width}x{height} pixels; a page is at most {limit}x{limit} (max_size)",
        )


def _too_many_pages(count: int, limit: int) -> InvalidField:
    return InvalidField(
        "max_size", f"{count} pages of {limit}x{limit} are needed; a sheet has up to {MAX_PAGES}"
    )


Box = tuple[int, int, int, int]
"""Left, top, right, bottom in a sprite; the last two are outside."""


def _all(sprite: Sprite) -> Box:
    return (0, 0, sprite.width, sprite.height)


def _visible(sprite: Sprite) -> Box:
    """Where alpha is above 0. One pixel of a sprite that has none; all of a nine-slice, whose borders
    count from its edges."""
    if sprite.borders is not None:
        return _all(sprite)
    seen = sprite.pixels[..., 3] > 0
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not rows.size:
        return (0, 0, 1, 1)
    return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _frame(sprite: Sprite, box: Box, place: tuple[int, int, int], extrude: int) -> Frame:
    left, top, right, bottom = box
    page, x, y = place
    return Frame(
        name=sprite.name,
        page=page,
        x=x + extrude,
        y=y + extrude,
        pixels=sprite.pixels[top:bottom, left:right],
        trim_x=left,
        trim_y=top,
        source_width=sprite.width,
        source_height=sprite.height,
        pivot=sprite.pivot,
        borders=sprite.borders,
    )
