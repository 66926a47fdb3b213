"""Unity's .meta beside each page: sprite mode Multiple, with a rectangle a sprite.

Knows how Unity counts: y from the bottom, borders left, bottom, right, top. Ids are made from the
sheet's key, so that a sheet delivered again keeps the references of scenes. Clips are not in it.
"""

from __future__ import annotations

import hashlib

from serve_app.delivery.formats.encoding import number
from serve_app.delivery.sheet import Frame, Page, Sheet

CUSTOM = 9  # alignment: only then Unity reads the pivot
SPRITE = 213  # Unity's number of the class


def unity(sheet: Sheet) -> dict[str, bytes]:
    """PAGE.png.meta. A .meta that is there already must not be replaced: it may hold what somebody
    set in the editor."""
    return {f"{page.file}.meta": _meta(sheet, n, page) for n, page in enumerate(sheet.pages)}


def _meta(sheet: Sheet, n: int, page: Page) -> bytes:
    frames = sheet.on(n)
    ids = {frame.name: _internal_id(sheet, frame) for frame in frames}
    nearest = sheet.spec.filter == "nearest"
    lines = [
        "fileFormatVersion: 2",
        f"guid: {_hex(sheet.key, page.file)}",
        "TextureImporter:",
        "  internalIDToNameTable:",
        *(
            f"  - first:\n      {SPRITE}: {ident}\n    second: '{name}'"
            for name, ident in ids.items()
        ),
        "  serializedVersion: 12",
        "  mipmaps:",
        "    enableMipMap: 0",
        "  textureSettings:",
        "    serializedVersion: 2",
        f"    filterMode: {0 if nearest else 1}",
        "    aniso: 1",
        "    wrapU: 1",
        "    wrapV: 1",
        "    wrapW: 1",
        "  nPOTScale: 0",
        "  spriteMode: 2",
        "  spriteExtrude: 1",
        "  spriteMeshType: 0",
        "  alignment: 0",
        "  spritePivot: {x: 0.5, y: 0.5}",
        f"  spritePixelsToUnits: {sheet.spec.pixels_per_unit}",
        "  alphaUsage: 1",
        "  alphaIsTransparency: 1",
        "  textureType: 8",
        "  textureShape: 1",
        "  platformSettings:",
        "  - serializedVersion: 3",
        "    buildTarget: DefaultTexturePlatform",
        f"    maxTextureSize: {max(32, 1 << (max(page.width, page.height) - 1).bit_length())}",
        "    textureFormat: -1",
        "    textureCompression: 0",
        "  spriteSheet:",
        "    serializedVersion: 2",
        "    sprites:",
        *(line for frame in frames for line in _sprite(sheet, page, frame, ids[frame.name])),
        "    outline: []",
        "    physicsShape: []",
        "    nameFileIdTable:",
        *(f"      '{name}': {ident}" for name, ident in ids.items()),
        "  userData: ",
        "  assetBundleName: ",
        "  assetBundleVariant: ",
    ]
    return ("\n".join(lines) + "\n").encode()


def _sprite(sheet: Sheet, page: Page, frame: Frame, ident: int) -> list[str]:
    bottom = page.height - frame.y - frame.height
    edge = frame.borders
    left, low, right, high = (
        (edge.left, edge.bottom, edge.right, edge.top) if edge else (0, 0, 0, 0)
    )
    # Of the trimmed rectangle, which is all that Unity knows; outside 0 to 1 is fine there.
    pivot_x = (frame.pivot[0] * frame.source_width - frame.trim_x) / frame.width
    pivot_y = 1 - (frame.pivot[1] * frame.source_height - frame.trim_y) / frame.height
    return [
        "    - serializedVersion: 2",
        f"      name: '{frame.name}'",
        "      rect:",
        "        serializedVersion: 2",
        f"        x: {frame.x}",
        f"        y: {bottom}",
        f"        width: {frame.width}",
        f"        height: {frame.height}",
        f"      alignment: {CUSTOM}",
        f"      pivot: {{x: {number(pivot_x)}, y: {number(pivot_y)}}}",
        f"      border: {{x: {left}, y: {low}, z: {right}, w: {high}}}",
        "      outline: []",
        "      physicsShape: []",
        "      tessellationDetail: 0",
        "      bones: []",
        f"      spriteID: {_hex(sheet.key, frame.name, 'sprite')}",
        f"      internalID: {ident}",
    ]


def _hex(*parts: str) -> str:
    return hashlib.md5("\0".join(parts).encode(), usedforsecurity=False).hexdigest()


def _internal_id(sheet: Sheet, frame: Frame) -> int:
    """64 bits with a sign."""
    return int.from_bytes(bytes.fromhex(_hex(sheet.key, frame.name))[:8], "little", signed=True)
