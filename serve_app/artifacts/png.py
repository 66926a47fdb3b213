"""Metadata of a finished PNG: text for viewers of generated images, a JSON record, and a mark for machines.

Knows the PNG format and GenerationParams; nothing of folders, job states or models.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from PIL import ExifTags, Image

from serve_app import __version__
from serve_app.catalog.resolve import order_again
from serve_app.catalog.schedulers import SCHEDULERS
from serve_app.catalog.syntax import as_words
from serve_app.messages import RenderedImage
from serve_app.params import GenerationParams

SOFTWARE = f"AI Asset Generator {__version__}"
RECORD_SCHEMA = 1
"""Version of the JSON in the chunk `job`. It grows when a reader of the old one would misread the new one."""

_IHDR_END = 33  # bytes: signature 8, then length 4, type 4, IHDR 13, checksum 4


def with_metadata(image: RenderedImage, params: GenerationParams, job_id: str, fence: int) -> bytes:
    """The same PNG with text chunks after its header; the pixels are not encoded again.

    Raises ValueError if `image` holds something else than a PNG.
    """
    text = infotext(params, image["index"])
    return with_record(image["data"], record(image, params, job_id, fence), parameters=text)


def with_record(data: bytes, record: Mapping[str, Any], **texts: str) -> bytes:
    """The same PNG with `texts`, a record, and the marks of this service and of AI-made media, after its
    header. Raises ValueError if it is no PNG."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        raise ValueError("the renderer sent something that is not a PNG")
    chunks = [
        *(_text_chunk(keyword, text) for keyword, text in texts.items()),
        _text_chunk("job", json.dumps(record, separators=(",", ":"))),
        _text_chunk("Software", SOFTWARE),
        _international_chunk("XML:com.adobe.xmp", _XMP),  # readers look for XMP only in iTXt
    ]
    return data[:_IHDR_END] + b"".join(chunks) + data[_IHDR_END:]


def infotext(params: GenerationParams, index: int) -> str:
    """The `parameters` text of AUTOMATIC1111's web UI, which most viewers of generated images read.

    Its prompts are written so that it reads no weights and no LoRA in what was drawn as words. The record has
    them as they are.
    """
    scheduler = SCHEDULERS[params.scheduler]
    # In that format 1 means no guidance, and 0 would mean: only the negative prompt.
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
        "Denoising strength": None if params.init_image is None else f"{params.strength:g}",
        "Clip skip": params.clip_skip if params.clip_skip > 1 else None,
        "RNG": "CPU",
        "Version": SOFTWARE,
    }
    weighted = params.prompt_syntax == "weighted"
    negative = as_words(params.negative_prompt, weighted=weighted)
    if negative:
        negative = f"\nNegative prompt: {negative}"
    values = ", ".join(f"{key}: {_quoted(str(v))}" for key, v in pairs.items() if v is not None)
    return f"{as_words(params.prompt, weighted=weighted)}{negative}\n{values}".strip()


def record(
    image: RenderedImage, params: GenerationParams, job_id: str, fence: int
) -> dict[str, Any]:
    """Everything known about an image. `order`: the body of a POST that orders it again."""
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


def exif_of(texts: Mapping[str, str]) -> bytes:
    """EXIF for a WebP, which has no texts by keyword: `parameters` as a user comment, where viewers look for
    it, and `job`, which is ASCII, as the description."""
    exif = Image.Exif()
    if parameters := texts.get("parameters"):
        comment = b"UNICODE\0" + parameters.encode("utf-16-be")
        exif[ExifTags.IFD.Exif] = {ExifTags.Base.UserComment: comment}
    if job := texts.get("job"):
        exif[ExifTags.Base.ImageDescription] = job
    return exif.tobytes()


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
"""The IPTC's machine-readable mark of pictures that a trained model made."""


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r"[,:\n]", value) else value


def _text_chunk(keyword: str, text: str) -> bytes:
    """tEXt, which every reader knows; iTXt for text outside Latin-1."""
    try:
        return _chunk(b"tEXt", keyword.encode() + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return _international_chunk(keyword, text)


def _international_chunk(keyword: str, text: str) -> bytes:
    """iTXt, not compressed (two zero bytes), with empty language and translated keyword."""
    return _chunk(b"iTXt", keyword.encode() + b"\0\0\0\0\0" + text.encode())


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
