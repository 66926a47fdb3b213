"""inspect(): from the bytes of a picture file to what made it.

Knows no server and no network: what a file points to is told, and never fetched. Files come from strangers,
so everything has a bound before it is unpacked.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from serve_app.artifacts.credentials.reading import (
    MAX_MANIFEST,
    Credentials,
    read_credentials,
)
from serve_app.artifacts.imprint import Imprint, imprint_of
from serve_app.artifacts.inspection.container import Container, read_container, without_texts
from serve_app.artifacts.inspection.dialects import read_recipe
from serve_app.artifacts.inspection.exif import exif_texts
from serve_app.artifacts.inspection.recipe import Recipe
from serve_app.artifacts.inspection.xmp import KEYWORD, read_xmp

SHOWN_CHARS = 20_000
"""Of one text in the answer."""
_AI_MADE = frozenset(
    {"trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia"}
)


@dataclass(frozen=True, slots=True)
class C2pa:
    """A manifest of content credentials: how large the embedded one is and what it says, and where another
    one is said to lie, which is not fetched. `credentials`: None: the extra `c2pa` is not installed."""

    size_bytes: int = 0
    remote_url: str = ""
    credentials: Credentials | None = None


@dataclass(frozen=True, slots=True)
class Inspected:
    """`source_type`: the IPTC's word for how the picture came to be. `imprint`: None if it was not
    decoded, and a note says why."""

    format: str
    width: int
    height: int
    size_bytes: int
    sha256: str
    imprint: Imprint | None
    recipe: Recipe | None
    software: str
    source_type: str
    c2pa: C2pa | None
    texts: dict[str, str]
    notes: list[str] = field(default_factory=list[str])

    @property
    def ai_made(self) -> bool:
        """It says so itself, or a program that only makes such pictures wrote it."""
        return self.source_type in _AI_MADE or self.recipe is not None


def inspect(data: bytes, max_pixels: int, anchors: str = "") -> Inspected:
    """`max_pixels`: a larger picture is not decoded. `anchors`: PEM of roots whose content credentials are
    trusted. Raises InvalidField: it is no PNG, WebP or JPEG."""
    found = read_container(data)
    texts = found.texts | exif_texts(found.exif)
    xmp = read_xmp(texts[KEYWORD]) if KEYWORD in texts else None
    if xmp is not None and xmp.comment:
        texts["xmp:UserComment"] = xmp.comment
    pixels = found.width * found.height
    imprint, notes = None, list(found.notes)
    if pixels > max_pixels:
        notes.append(
            f"not_decoded: {found.width}x{found.height} pixels; up to {max_pixels} in all are"
        )
    else:
        try:
            imprint = imprint_of(without_texts(data), max_pixels)
        except ValueError:
            notes.append("not_decoded: its pixels are broken or incomplete")
    remote = xmp.provenance if xmp is not None else ""
    if remote:
        notes.append("c2pa_remote: it points to a manifest elsewhere, which was not fetched")
    if found.c2pa_bytes > MAX_MANIFEST:
        notes.append(f"c2pa_too_large: more than {MAX_MANIFEST} bytes, and not read")
    shown = {name[:79]: said[:SHOWN_CHARS] for name, said in texts.items()}
    return Inspected(
        format=found.format,
        width=found.width,
        height=found.height,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        imprint=imprint,
        recipe=read_recipe(texts),
        software=texts.get("Software", "")[:200],
        source_type=xmp.source_type if xmp is not None else "",
        c2pa=_c2pa(data, found, remote[:500], anchors),
        texts=shown,
        notes=notes,
    )


def _c2pa(data: bytes, found: Container, remote: str, anchors: str) -> C2pa | None:
    if not 0 < found.c2pa_bytes <= MAX_MANIFEST:
        return C2pa(found.c2pa_bytes, remote) if found.c2pa_bytes or remote else None
    return C2pa(found.c2pa_bytes, remote, read_credentials(data, found.format, anchors))
