"""CSS: a class for each sprite and each clip, for pages and for games drawn in HTML.

Knows that a box must stay as large as the sprite was: what was trimmed comes back as margin.
"""

from __future__ import annotations

from serve_app.delivery.formats.encoding import number
from serve_app.delivery.sheet import Frame, Sheet
from serve_app.delivery.spec import Clip


def css(sheet: Sheet) -> dict[str, bytes]:
    """NAME.css: `.NAME-SPRITE` shows a sprite, `.NAME--CLIP` plays a clip, on any element."""
    rules = [_rule(f".{sheet.spec.name}-{frame.name}", sheet, frame) for frame in sheet.frames]
    rules += [_clip(sheet, clip) for clip in sheet.spec.clips]
    return {f"{sheet.spec.name}.css": "".join(rules).encode()}


def _rule(selector: str, sheet: Sheet, frame: Frame, more: str = "") -> str:
    scaled = "image-rendering: pixelated; " if sheet.spec.filter == "nearest" else ""
    return f"{selector} {{ display: inline-block; {scaled}{_look(sheet, frame)}{more} }}\n"


def _look(sheet: Sheet, frame: Frame) -> str:
    right = frame.source_width - frame.trim_x - frame.width
    bottom = frame.source_height - frame.trim_y - frame.height
    page = sheet.pages[frame.page].file
    return (
        f'background: url("{page}") -{frame.x}px -{frame.y}px no-repeat; '
        f"width: {frame.width}px; height: {frame.height}px; "
        f"margin: {frame.trim_y}px {right}px {bottom}px {frame.trim_x}px;"
    )


def _clip(sheet: Sheet, clip: Clip) -> str:
    """Each key frame holds until the next one; the last of a clip that ends is held for good."""
    name = f"{sheet.spec.name}--{clip.name}"
    frames = sheet.clip_frames(clip)
    stops = [
        f"  {number(100 * i / len(frames))}% {{ {_look(sheet, frame)} }}\n"
        for i, frame in enumerate(frames)
    ]
    stops.append(f"  100% {{ {_look(sheet, frames[-1])} }}\n")
    times = "infinite" if clip.loop else "1 forwards"
    play = f" animation: {name} {number(len(frames) / clip.fps)}s step-end {times};"
    return _rule(f".{name}", sheet, frames[0], play) + f"@keyframes {name} {{\n{''.join(stops)}}}\n"
