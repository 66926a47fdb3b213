"""Thumbnails of finished pictures: made when somebody asks, two at a time and off the event loop, and kept
in memory while there is room.

Knows where the files are; `artifacts/thumbnail.py` makes one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict

from starlette.responses import Response
from starlette.types import Scope

from serve_app.api.headers import names_revision
from serve_app.api.output import CACHED, FinishedFiles, not_found
from serve_app.artifacts.disk import is_gone, why
from serve_app.artifacts.thumbnail import thumbnail
from serve_app.errors import Unavailable

AT_ONCE = 2
MOST_BYTES = 32 * 2**20
"""Kept by one ingress: some five thousand of 256 pixels. A browser keeps its own for ever."""


class Thumbnails:
    """`max_pixels`: of a picture that is decoded for it."""

    def __init__(self, files: FinishedFiles, max_pixels: int, most_bytes: int = MOST_BYTES) -> None:
        self._files, self._max_pixels, self._most_bytes = files, max_pixels, most_bytes
        self._made: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._making: dict[tuple[str, int], asyncio.Task[bytes | None]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return sum(map(len, self._made.values()))

    @property
    def names(self) -> list[str]:
        """Files of which something is kept, those that nobody asked for of late first."""
        return [path for path, _ in self._made]

    async def response(self, path: str, side: int, scope: Scope) -> Response:
        """A look at the finished file `path`; the file itself where that is no larger. Raises 404."""
        whole = await self._files.get_response(path, scope)
        if whole.status_code != 200 or not whole.headers["Content-Type"].startswith("image/"):
            return whole
        body = await self._look(path, side)
        if body is None:
            return whole
        tag = hashlib.sha256(body).hexdigest()[:32]
        headers = {"ETag": f'"{tag}"', "Cache-Control": CACHED}
        asked = dict(scope["headers"]).get(b"if-none-match", b"").decode("latin-1")
        if asked and names_revision(asked, tag):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="image/webp")

    async def _look(self, path: str, side: int) -> bytes | None:
        key = (path, side)
        if key in self._made:
            self._made.move_to_end(key)
            return self._made[key]
        if key not in self._making:  # whoever asks meanwhile waits for the same one
            task = asyncio.create_task(self._make(path, side))
            self._making[key] = task
            task.add_done_callback(lambda _: self._making.pop(key, None))
        return await asyncio.shield(self._making[key])

    async def _make(self, path: str, side: int) -> bytes | None:
        async with self._turn:
            try:
                body = await asyncio.to_thread(self._small, path, side)
            except OSError as error:
                if is_gone(error):
                    raise not_found() from None
                raise Unavailable(
                    f"The file cannot be read: {why(error)}.", code="storage_failed"
                ) from error
        if body is not None:
            self._made[path, side] = body
            while self.size > self._most_bytes:
                self._made.popitem(last=False)
        return body

    def _small(self, path: str, side: int) -> bytes | None:
        with self._files.open(path) as file:
            return thumbnail(file, side, self._max_pixels)
