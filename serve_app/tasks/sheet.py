"""sheet: the body of jobs that pack pictures which exist. Image i is page i.

Knows where pictures are and how they are read; places and formats are `delivery/`'s.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from serve_app.artifacts.comparison import record_of as record_in
from serve_app.artifacts.imprint import prints_of
from serve_app.artifacts.png import RECORD_SCHEMA, with_record
from serve_app.delivery.archive import MANIFEST, files, zipped
from serve_app.delivery.formats.encoding import as_png
from serve_app.delivery.sheet import Sheet, pack
from serve_app.delivery.spec import spec_of
from serve_app.delivery.sprite import Borders, Sprite
from serve_app.errors import InvalidField, SheetFailed
from serve_app.messages import ImageFile, StoredFile
from serve_app.params import SheetParams, SheetPicture
from serve_app.tasks.reproduction import compared
from serve_app.tasks.work import Work


def sheet(work: Work) -> list[ImageFile]:
    """Raises SourceMissing, SheetFailed, StorageFailed."""
    params = SheetParams.model_validate(work.params)
    sprites: list[Sprite] = []
    try:
        for done, picture in enumerate(params.pictures):
            work.step("packing", done, len(params.pictures))
            sprites.append(sprite_of(picture, work.read(picture.path, picture.sha256)))
        packed = pack(sprites, spec_of(params.spec))
        record = record_of(params)
        content = files(packed, lambda pixels: with_record(as_png(pixels), record))
    except InvalidField as error:
        raise SheetFailed(error.detail) from error
    pages = stored(work, packed, content)
    return compared(work, pages, params.reproduces) if params.reproduces else pages


def stored(work: Work, packed: Sheet, content: dict[str, bytes]) -> list[ImageFile]:
    """One image a page. What concerns all of them goes to the first: the archive, the manifest, and what of
    the formats is JSON. Raises StorageFailed."""
    pages = {page.file for page in packed.pages}
    shared: list[StoredFile] = [named(work.put(0, 0, "archive", zipped(content), "zip"), "")]
    for path, data in content.items():
        if path not in pages and path.endswith(".json"):
            role = "manifest" if path == MANIFEST else role_of(path, packed.spec.name)
            shared.append(named(work.put(0, 0, role, data, "json"), path))
    images: list[ImageFile] = []
    for index, page in enumerate(packed.pages):
        main = named(work.put(index, 0, "page", content[page.file]), page.file)
        images.append(
            ImageFile(
                path=main["path"],
                index=index,
                seed=0,
                width=page.width,
                height=page.height,
                content_type=main["content_type"],
                size_bytes=main["size_bytes"],
                sha256=main["sha256"],
                has_alpha=True,
                notes=packed.notes if index == 0 else [],
                files=[main, *(shared if index == 0 else [])],
                **prints_of(main),
            )
        )
    return images


def named(file: StoredFile, name: str) -> StoredFile:
    """`name`: its path in the archive."""
    return {**file, "name": name} if name else file


def role_of(path: str, name: str) -> str:
    """`atlas`, `atlas_1`, `array`, `anims`, `aseprite`: what is left of the path without the sheet's name."""
    rest = path.removeprefix(name).removesuffix(".json").strip("._")
    return f"atlas_{rest}".rstrip("_") if rest.isdecimal() or not rest else rest.replace(".", "_")


def sprite_of(picture: SheetPicture, data: bytes) -> Sprite:
    """PNG or WebP, with the pivot and borders that its effects gave it. Raises InvalidField."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "WEBP"]) as image:
            pixels = np.asarray(image.convert("RGBA"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidField("items", f"{picture.name} cannot be decoded") from error
    # What the newest effects found; empty: it had none, or the file says nothing of us.
    facts: dict[str, Any] = [{}, *record_in(data).get("finished", [])][-1]
    pivot, borders = facts.get("pivot"), facts.get("borders")
    height, width = pixels.shape[:2]
    return Sprite(
        picture.name,
        pixels,
        (pivot[0] / width, pivot[1] / height) if pivot else (0.5, 0.5),
        Borders(*borders) if borders else None,
    )


def record_of(params: SheetParams) -> dict[str, Any]:
    """Without the job's own id: equal pictures and an equal spec make equal bytes."""
    sources = [
        {"job_id": p.job_id, "index": p.index, "sha256": p.sha256, "name": p.name}
        for p in params.pictures
    ]
    return {"schema": RECORD_SCHEMA, "kind": "sheet", "spec": params.spec, "sources": sources}
