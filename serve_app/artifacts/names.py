"""What finished files are called. A name says whose file it is, and no name is used twice.

Knows text only; `folder` puts files under these names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

_NAME = re.compile(
    r"(?P<style_id>[a-z0-9_]+)_(?P<seed>0|[1-9][0-9]*)"
    r"_(?P<job_id>[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})"
    r"_(?P<index>0|[1-9][0-9]*)_(?P<fence>0|[1-9][0-9]*)\.png"
)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


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
        return f"{day_of(self.job_id)}/{self}"


def parse_name(name: str) -> ArtifactName | None:
    """The reverse of `str(ArtifactName)`; None: not a file of ours."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    style_id, seed, job_id, index, fence = match.groups()
    return ArtifactName(style_id, int(seed), job_id, int(index), int(fence))


def temporary_name(name: ArtifactName) -> str:
    """What the file is called while it is written."""
    return f".{name}.tmp"


def owner_of(file_name: str) -> str | None:
    """The job of a finished or unfinished file; None: not ours."""
    unfinished = file_name.startswith(".") and file_name.endswith(".tmp")
    parsed = parse_name(file_name[1:-4] if unfinished else file_name)
    return parsed.job_id if parsed else None


def is_ours(path: str) -> bool:
    """`path`: relative to output/, of a finished or unfinished file."""
    day, _, name = path.partition("/")
    return _DAY.fullmatch(day) is not None and owner_of(name) is not None


def day_of(job_id: str) -> str:
    """The folder of its files: the day it was ordered, UTC. A UUIDv7 starts with 48 bits of milliseconds
    since 1970 (RFC 9562)."""
    return datetime.fromtimestamp((UUID(job_id).int >> 80) / 1000, UTC).strftime("%Y-%m-%d")
