"""Asset: what effects make of a picture, as files that say how they were made.

Knows effects, formats and the text in a PNG; nothing of jobs beyond `Work.put`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from serve_app.artifacts.imprint import prints_of
from serve_app.artifacts.png import exif_of
from serve_app.finishing.base import NO_WEIGHTS, Weights
from serve_app.finishing.finish import Finished, finish
from serve_app.finishing.picture import Picture
from serve_app.finishing.png import read_png, write_png
from serve_app.messages import ImageFile, StoredFile
from serve_app.tasks.work import Work

Format = Literal["png", "webp"]


@dataclass(frozen=True)
class Asset:
    """A finished picture, not stored yet. `texts`: by keyword, as a PNG holds them."""

    finished: Finished
    texts: Mapping[str, str]
    format: Format
    effects: Sequence[Mapping[str, Any]]

    @property
    def picture(self) -> Picture:
        return self.finished.picture

    def store(
        self, work: Work, index: int, seed: int, *, original: str, before: Sequence[StoredFile] = ()
    ) -> ImageFile:
        """As image `index` of the job. `original`: path of the picture before the effects; `before`: files of
        the image that are stored already. Raises StorageFailed."""
        picture = self.picture
        main = work.put(index, seed, "asset", self._encoded(), self.format)
        files = [*before, main]
        for role, pixels in picture.files.items():
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            files.append(work.put(index, seed, role, buffer.getvalue()))
        return ImageFile(
            path=main["path"],
            index=index,
            seed=seed,
            width=picture.width,
            height=picture.height,
            content_type=main["content_type"],
            size_bytes=main["size_bytes"],
            sha256=main["sha256"],
            has_alpha=picture.has_alpha,
            notes=self.notes,
            original=original,
            files=files,
            **prints_of(main),
        )

    @property
    def notes(self) -> list[str]:
        return [str(note) for notes in self.finished.notes for note in notes]

    def _encoded(self) -> bytes:
        if self.format == "png":
            return write_png(self.picture, self.texts)
        buffer = io.BytesIO()
        self.picture.to_image().save(
            buffer,
            "WEBP",
            lossless=True,
            exact=True,  # colours under alpha 0 stay: they keep fringes away
            exif=exif_of(self.texts),
            xmp=self.texts.get("XML:com.adobe.xmp", "").encode(),
        )
        return buffer.getvalue()


def asset_of(
    original: bytes,
    effects: Sequence[Mapping[str, Any]],
    format: Format,
    origin: Mapping[str, Any],
    weights: Weights = NO_WEIGHTS,
) -> Asset:
    """`original`: a PNG of ours. `origin`: which picture of which job it is. Raises EffectFailed."""
    picture, texts = read_png(original)
    finished = finish(picture, effects, weights)
    record = _record(texts.get("job", "{}"))
    # What was finished before stays in the record: the list is the whole way from the drawing.
    record["finished"] = [
        *record.get("finished", []),
        {
            "from": dict(origin),
            "effects": [dict(effect) for effect in effects],
            "pivot": finished.picture.pivot,
            "borders": finished.picture.borders,
            "notes": [str(note) for notes in finished.notes for note in notes],
        },
    ]
    job = json.dumps(record, separators=(",", ":"))
    return Asset(finished, {**texts, "job": job}, format, effects)


def _record(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
