"""Pictures of a finished job as bytes, in the format that a client asks for.

Knows stored files and formats of pictures; no job and no route. It works for long, so it belongs in threads.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from serve_app.artifacts.disk import is_gone, why
from serve_app.artifacts.folder import OutputDir
from serve_app.errors import Gone, Unavailable
from serve_app.messages import ImageFile

PictureFormat = Literal["png", "webp", "jpeg"]
LOSSLESS = 100
"""`quality` at which a WebP is stored as it is."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How pictures are sent. `quality`: 0 to 100, of JPEG, and of WebP below LOSSLESS."""

    format: PictureFormat = "png"
    quality: int = LOSSLESS

    @property
    def stored(self) -> Literal["png", "webp"]:
        """The format in which the job stores them."""
        return "webp" if self.format == "webp" else "png"

    @property
    def as_stored(self) -> bool:
        return self.format == "png" or (self.format == "webp" and self.quality == LOSSLESS)

    def pack(self, data: bytes, content_type: str) -> bytes:
        """From a stored file. A picture whose effects could not be done is stored as it was drawn, a PNG."""
        if self.as_stored and content_type == f"image/{self.format}":
            return data
        with Image.open(io.BytesIO(data)) as picture:
            return self.encode(picture)

    def encode(self, picture: Image.Image, size: tuple[int, int] | None = None) -> bytes:
        """`size`: scaled to it, where it is not. JPEG has no transparency: what is transparent becomes
        white."""
        if size is not None and picture.size != size:
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        file = io.BytesIO()
        match self.format:
            case "png":
                picture.save(file, "PNG")
            case "webp":
                lossless = self.quality == LOSSLESS
                picture.save(file, "WEBP", lossless=lossless, quality=self.quality)
            case "jpeg":
                _on_white(picture).save(file, "JPEG", quality=self.quality)
        return file.getvalue()


def read_pictures(folder: OutputDir, images: list[ImageFile], packing: Packing) -> list[bytes]:
    """In the order of their index. Raises Gone if a file was removed meanwhile, Unavailable."""
    try:
        return [packing.pack(folder.read(image["path"]), image["content_type"]) for image in images]
    except OSError as error:
        if not is_gone(error):
            raise Unavailable(
                f"A picture cannot be read: {why(error)}.", code="storage_failed"
            ) from error
        raise Gone("A picture of this job is not there any more.") from error


def _on_white(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
