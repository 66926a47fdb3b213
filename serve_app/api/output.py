"""OutputFiles: serves the output folder, but only names that finished files can have.

Does not know which job a file belongs to: whoever has the URL may fetch it.
"""

from __future__ import annotations

import os
import re
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from serve_app.artifacts.storage import FolderStorage, Storage

MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".json": "application/json",
    ".zip": "application/zip",
}

CACHED = "private, max-age=31536000, immutable"

# Every part starts with a letter, digit or dash, so there is no `..`, hidden file or absolute path, and
# no `%` that another layer could decode again. Unfinished files have other suffixes.
_SERVED = re.compile(
    r"(?:[A-Za-z0-9-][\w.-]*/)*[A-Za-z0-9-][\w.-]*\.(?:png|jpg|webp|json|zip)", re.ASCII
)


class FinishedFiles(Protocol):
    """Finished files of any storage."""

    @property
    def origin(self) -> str:
        """Of another server that clients are sent to; empty: of none."""
        ...

    async def response(self, path: str, scope: Scope) -> Response:
        """Of a request for the file. Raises HTTPException, Unavailable."""
        ...

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The same, and never a redirect to another server."""
        ...

    def open(self, path: str) -> BinaryIO:
        """A file that would be served. Raises OSError."""
        ...


def is_served(path: str) -> bool:
    """A file of this name may be fetched, if it is there."""
    return _SERVED.fullmatch(path) is not None


def not_found() -> HTTPException:
    return HTTPException(404, "No such file.")


class OutputFiles(StaticFiles):
    """Static files that may be cached for ever, since no name is used twice."""

    origin = ""

    def __init__(self, directory: PathLike[str]) -> None:
        super().__init__(directory=directory, check_dir=False)

    async def get_response(self, path: str, scope: Scope) -> Response:
        if not is_served(path):
            raise not_found()
        return await super().get_response(path, scope)

    async def response(self, path: str, scope: Scope) -> Response:
        return await self.get_response(path, scope)

    def open(self, path: str) -> BinaryIO:
        full_path, stat = self.lookup_path(path) if is_served(path) else ("", None)
        if stat is None:
            raise FileNotFoundError(path)
        return open(full_path, "rb")  # noqa: PTH123 - the caller closes it

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        try:
            full_path, stat = super().lookup_path(path)
        except OSError:  # the name is too long, or the file is not readable: as if it were absent
            return "", None
        # Starlette follows links that stay inside the directory. Here no link is served.
        linked = full_path != os.path.join(os.path.realpath(self.all_directories[0]), path)  # noqa: PTH118
        return ("", None) if linked else (full_path, stat)

    def file_response(self, full_path: Any, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(full_path, *args, **kwargs)
        if response.status_code == 200:
            response.headers["Content-Type"] = MEDIA_TYPES[os.path.splitext(full_path)[1]]  # noqa: PTH122
        response.headers["Cache-Control"] = CACHED
        return response


def files_of(storage: Storage, *, redirects: bool) -> FinishedFiles:
    """`redirects`: of an object store, see `ObjectFiles`."""
    if isinstance(storage, FolderStorage):
        return OutputFiles(Path(storage.address))
    from serve_app.api.object_files import ObjectFiles, ObjectStorage

    assert isinstance(storage, ObjectStorage)
    return ObjectFiles(storage, redirects=redirects)
