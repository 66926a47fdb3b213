"""UploadFolder: pictures that clients brought, until their time is over and no job needs them any more.

Knows a hidden folder beside finished files, which every node sees and nobody is served from. All that is
known of an upload is in its file's name, so no database has to agree with the disk.
"""

from __future__ import annotations

import errno
import hashlib
import re
import struct
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import uuid_utils

from serve_app.artifacts.brought import PlainPng
from serve_app.artifacts.disk import why
from serve_app.artifacts.names import is_ours
from serve_app.artifacts.storage import FolderStorage, Storage
from serve_app.errors import SourceMissing, StorageFailed, UploadsFull

FOLDER = ".uploads"
LEFT_BEHIND_S = 3600.0
"""A temporary file of this age belongs to a process that is gone."""

_NAME = re.compile(
    r"(?P<owner>[0-9a-f]{16})_(?P<upload_id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"_(?P<expires>[0-9]{1,12})_(?P<sha256>[0-9a-f]{64})\.(?P<extension>png|webp)"
)
_RGBA = 6  # colour type of a PNG with alpha


@dataclass(frozen=True, slots=True)
class Quota:
    """What one owner may keep, with what was deleted in the last minutes or a waiting job still needs."""

    uploads: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Upload:
    """A stored picture. `owner`: a hash, since a name may hold any sign. `expires_at`: unix seconds."""

    owner: str
    upload_id: str  # UUIDv7
    expires_at: int
    sha256: str
    extension: str = "png"

    def __str__(self) -> str:
        stem = f"{self.owner}_{self.upload_id}_{self.expires_at}_{self.sha256}"
        return f"{stem}.{self.extension}"

    @property
    def created_at(self) -> float:
        """A UUIDv7 starts with 48 bits of milliseconds since 1970 (RFC 9562)."""
        return (UUID(self.upload_id).int >> 80) / 1000


@dataclass(frozen=True, slots=True)
class Described:
    """An upload with what its file says."""

    upload: Upload
    width: int
    height: int
    has_alpha: bool
    size_bytes: int


