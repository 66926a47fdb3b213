"""ObjectFiles: serves finished files that are objects of a bucket, as `OutputFiles` serves those of a folder.

Does not know which job a file belongs to: whoever has the URL may fetch it.
"""

from __future__ import annotations

import os.path
import re
from email.utils import formatdate, parsedate_to_datetime
from typing import BinaryIO
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.types import Scope

from serve_app.api.headers import names_revision
from serve_app.api.output import CACHED, MEDIA_TYPES, is_served, not_found
from serve_app.artifacts.disk import why
from serve_app.artifacts.objects import SIGNED_S, ObjectFacts, ObjectStorage
from serve_app.errors import Unavailable

_RANGE = re.compile(r"bytes\s*=\s*(?:([0-9]+)-([0-9]*)|-([0-9]+))\s*", re.IGNORECASE)


class ObjectFiles:
    """They may be cached for ever, since no name is used twice. `redirects`: a whole file is fetched from the
    store itself, by a URL that is good for an hour."""

    def __init__(self, storage: ObjectStorage, *, redirects: bool = False) -> None:
        self._storage, self._redirects = storage, redirects
        signed = urlsplit(storage.signed("any")) if redirects else None
        self.origin = f"{signed.scheme}://{signed.netloc}" if signed else ""

    async def response(self, path: str, scope: Scope) -> Response:
        if not self._redirects or scope["method"] != "GET" or not is_served(path):
            return await self.get_response(path, scope)
        await self._find(path)  # what is not there is ours to say
        headers = {"Cache-Control": f"private, max-age={SIGNED_S // 2}"}
        return RedirectResponse(self._storage.signed(path), status_code=307, headers=headers)

    async def get_response(self, path: str, scope: Scope) -> Response:
        found, asked = await self._find(path), Headers(scope=scope)
        headers = {
            "Accept-Ranges": "bytes",
            "ETag": found.etag,
            "Last-Modified": formatdate(found.modified, usegmt=True),
            "Cache-Control": CACHED,
        }
        if _is_known(found, asked):
            return Response(status_code=304, headers=headers)
        headers["Content-Type"] = MEDIA_TYPES[os.path.splitext(path)[1]]  # noqa: PTH122 - no path of a disk
        first, count, status = 0, found.size, 200
        if (part := _part(found, asked)) is not None:
            (first, count), status = part, 206
            headers["Content-Range"] = f"bytes {first}-{first + count - 1}/{found.size}"
        headers["Content-Length"] = str(count)
        if scope["method"] == "HEAD" or not count:
            return Response(status_code=status, headers=headers)
        content = self._storage.stream(path, first, count)
        return StreamingResponse(content, status_code=status, headers=headers)

    def open(self, path: str) -> BinaryIO:
        if not is_served(path):
            raise FileNotFoundError(path)
        return self._storage.open(path)

    async def _find(self, path: str) -> ObjectFacts:
        """Raises 404; Unavailable while the store does not say."""
        if not is_served(path):
            raise not_found()
        try:
            return await self._storage.find_async(path)
        except FileNotFoundError:
            raise not_found() from None
        except OSError as error:
            detail = f"The file cannot be read at the moment: {why(error)}."
            raise Unavailable(detail, code="storage_failed") from error


def _is_known(found: ObjectFacts, asked: Headers) -> bool:
    """The client has it already (RFC 9110, 13.2.2)."""
    if tags := asked.get("if-none-match"):
        return names_revision(tags, found.etag.removeprefix("W/").strip('"'))
    try:
        since = parsedate_to_datetime(asked["if-modified-since"]).timestamp()
    except (KeyError, ValueError):
        return False
    return int(found.modified) <= since


def _part(found: ObjectFacts, asked: Headers) -> tuple[int, int] | None:
    """First byte and number of bytes; None: the whole file, also where several parts are wanted. Raises
    416."""
    wanted = _RANGE.fullmatch(asked.get("range", ""))
    if wanted is None:
        return None
    if (only := asked.get("if-range")) and only not in (
        found.etag,
        formatdate(found.modified, usegmt=True),
    ):
        return None
    first, last, final = wanted.groups()
    if final is not None:
        start, end = max(0, found.size - int(final)), found.size
    else:
        start, end = int(first), min(int(last or found.size) + 1, found.size)
    if start >= end:
        raise HTTPException(416, headers={"Content-Range": f"bytes */{found.size}"})
    return start, end - start
