"""OutputDir: where finished images live, what they are called and what they say about themselves.

Knows nothing of Ray or torch, nor which files are published: the registry's rows decide that.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from serve_app import __version__
from serve_app.catalog.resolve import order_again
from serve_app.catalog.schedulers import SCHEDULERS
from serve_app.errors import StorageFailed
from serve_app.messages import ImageFile, RenderedImage
from serve_app.params import GenerationParams

log = logging.getLogger("assets.artifacts")

SOFTWARE = f"AI Asset Generator {__version__}"
RECORD_SCHEMA = 1
"""Of the JSON in the chunk `job`. Grows when a reader of the old one would go wrong."""

_IHDR_END = 33  # bytes: signature 8, then length 4, type 4, IHDR 13, checksum 4
_NAME = re.compile(
    r"(?P<style_id>[a-z0-9_]+)_(?P<seed>0|[1-9][0-9]*)"
    r"_(?P<job_id>[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})"
    r"_(?P<index>0|[1-9][0-9]*)_(?P<fence>0|[1-9][0-9]*)\.png"
)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "the service may not write there",
    errno.EEXIST: "this image is stored already",
}


@dataclass(frozen=True, slots=True)
class ArtifactName:
    """One attempt at one image; no other attempt ever has this name."""

    style_id: str
    seed: int
    job_id: str
    index: int
    fence: int

    def __str__(self) -> str:
        return f"{self.style_id}_{self.seed}_{self.job_id}_{self.index}_{self.fence}.png"

    @property
    def path(self) -> str:
        """Relative to output/, under the day (UTC) the job was ordered."""
        return f"{_day(self.job_id)}/{self}"


def parse_name(name: str) -> ArtifactName | None:
    """The reverse of `str(ArtifactName)`; None: not a file of ours."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    style_id, seed, job_id, index, fence = match.groups()
    return ArtifactName(style_id, int(seed), job_id, int(index), int(fence))


class OutputDir:
    """Files under `root`, written once and never overwritten. Paths in and out are relative to it,
    with forward slashes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(
        self, image: RenderedImage, params: GenerationParams, job_id: str, fence: int
    ) -> ImageFile:
        """On disk, name included, when it returns. Raises StorageFailed, and leaves no part of a
        file then."""
        index = image["index"]
        name = ArtifactName(params.style_id, params.seed_of(index), job_id, index, fence)
        data = _with_metadata(image, params, job_id, fence)
        try:
            self._store(name, data)
        except OSError as error:
            raise StorageFailed(_reason(error)) from error
        return ImageFile(
            path=name.path,
            index=index,
            seed=name.seed,
            width=image["width"],
            height=image["height"],
            content_type="image/png",
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            has_alpha=image["has_alpha"],
            notes=list(image["notes"]),
        )

    def files_of(self, job_ids: Iterable[str]) -> dict[str, list[str]]:
        """Job id -> every file that an attempt at it wrote, unfinished ones too. Each day's directory
        is read once; whatever else lies in it is not ours and not listed."""
        found: dict[str, list[str]] = {job_id: [] for job_id in job_ids}
        for day in {_day(job_id) for job_id in found}:
            with suppress(FileNotFoundError):
                for path, owner in self._files(day):
                    if owner in found:
                        found[owner].append(path)
        return found

    def names_for(self, job_id: str, params: Mapping[str, Any], fence: int) -> list[str]:
        """Every path that attempts up to `fence` at this order may have written, finished or not. Most
        of them do not exist: to try them all costs less than to read the directory of a busy day."""
        style_id, seed = params.get("style_id", "none"), params["seed"]
        names = [
            ArtifactName(style_id, seed + index, job_id, index, attempt)
            for attempt in range(1, fence + 1)
            for index in range(params.get("n", 1))
        ]
        day = _day(job_id)
        return [f"{day}/{form}" for name in names for form in (name, f".{name}.tmp")]

    def remove(self, paths: Iterable[str]) -> int:
        """How many are gone now. One that cannot be removed is logged and stays: whoever cleans up
        has something more important to report."""
        gone = 0
        for path in paths:
            day, _, name = path.partition("/")
            if not _DAY.fullmatch(day) or _owner(name) is None:
                raise ValueError(f"not a path of ours: {path!r}")
            try:
                (self._root / path).unlink(missing_ok=True)
                gone += 1
            except OSError as error:
                log.warning("could not remove %s: %s", path, error.strerror)
        return gone

    def _files(self, day: str) -> Iterator[tuple[str, str]]:
        for entry in os.scandir(self._root / day):
            job_id = _owner(entry.name)
            if job_id is not None:
                yield f"{day}/{entry.name}", job_id

    def _store(self, name: ArtifactName, data: bytes) -> None:
        final = self._root / name.path
        temporary = final.with_name(f".{name}.tmp")
        if not final.parent.is_dir():
            final.parent.mkdir(parents=True, exist_ok=True)
            _sync_directory(self._root)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            final.hardlink_to(temporary)  # unlike a rename, this never replaces a file
        finally:
            temporary.unlink(missing_ok=True)
        _sync_directory(final.parent)


def infotext(params: GenerationParams, index: int) -> str:
    """The `parameters` text of AUTOMATIC1111's web UI, which most viewers of generated images read."""
    scheduler = SCHEDULERS[params.scheduler]
    # There, 1 means no guidance and 0 would mean nothing but the negative prompt.
    guidance = max(1.0, params.guidance_scale)
    pairs = {
        "Steps": params.steps,
        "Sampler": scheduler.sampler,
        "Schedule type": scheduler.schedule,
        "CFG scale": str(guidance).removesuffix(".0"),
        "Seed": params.seed_of(index),
        "Size": f"{params.width}x{params.height}",
        "Model hash": params.model_revision[:10],
        "Model": params.model,
        "RNG": "CPU",
        "Version": SOFTWARE,
    }
    negative = f"\nNegative prompt: {params.negative_prompt}" if params.negative_prompt else ""
    values = ", ".join(f"{key}: {_quoted(str(v))}" for key, v in pairs.items() if v is not None)
    return f"{params.prompt}{negative}\n{values}".strip()


