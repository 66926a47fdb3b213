"""TexturePacker's JSON, hash and array: what Phaser, PixiJS and most engines of the web read.

Knows both engines' dialects and writes what either reads: Pixi takes `anchor` and `borders`, Phaser
`anchor` and `scale9Borders`. Neither format has frame rates: `NAME.anims.json` gives them to Phaser.
"""

from __future__ import annotations

from typing import Any

from serve_app.delivery.formats.encoding import as_json
from serve_app.delivery.sheet import Frame, Sheet

APP = "http://www.codeandweb.com/texturepacker"  # readers know the dialect by it (Unreal's Paper2D)


def texturepacker_hash(sheet: Sheet) -> dict[str, bytes]:
    """NAME.json, or NAME_0.json and so on, of which the first names the others: PixiJS loads it
    alone. A clip stands on the page that holds all its frames; one spread over pages in none."""
    names = [page.file.removesuffix(".png") + ".json" for page in sheet.pages]
    files: dict[str, bytes] = {}
    for n, name in enumerate(names):
        here = {frame.name: _frame(frame) for frame in sheet.on(n)}
        meta = _meta(sheet, n)
        if n == 0 and len(names) > 1:
            meta["related_multi_packs"] = names[1:]
        clips = {
            clip.name: list(clip.frames)
            for clip in sheet.spec.clips
            if set(clip.frames) <= set(here)
        }
        files[name] = as_json({"frames": here, "animations": clips, "meta": meta})
    return files | _phaser_clips(sheet)


def texturepacker_array(sheet: Sheet) -> dict[str, bytes]:
    """NAME.array.json: `frames` of one page for Phaser's `load.atlas`, `textures` of several for its
    `load.multiatlas`."""
    pages: list[dict[str, Any]] = []
    for n in range(len(sheet.pages)):
        frames = [{"filename": frame.name, **_frame(frame)} for frame in sheet.on(n)]
        pages.append({"frames": frames, "meta": _meta(sheet, n)})
    if len(pages) == 1:
        [whole] = pages
    else:
        textures = [
            {key: page["meta"][key] for key in ("image", "format", "size", "scale")}
            | {"frames": page["frames"]}
            for page in pages
        ]
        whole = {"textures": textures, "meta": {"app": APP, "version": "1.0"}}
    return {f"{sheet.spec.name}.array.json": as_json(whole)} | _phaser_clips(sheet)


def _frame(frame: Frame) -> dict[str, Any]:
    at = {"x": frame.pivot[0], "y": frame.pivot[1]}
    size = {"w": frame.width, "h": frame.height}
    known: dict[str, Any] = {
        "frame": {"x": frame.x, "y": frame.y, **size},
        "rotated": False,
        "trimmed": frame.trimmed,
        "spriteSourceSize": {"x": frame.trim_x, "y": frame.trim_y, **size},
        "sourceSize": {"w": frame.source_width, "h": frame.source_height},
        "pivot": at,
        "anchor": at,
    }
    if (edge := frame.borders) is not None:
        known["borders"] = {
            "left": edge.left, "top": edge.top, "right": edge.right, "bottom": edge.bottom
        }  # fmt: skip
        known["scale9Borders"] = {
            "x": edge.left,
            "y": edge.top,
            "w": frame.width - edge.left - edge.right,
            "h": frame.height - edge.top - edge.bottom,
        }
    return known


def _meta(sheet: Sheet, n: int) -> dict[str, Any]:
    page = sheet.pages[n]
    return {
        "app": APP,
        "version": "1.0",
        "image": page.file,
        "format": "RGBA8888",
        "size": {"w": page.width, "h": page.height},
        "scale": "1",  # a string, in this dialect
    }


def _phaser_clips(sheet: Sheet) -> dict[str, bytes]:
    """For `load.animation`; the atlas is expected under the sheet's name as its key."""
    if not sheet.spec.clips:
        return {}
    anims = [
        {
            "key": clip.name,
            "type": "frame",
            "frames": [{"key": sheet.spec.name, "frame": name} for name in clip.frames],
            "frameRate": clip.fps,
            "repeat": -1 if clip.loop else 0,
        }
        for clip in sheet.spec.clips
    ]
    return {f"{sheet.spec.name}.anims.json": as_json({"anims": anims})}
