"""SourcePictures: takes what clients bring, shows it to its owner, and forgets it.

Knows uploads as clients get them. `artifacts/brought.py` reads the files, `artifacts/uploads.py` keeps them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self, TypeVar

from pydantic import BaseModel, Field

from serve_app.artifacts.brought import PlainPng, brought
from serve_app.artifacts.disk import why
from serve_app.artifacts.uploads import Described, Quota, UploadFolder
from serve_app.config import Settings
from serve_app.errors import NotFound, StorageFailed, Unavailable

UPLOAD_ID = "019aab42-7c1e-7d30-9f6a-2b54c1f0a3de"
AT_ONCE = 2
"""Files that one process decodes at a time: each may take 4 bytes a pixel, and time."""

T = TypeVar("T")


class UploadReply(BaseModel):
    """A picture that may be ordered with, until it expires. It is kept as a PNG of 8 bits in sRGB, upright,
    without anything that its file said beside the pixels."""

    upload_id: str = Field(description="What an order names it by.", examples=[UPLOAD_ID])
    width: int = Field(description="Pixels, upright.", examples=[512])
    height: int = Field(description="Pixels, upright.", examples=[512])
    has_alpha: bool = Field(description="Some of it is transparent.", examples=[False])
    size_bytes: int = Field(description="As it is kept.", examples=[312_345])
    sha256: str = Field(description="Of the PNG that is kept.", examples=["9f86d081" * 8])
    created_at: datetime = Field(description="UTC.", examples=["2025-11-22T10:00:00Z"])
    expires_at: datetime = Field(
        description="UTC. Jobs that were ordered with it by then are drawn all the same.",
        examples=["2025-11-23T10:00:00Z"],
    )

    @classmethod
    def of(cls, found: Described) -> Self:
        upload = found.upload
        return cls(
            upload_id=upload.upload_id,
            width=found.width,
            height=found.height,
            has_alpha=found.has_alpha,
            size_bytes=found.size_bytes,
            sha256=upload.sha256,
            created_at=datetime.fromtimestamp(upload.created_at, UTC),
            expires_at=datetime.fromtimestamp(upload.expires_at, UTC),
        )


@dataclass(frozen=True)
class SourcePictures:
    """`decoding`: bounds the pictures that are decoded at a time. All work on files is done in threads."""

    settings: Settings
    folder: UploadFolder
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    now: Callable[[], float] = time.time

    async def take(self, data: bytes, owner: str) -> tuple[UploadReply, bool]:
        """The upload, and whether this owner had brought the same pixels before. Raises InvalidField,
        UploadsFull, Unavailable."""
        settings = self.settings

        def stored() -> tuple[Described, bool]:
            picture: PlainPng = brought(data, settings.max_pixels)
            now = self.now()
            expires_at = int(now + settings.upload_hours * 3600)
            quota = Quota(settings.max_uploads, settings.max_uploads_bytes)
            return self.folder.add(owner, picture, now=now, expires_at=expires_at, quota=quota)

        async with self.decoding:
            try:
                found, known = await asyncio.to_thread(stored)
            except StorageFailed as error:
                raise Unavailable(error.detail, code=error.code) from error
        return UploadReply.of(found), known

    async def show(self, upload_id: str, owner: str) -> UploadReply:
        return UploadReply.of(await self.found(upload_id, owner))

    async def found(self, upload_id: str, owner: str) -> Described:
        """Raises NotFound, Unavailable."""
        found = await self._asked(self.folder.find, owner, upload_id, self.now())
        if found is None:
            raise NotFound("There is no upload of this id; it may have expired.")
        return found

    async def pin(self, path: str, sha256: str, owner: str) -> str:
        """The id under which a finished file is kept for a job. Raises SourceMissing, Unavailable."""
        return await self._asked(self.folder.pin, owner, path, sha256, self.now())

    async def again(self, upload_id: str) -> str:
        """A new id for the same picture. Raises SourceMissing, Unavailable."""
        return await self._asked(self.folder.again, upload_id, self.now())

    async def _asked(self, method: Callable[..., T], *args: object) -> T:
        try:
            return await asyncio.to_thread(method, *args)
        except OSError as error:
            detail = f"The picture could not be read or kept: {why(error)}."
            raise Unavailable(detail, code="storage_failed") from error

    async def forget(self, upload_id: str, owner: str) -> None:
        """Raises NotFound."""
        if not await self._asked(self.folder.expire, owner, upload_id, self.now()):
            raise NotFound("There is no upload of this id; it may have expired.")
