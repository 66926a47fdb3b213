"""ObjectAddress: where a bucket is, as one line of text says it: `s3://bucket/prefix?endpoint=https://host`.

Knows text only; `artifacts/objects.py` speaks to what is there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

SCHEMES = ("s3", "gs", "az")
EXAMPLES = "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder"
OPTIONS = ("endpoint", "region")
"""Of `s3`, after a `?`."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_PREFIX = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*")
_ENDPOINT = re.compile(r"https?://[^\s/?#@]+(?:/[^\s?#@]*)?")


@dataclass(frozen=True, slots=True)
class ObjectAddress:
    """`prefix`: without slashes at its ends. `endpoint`, `region`: empty where the environment says it."""

    scheme: str
    bucket: str
    prefix: str
    endpoint: str = ""
    region: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, which says what is allowed."""
        parts = urlsplit(text)
        if parts.scheme not in SCHEMES:
            raise ValueError(f"{text!r} is no place for files: write {EXAMPLES}")
        if not _BUCKET.fullmatch(parts.netloc):
            raise ValueError(
                f"{parts.netloc!r} is no name of a bucket; keys come from the environment"
            )
        prefix = parts.path.strip("/")
        if not _PREFIX.fullmatch(f"{prefix}/" if prefix else ""):
            raise ValueError(
                f"{prefix!r} is no prefix: names of a-z, A-Z, 0-9, '.', '_', '-', with '/'"
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        allowed = OPTIONS if parts.scheme == "s3" else ()
        unknown = sorted(options.keys() - set(allowed))
        if parts.fragment or unknown:
            said = parts.fragment or ", ".join(unknown)
            wanted = f"may have {' and '.join(allowed)}" if allowed else "has no options"
            raise ValueError(f"{said!r} is not known: {parts.scheme}:// {wanted}")
        endpoint = options.get("endpoint", "").rstrip("/")
        if "endpoint" in options and not _ENDPOINT.fullmatch(endpoint):
            raise ValueError(f"endpoint {endpoint!r} is no URL: write it like http://10.0.0.7:9000")
        return cls(parts.scheme, parts.netloc, prefix, endpoint, options.get("region", ""))

    @property
    def url(self) -> str:
        """Without its options."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")

    def __str__(self) -> str:
        given = [(name, getattr(self, name)) for name in OPTIONS if getattr(self, name)]
        options = "&".join(f"{name}={quote(value, safe=':/')}" for name, value in given)
        return f"{self.url}?{options}" if options else self.url


def folder_in(text: str) -> Path | None:
    """Of `file:///folder`; None of any other scheme. Raises ValueError."""
    parts = urlsplit(text)
    if parts.scheme != "file":
        return None
    if parts.netloc or not parts.path.startswith("/") or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is no folder: write file:///srv/art, or leave it to output_dir")
    return Path(unquote(parts.path)).resolve()
