"""ArtifactName: the name of a finished file, from which its job can be read. No name is used twice.

Knows text only; `folder` writes files under these names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

_NAME = re.compile(
    r"(?P<style_id>[a-z0-9_]+)_(?P<seed>0|[1-9][0-9]*)"
    r"_(?P<job_id>[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})"
    r"_(?P<index>0|[1-9][0-9]*)_(?P<fence>0|[1-9][0-9]*)"
    r"(?:-(?P<role>[a-z][a-z0-9_]{0,39}))?\.(?P<extension>[a-z0-9]{1,8})"
)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, slots=True)
class ArtifactName:
    """A file of one attempt at one image. `fence` is the attempt's, so no other attempt has this name.
    `role`: what the file is to its image; the picture as it was drawn has none."""

    style_id: str
    seed: int
    job_id: str
    index: int
    fence: int
    role: str = ""
    extension: str = "png"

    def __str__(self) -> str:
        base = f"{self.style_id}_{self.seed}_{self.job_id}_{self.index}_{self.fence}"
        return f"{base}-{self.role}.{self.extension}" if self.role else f"{base}.{self.extension}"

    @property
    def path(self) -> str:
        """Relative to output/, in the folder of the day on which the job was ordered."""
        return f"{day_of(self.job_id)}/{self}"


def parse_name(name: str) -> ArtifactName | None:
    """The reverse of `str(ArtifactName)`; None for any other file name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    style_id, seed, job_id, index, fence, role, extension = match.groups()
    return ArtifactName(style_id, int(seed), job_id, int(index), int(fence), role or "", extension)


def temporary_name(name: ArtifactName) -> str:
    """The name of the file while it is being written."""
    return f".{name}.tmp"


def owner_of(file_name: str) -> str | None:
    """The job id of a finished or unfinished file; None for any other file name."""
    parsed = _parsed(file_name)
    return parsed.job_id if parsed else None


def fence_of(path: str) -> int:
    """The attempt that wrote this finished or unfinished file of ours."""
    parsed = _parsed(path.rpartition("/")[2])
    if parsed is None:
        raise ValueError(f"not a path of ours: {path!r}")
    return parsed.fence


def is_ours(path: str) -> bool:
    """Whether `path`, relative to output/, is that of a finished or unfinished file."""
    day, _, name = path.partition("/")
    return _DAY.fullmatch(day) is not None and owner_of(name) is not None


def day_of(job_id: str) -> str:
    """The folder of its files: the day it was ordered, in UTC.

    `job_id` is a UUIDv7, which starts with 48 bits of milliseconds since 1970 (RFC 9562).
    """
    return datetime.fromtimestamp((UUID(job_id).int >> 80) / 1000, UTC).strftime("%Y-%m-%d")


def _parsed(file_name: str) -> ArtifactName | None:
    """Of a finished or unfinished file."""
    unfinished = file_name.startswith(".") and file_name.endswith(".tmp")
    return parse_name(file_name[1:-4] if unfinished else file_name)
