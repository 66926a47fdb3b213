"""One ZIP with all of a sheet: pages, what each format adds, and manifest.json about them.

Knows nothing of jobs or of where the ZIP goes. Equal sheets give equal bytes: no times, no versions.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from typing import Any

from serve_app.delivery.formats import WRITERS
from serve_app.delivery.formats.encoding import as_json, as_png
from serve_app.delivery.sheet import Frame, Sheet, draw
from serve_app.delivery.sprite import Pixels

MANIFEST = "manifest.json"
SCHEMA = 1
"""Of the manifest. Grows when a reader of the old one would go wrong."""

_START = (1980, 1, 1, 0, 0, 0)  # the first time that a ZIP can hold
_MODE = 0o644 << 16


def files(sheet: Sheet, encode: Callable[[Pixels], bytes] = as_png) -> dict[str, bytes]:
    """Path -> content, the manifest last. `encode`: a page as PNG. Raises InvalidField when a format cannot
    say the sheet."""
    found: dict[str, bytes] = {}
    listed: list[dict[str, Any]] = []

    def add(group: dict[str, bytes], role: str) -> None:
        for path, data in group.items():
            if path not in found:  # both kinds of TexturePacker bring the same clips
                found[path] = data
                digest = hashlib.sha256(data).hexdigest()
                listed.append(
                    {"path": path, "role": role, "size_bytes": len(data), "sha256": digest}
                )

    # Formats first: one that refuses does so before any page is painted.
    extra = {name: WRITERS[name](sheet) for name in sheet.spec.formats}
    for n, page in enumerate(sheet.pages):
        add({page.file: encode(draw(sheet, n))}, "page")
    for name, group in extra.items():
        add(group, name)
    return found | {MANIFEST: as_json(_manifest(sheet, listed))}


def zipped(content: dict[str, bytes]) -> bytes:
    """Paths in the order given. PNG is packed already and only stored."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path, data in content.items():
            entry = zipfile.ZipInfo(path, _START)
            entry.external_attr = _MODE
            entry.create_system = 3  # Unix, on every system
            entry.compress_type = (
                zipfile.ZIP_STORED if path.endswith(".png") else zipfile.ZIP_DEFLATED
            )
            archive.writestr(entry, data)
    return file.getvalue()


def _manifest(sheet: Sheet, listed: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "name": sheet.spec.name,
        "key": sheet.key,
        "spec": sheet.spec.model_dump(mode="json"),
        "pages": [
            {"file": page.file, "width": page.width, "height": page.height} for page in sheet.pages
        ],
        "frames": [_frame(sheet, frame) for frame in sheet.frames],
        "notes": sheet.notes,
        "files": listed,
    }


def _frame(sheet: Sheet, frame: Frame) -> dict[str, Any]:
    edge = frame.borders
    return {
        "name": frame.name,
        "page": sheet.pages[frame.page].file,
        "x": frame.x,
        "y": frame.y,
        "width": frame.width,
        "height": frame.height,
        "trim_x": frame.trim_x,
        "trim_y": frame.trim_y,
        "source_width": frame.source_width,
        "source_height": frame.source_height,
        "pivot": list(frame.pivot),
        "borders": edge and [edge.left, edge.top, edge.right, edge.bottom],
    }