def record(
    image: RenderedImage, params: GenerationParams, job_id: str, fence: int
) -> dict[str, Any]:
    """All we know of an image. `order` is the body of a POST that orders it again."""
    return {
        "schema": RECORD_SCHEMA,
        "job_id": job_id,
        "index": image["index"],
        "fence": fence,
        "params": params.model_dump(mode="json"),
        "order": order_again(params, image["index"]),
        "made_by": image["made_by"],
        "notes": image["notes"],
    }


def _with_metadata(
    image: RenderedImage, params: GenerationParams, job_id: str, fence: int
) -> bytes:
    """The same PNG with text chunks after its header; the pixels are not encoded again."""
    data = image["data"]
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        raise ValueError("the renderer sent something that is not a PNG")
    job = json.dumps(record(image, params, job_id, fence), separators=(",", ":"))
    chunks = [
        _text_chunk("parameters", infotext(params, image["index"])),
        _text_chunk("job", job),
        _text_chunk("Software", SOFTWARE),
        _international_chunk("XML:com.adobe.xmp", _XMP),  # readers look for XMP in iTXt alone
    ]
    return data[:_IHDR_END] + b"".join(chunks) + data[_IHDR_END:]


_XMP = (
    "<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>"
    "<x:xmpmeta xmlns:x='adobe:ns:meta/'>"
    "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
    "<rdf:Description rdf:about='' xmlns:Iptc4xmpExt='http://iptc.org/std/Iptc4xmpExt/2008-02-29/'>"
    "<Iptc4xmpExt:DigitalSourceType>"
    "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    "</Iptc4xmpExt:DigitalSourceType>"
    "</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='r'?>"
)
"""The IPTC's mark, read by machines, for pictures that a trained model made."""


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r"[,:\n]", value) else value


def _text_chunk(keyword: str, text: str) -> bytes:
    """tEXt, which every reader knows; iTXt where Latin-1 does not do."""
    try:
        return _chunk(b"tEXt", keyword.encode() + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return _international_chunk(keyword, text)


def _international_chunk(keyword: str, text: str) -> bytes:
    """iTXt: not compressed (two zero bytes), language and translated keyword left empty."""
    return _chunk(b"iTXt", keyword.encode() + b"\0\0\0\0\0" + text.encode())


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _day(job_id: str) -> str:
    """A UUIDv7 starts with 48 bits of milliseconds since 1970."""
    return datetime.fromtimestamp((UUID(job_id).int >> 80) / 1000, UTC).strftime("%Y-%m-%d")


def _owner(name: str) -> str | None:
    """The job of a finished or unfinished file; None: not ours."""
    unfinished = name.startswith(".") and name.endswith(".tmp")
    parsed = parse_name(name[1:-4] if unfinished else name)
    return parsed.job_id if parsed else None


def _reason(error: OSError) -> str:
    """Fit to be shown to anyone: it names no path."""
    why = _REASONS.get(error.errno or 0, error.strerror or "unknown reason")
    return f"The image could not be written to the output directory: {why}."


def _sync_directory(path: Path) -> None:
    """A new name is on disk only when its directory is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
