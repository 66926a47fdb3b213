"""Aseprite's JSON: NAME.aseprite.json, with tags for clips and a slice for each sprite.

Knows that readers look frames up by number, and that a tag is an unbroken run of them: so frames are
listed clip by clip, one that is in two clips twice. Slices carry names, pivots and nine-slices.
"""

from __future__ import annotations

from typing import Any

from serve_app.delivery.formats.encoding import as_json
from serve_app.delivery.sheet import Frame, Sheet
from serve_app.errors import InvalidField

STILL_MS = 100  # of frames in no clip: Aseprite's own default


def aseprite(sheet: Sheet) -> dict[str, bytes]:
    """Raises InvalidField when there are several pages, which this format cannot name."""
    if len(sheet.pages) != 1:
        raise InvalidField(
            "formats",
            f"aseprite holds one page and this sheet needs {len(sheet.pages)}: leave aseprite out, "
            f"raise max_size (now {sheet.spec.max_size}), or order fewer pictures",
        )
    listed: list[tuple[Frame, int]] = []  # frame, duration in ms
    tags: list[dict[str, Any]] = []
    for clip in sheet.spec.clips:
        first = len(listed)
        listed += [(frame, max(1, round(1000 / clip.fps))) for frame in sheet.clip_frames(clip)]
        tag = {"name": clip.name, "from": first, "to": len(listed) - 1, "direction": "forward"}
        tags.append(tag if clip.loop else {**tag, "repeat": "1"})
    moving = {frame.name for frame, _ in listed}
    listed += [(frame, STILL_MS) for frame in sheet.frames if frame.name not in moving]
    numbers = {frame.name: n for n, (frame, _) in reversed(list(enumerate(listed)))}
    page = sheet.pages[0]
    whole = {
        "frames": {str(n): _frame(frame, ms) for n, (frame, ms) in enumerate(listed)},
        "meta": {
            "app": "http://www.aseprite.org/",  # readers know the dialect by it
            "version": "1.3",
            "image": page.file,
            "format": "RGBA8888",
            "size": {"w": page.width, "h": page.height},
            "scale": "1",
            "frameTags": tags,
            "layers": [],
            "slices": [_slice(frame, numbers[frame.name]) for frame in sheet.frames],
        },
    }
    return {f"{sheet.spec.name}.aseprite.json": as_json(whole)}


def _frame(frame: Frame, duration_ms: int) -> dict[str, Any]:
    size = {"w": frame.width, "h": frame.height}
    return {
        "frame": {"x": frame.x, "y": frame.y, **size},
        "rotated": False,
        "trimmed": frame.trimmed,
        "spriteSourceSize": {"x": frame.trim_x, "y": frame.trim_y, **size},
        "sourceSize": {"w": frame.source_width, "h": frame.source_height},
        "duration": duration_ms,
    }


def _slice(frame: Frame, number: int) -> dict[str, Any]:
    """`number`: of the first frame that shows it. Pivots are pixels here, and `center` counts from
    the slice's own corner."""
    width, height = frame.source_width, frame.source_height
    key: dict[str, Any] = {
        "frame": number,
        "bounds": {"x": 0, "y": 0, "w": width, "h": height},
        "pivot": {"x": round(frame.pivot[0] * width), "y": round(frame.pivot[1] * height)},
    }
    if (edge := frame.borders) is not None:
        key["center"] = {
            "x": edge.left,
            "y": edge.top,
            "w": width - edge.left - edge.right,
            "h": height - edge.top - edge.bottom,
        }
    return {"name": frame.name, "keys": [key]}