class UploadFolder:
    """In `place`, where finished files are. Several processes may use it at once. The quota is exact within
    one; of several, each may let one upload more pass."""

    def __init__(self, place: Path | Storage) -> None:
        self._storage = FolderStorage(place) if isinstance(place, Path) else place
        self._adding = threading.Lock()

    def add(
        self, owner: str, picture: PlainPng, *, now: float, expires_at: int, quota: Quota
    ) -> tuple[Described, bool]:
        """The upload, and whether the owner had brought the very same picture before; then it only lives
        longer. When it returns, it is on disk. Raises UploadsFull, StorageFailed."""
        tag = tag_of(owner)
        new = Upload(tag, str(uuid_utils.uuid7()), expires_at, picture.sha256)
        described = Described(
            new, picture.width, picture.height, picture.has_alpha, len(picture.data)
        )
        try:
            with self._adding:
                for old in self._held(tag):
                    if old.sha256 == new.sha256 and old.expires_at > now:
                        longer = max(old.expires_at, expires_at)
                        return replace(described, upload=self._until(old, longer)), True
                self._check(tag, len(picture.data), quota, now)
                self._storage.put(_path(new), picture.data)
        except OSError as error:
            raise StorageFailed(f"The picture could not be stored: {why(error)}.") from error
        return described, False

    def find(self, owner: str, upload_id: str, now: float) -> Described | None:
        """None: there is none of this id, it is another owner's, or its time is over."""
        tag = tag_of(owner)
        for upload in self._all():
            if (upload.upload_id, upload.owner) == (upload_id, tag) and upload.expires_at > now:
                return self._described(upload)
        return None

    def expire(self, owner: str, upload_id: str, now: float) -> bool:
        """Its time is over now; its file goes when no job needs it. False: as `find`."""
        found = self.find(owner, upload_id, now)
        if found is not None:
            self._until(found.upload, int(now))
        return found is not None

    def pin(self, owner: str, path: str, sha256: str, now: float) -> str:
        """The id of an upload whose file is a finished one, under a second name: its job may be deleted. It
        lives as long as a job needs it. Raises SourceMissing, OSError."""
        if not is_ours(path):
            raise ValueError(f"not a path of ours: {path!r}")
        extension = path.rpartition(".")[2]
        pinned = Upload(tag_of(owner), str(uuid_utils.uuid7()), int(now), sha256, extension)
        try:
            self._storage.copy(path, _path(pinned))
        except FileNotFoundError as error:
            raise SourceMissing from error
        return pinned.upload_id

    def again(self, upload_id: str, now: float) -> str:
        """A new id for the same file, as `pin`. Raises SourceMissing, OSError."""
        for old in self._all():
            if old.upload_id == upload_id:
                new = replace(old, upload_id=str(uuid_utils.uuid7()), expires_at=int(now))
                with _missing():
                    self._storage.copy(_path(old), _path(new))
                return new.upload_id
        raise SourceMissing

    def read(self, upload_id: str, sha256: str) -> bytes:
        """The file, whatever has become of the upload. Raises SourceMissing: it is not there, or is not what
        it was; OSError."""
        try:
            return self._read(upload_id, sha256)
        except SourceMissing:  # it may have got another name between the look and the reading
            return self._read(upload_id, sha256)

    def _read(self, upload_id: str, sha256: str) -> bytes:
        for upload in self._all():
            if upload.upload_id == upload_id:
                with _missing():
                    data = self._storage.read(_path(upload))
                if hashlib.sha256(data).hexdigest() == sha256:
                    return data
        raise SourceMissing

    # ---- sweeping ----

    def over(self, before: float) -> list[str]:
        """Ids of uploads whose time was over at `before`."""
        return [upload.upload_id for upload in self._all() if upload.expires_at < before]

    def remove(self, upload_ids: Iterable[str], now: float) -> None:
        """Remove their files, and what writers left behind that are gone. Raises OSError."""
        wanted_gone, names = set(upload_ids), self._storage.names(FOLDER)
        unfinished = [name for name in names if name.endswith(".tmp")]
        ages = self._storage.stats(FOLDER, unfinished) if unfinished else {}
        unwanted = [name for name in ages if now - ages[name].modified > LEFT_BEHIND_S]
        for name in names:
            found = parse_upload(name)
            if found is not None and found.upload_id in wanted_gone:
                unwanted.append(name)
        self._storage.remove(f"{FOLDER}/{name}" for name in unwanted)

    # ---- the folder ----

    def _all(self) -> Iterator[Upload]:
        try:
            names = self._storage.names(FOLDER)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            return
        yield from filter(None, map(parse_upload, names))

    def _held(self, tag: str) -> list[Upload]:
        return [upload for upload in self._all() if upload.owner == tag]

    def _check(self, tag: str, size: int, quota: Quota, now: float) -> None:
        held = self._held(tag)
        stats = self._storage.stats(FOLDER, [str(upload) for upload in held]) if held else {}
        total = sum(stat.size for stat in stats.values())
        wait_s = max(60.0, min((upload.expires_at for upload in held), default=0) - now)
        if len(held) >= quota.uploads:
            detail = f"You have {len(held)} uploads; at most {quota.uploads} are kept."
            raise UploadsFull(detail, wait_s)
        if total + size > quota.bytes:
            detail = f"Your uploads have {total} bytes, this one {size}; {quota.bytes} are kept."
            raise UploadsFull(detail, wait_s)

    def _until(self, upload: Upload, expires_at: int) -> Upload:
        """The same upload with another end, which is part of its name."""
        changed = replace(upload, expires_at=expires_at)
        if changed != upload:
            with suppress(FileNotFoundError):
                self._storage.move(_path(upload), _path(changed))
        return changed

    def _described(self, upload: Upload) -> Described | None:
        try:
            head = self._storage.read(_path(upload), 0, 26)
        except FileNotFoundError:
            return None
        stat = self._storage.stats(FOLDER, [str(upload)]).get(str(upload))
        if stat is None or len(head) < 26 or upload.extension != "png":
            return None
        width, height = struct.unpack(">II", head[16:24])
        return Described(upload, width, height, head[25] == _RGBA, stat.size)


@contextmanager
def _missing() -> Generator[None]:
    """A file that is gone, or has become a link, is a SourceMissing."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            raise SourceMissing from error
        raise


def tag_of(owner: str) -> str:
    return hashlib.sha256(owner.encode()).hexdigest()[:16]


def parse_upload(name: str) -> Upload | None:
    """None: no name of an upload."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return Upload(
        match["owner"],
        match["upload_id"],
        int(match["expires"]),
        match["sha256"],
        match["extension"],
    )


def _path(upload: Upload) -> str:
    return f"{FOLDER}/{upload}"
