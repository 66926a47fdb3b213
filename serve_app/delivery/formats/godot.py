"""Godot 4 resources: an AtlasTexture a sprite, SpriteFrames for clips, a TileSet for a grid.

Knows Godot's text format 3, as 4.6 writes it. Paths are relative, so the folder may lie anywhere in a
project. How textures are filtered is a setting of the project or the node there, not of a file.
"""

from __future__ import annotations

from collections.abc import Sequence

from serve_app.delivery.formats.encoding import number
from serve_app.delivery.sheet import Frame, Sheet


def godot(sheet: Sheet) -> dict[str, bytes]:
    """NAME_godot/SPRITE.tres; SPRITE.box.tres beside it for a nine-slice; NAME.frames.tres if there
    are clips, NAME.tileset.tres if the frames are a grid."""
    name = sheet.spec.name
    files: dict[str, bytes] = {}
    for frame in sheet.frames:
        files[f"{name}_godot/{frame.name}.tres"] = _atlas_texture(sheet, frame)
        if frame.borders is not None:
            files[f"{name}_godot/{frame.name}.box.tres"] = _style_box(frame)
    if sheet.spec.clips:
        files[f"{name}.frames.tres"] = _sprite_frames(sheet)
    if sheet.grid is not None:
        files[f"{name}.tileset.tres"] = _tile_set(sheet)
    return files


def _resource(kind: str, *parts: Sequence[str]) -> bytes:
    head = f'[gd_resource type="{kind}" format=3]'
    return ("\n\n".join([head, *("\n".join(part) for part in parts if part)]) + "\n").encode()


def _texture(path: str, ident: str) -> str:
    return f'[ext_resource type="Texture2D" path="{path}" id="{ident}"]'


def _atlas_texture(sheet: Sheet, frame: Frame) -> bytes:
    body = [
        "[resource]",
        'atlas = ExtResource("page")',
        f"region = Rect2({frame.x}, {frame.y}, {frame.width}, {frame.height})",
    ]
    if frame.trimmed:  # left, top, and how much width and height were cut
        lost = (frame.source_width - frame.width, frame.source_height - frame.height)
        body.append(f"margin = Rect2({frame.trim_x}, {frame.trim_y}, {lost[0]}, {lost[1]})")
    body.append("filter_clip = true")
    page = sheet.pages[frame.page].file
    return _resource("AtlasTexture", [_texture(f"../{page}", "page")], body)


def _style_box(frame: Frame) -> bytes:
    assert frame.borders is not None
    edge = frame.borders
    body = [
        "[resource]",
        'texture = ExtResource("picture")',
        f"texture_margin_left = {edge.left}.0",
        f"texture_margin_top = {edge.top}.0",
        f"texture_margin_right = {edge.right}.0",
        f"texture_margin_bottom = {edge.bottom}.0",
    ]
    return _resource("StyleBoxTexture", [_texture(f"{frame.name}.tres", "picture")], body)


def _sprite_frames(sheet: Sheet) -> bytes:
    """A clip's name is written as a plain string, which Godot turns into a StringName."""
    used = dict.fromkeys(name for clip in sheet.spec.clips for name in clip.frames)
    textures = [_texture(f"{sheet.spec.name}_godot/{name}.tres", name) for name in used]
    clips: list[str] = []
    for clip in sheet.spec.clips:
        shown = ", ".join(
            f'{{\n"duration": 1.0,\n"texture": ExtResource("{name}")\n}}' for name in clip.frames
        )
        clips.append(
            f'{{\n"frames": [{shown}],\n"loop": {"true" if clip.loop else "false"},\n'
            f'"name": "{clip.name}",\n"speed": {number(clip.fps)}\n}}'
        )
    return _resource("SpriteFrames", textures, ["[resource]", f"animations = [{', '.join(clips)}]"])


def _tile_set(sheet: Sheet) -> bytes:
    """One source a page; tile c:r is the frame in column c, row r. A clip is no tile animation: those
    need their frames side by side."""
    assert sheet.grid is not None
    grid = sheet.grid
    tile = f"Vector2i({grid.tile_width}, {grid.tile_height})"
    textures = [_texture(page.file, f"page_{n}") for n, page in enumerate(sheet.pages)]
    sources: list[list[str]] = []
    for n in range(len(sheet.pages)):
        sources.append([
            f'[sub_resource type="TileSetAtlasSource" id="source_{n}"]',
            f'texture = ExtResource("page_{n}")',
            f"margins = Vector2i({grid.margin}, {grid.margin})",
            f"separation = Vector2i({grid.spacing}, {grid.spacing})",
            f"texture_region_size = {tile}",
            *(f"{i % grid.columns}:{i // grid.columns}/0 = 0" for i in range(len(sheet.on(n)))),
        ])  # fmt: skip
    body = ["[resource]", f"tile_size = {tile}"]
    body += [f'sources/{n} = SubResource("source_{n}")' for n in range(len(sheet.pages))]
    return _resource("TileSet", textures, *sources, body)
