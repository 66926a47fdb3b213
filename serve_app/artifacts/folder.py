"""OutputDir: the finished files, which are written once and never overwritten.

Knows names and what pictures say of themselves; nothing of where they are kept, nor which are published: the
registry's rows decide that.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import threading
from collections.abc import Iterable
from pathlib import Path

from serve_app.artifacts.disk import why
from serve_app.artifacts.imprint import printed
from serve_app.artifacts.names import (
    ArtifactName,
    day_of,
    fence_of,
    is_ours,
    owner_of,
    temporary_name,
)
from serve_app.artifacts.png import with_metadata
from serve_app.artifacts.storage import FolderStorage, Storage, storage_at
from serve_app.artifacts.uploads import UploadFolder
from serve_app.catalog.syntax import syntax_notes
from serve_app.catalog.taught import not_taught_notes
from serve_app.errors import StorageFailed
from serve_app.messages import ImageFile, RenderedImage, Summary
from serve_app.params import GenerationParams

log = logging.getLogger("assets.artifacts")

MOST_GUESSED = 256
"""Of up to so many files the names are tried, whether they exist or not; for more the folder is read."""


class OutputDir:
    """Files in `place`, a folder or another storage. All paths, given or returned, are relative to it, with
    forward slashes."""

    def __init__(self, place: Path | Storage) -> None:
        self.storage = FolderStorage(place) if isinstance(place, Path) else place
        self.uploads = UploadFolder(self.storage)
        self._probing = threading.Lock()
        self.id = ""  # see `identity`; empty until a probe succeeded
        self.trouble: str | None = None  # why the last probe failed, in words that name no path

    @property
    def path(self) -> str:
        """Its address, for `output_at`."""
        return self.storage.address

    def is_folder(self, identity: str) -> bool:
        """This is, from here, the very place of that id."""
        return identity != "" and self.storage.identity() == identity

    def write(
        self, image: RenderedImage, params: GenerationParams, job_id: str, fence: int
    ) -> ImageFile:
        """Store one image. When it returns, file and directory entry are on disk (fsync).

        Raises StorageFailed, and then leaves no part of a file.
        """
        notes = [*image["notes"], *syntax_notes(params), *not_taught_notes(params)]
        image = {**image, "notes": notes}
        index = image["index"]
        name = ArtifactName(params.style_id, image["seed"], job_id, index, fence)
        data = with_metadata(image, params, job_id, fence)
        self.put(name, data)
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
            notes=image["notes"],
            **printed(data),
        )

    def put(self, name: ArtifactName, data: bytes) -> None:
        """Store one file. When it returns, file and directory entry are on disk (fsync).

        Raises StorageFailed, and then leaves no part of a file.
        """
        try:
            self.storage.put(name.path, data)
        except OSError as error:
            log.error("could not write %s to %s: %s", name.path, self.path, error.strerror)
            # A name that is taken stays taken. All else can be mended while the job waits.
            passes = not (isinstance(error, FileExistsError) and self._holds(name))
            raise StorageFailed(_reason(error), passes=passes) from error

    def _holds(self, name: ArtifactName) -> bool:
        try:
            return bool(self.storage.stats(day_of(name.job_id), [str(name)]))
        except OSError:
            return False

    def read(self, path: str) -> bytes:
        """A stored file. Raises OSError, also where a link is on the way, and ValueError for a path that is
        not one of ours."""
        if not is_ours(path):
            raise ValueError(f"not a path of ours: {path!r}")
        return self.storage.read(path)

    def probe(self) -> None:
        """Try what `write` needs. The place has an id afterwards. Raises OSError."""
        with self._probing:
            try:
                self.id = self.storage.probe(self.id)
            except OSError as error:
                self.trouble = why(error)
                raise
            self.trouble = None

    def files_of(self, job_ids: Iterable[str]) -> dict[str, list[str]]:
        """Job id -> every file that an attempt at it wrote, unfinished ones too.

        Reads the folder of each day once. Files with other names are left out.
        """
        found: dict[str, list[str]] = {job_id: [] for job_id in job_ids}
        for day in {day_of(job_id) for job_id in found}:
            try:
                for name in self.storage.names(day):
                    owner = owner_of(name)
                    if owner in found:
                        found[owner].append(f"{day}/{name}")
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                log.warning("%s in the output folder is passed over: %s", day, error.strerror)
        return found

    def names_for(self, job_id: str, summary: Summary, fence: int) -> list[str]:
        """Every path that attempts 1 to `fence` at this job may have written, finished or not.

        Most of them do not exist. Trying them all costs less than reading the directory of a busy day, but
        for a job of very many attempts, of which most found no renderer, or one with more files than its
        images: then the directory is read.
        """
        if summary.get("extra_files") or fence * summary["n"] > MOST_GUESSED:
            return [path for path in self.files_of([job_id])[job_id] if fence_of(path) <= fence]
        names = [
            ArtifactName(summary["style_id"], summary["seed"] + index, job_id, index, attempt)
            for attempt in range(1, fence + 1)
            for index in range(summary["n"])
        ]
        day = day_of(job_id)
        return [f"{day}/{form}" for name in names for form in (name, temporary_name(name))]

    def remove(self, paths: Iterable[str]) -> int:
        """Remove files; returns how many do not exist any more. Raises ValueError for any other path.

        A file that cannot be removed is logged and stays, because the caller is often handling an error that
        matters more.
        """
        unwanted = list(paths)
        for path in unwanted:
            if not is_ours(path):
                raise ValueError(f"not a path of ours: {path!r}")
        return self.storage.remove(unwanted)


def output_at(address: str) -> OutputDir:
    return OutputDir(storage_at(address))


def _reason(error: OSError) -> str:
    """A sentence for clients: it names no path."""
    return f"The image could not be written to the output directory: {why(error)}."
