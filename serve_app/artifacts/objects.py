"""ObjectStorage: files as objects of a bucket: S3 and what speaks like it, Google's and Azure's. By obstore.

Knows one bucket and a prefix in it; nothing of what the files mean.
"""

from __future__ import annotations

import errno
import io
import logging
import urllib.request
import uuid
from collections.abc import AsyncIterator, Collection, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from serve_app.artifacts.identity import NAME
from serve_app.artifacts.storage import Stat
from serve_app.errors import ConfigError
from serve_app.object_address import ObjectAddress

try:
    import obstore
    from obstore.exceptions import (
        AlreadyExistsError,
        BaseError,
        PermissionDeniedError,
        UnauthenticatedError,
    )
    from obstore.store import from_url
except ImportError as error:
    raise ConfigError(
        "`output` names an object store, which needs the extra `objects`: "
        "pip install 'ai-asset-generator[objects]'"
    ) from error

log = logging.getLogger("assets.artifacts")

TIMEOUT_S, CONNECT_TIMEOUT_S = 60, 5
"""The longest that one request may take, and its connection. A sheet's archive has hundreds of megabytes."""
RETRIES, RETRY_S = 3, 20
"""Of one call, while the store says 5xx or breaks connections. A job waits for what takes longer."""
PIECE = 2**20
"""Bytes that are read at once of a file that is read in pieces."""
SIGNED_S = 3600
"""So long a signed URL of a file is good."""

TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".json": "application/json",
    ".zip": "application/zip",
}
KEPT_BY_CLIENTS = "private, max-age=31536000, immutable"


class ObjectFacts(NamedTuple):
    """What a store says of a file."""

    size: int
    modified: float  # unix seconds
    etag: str  # with its quotes


class ObjectStorage:
    """As `Storage`: any OSError but FileNotFoundError may pass. Keys come from the environment, as the
    provider's own tools read them."""

    def __init__(self, address: ObjectAddress) -> None:
        self._address = address
        options: dict[str, Any] = {name: getattr(address, name) for name in ("endpoint", "region")}
        client: Any = {
            "timeout": timedelta(seconds=TIMEOUT_S),
            "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
        }
        retries: Any = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_S)}
        if address.endpoint.startswith("http://"):
            client["allow_http"] = True
        self._store: Any = from_url(
            address.url,
            **{name: value for name, value in options.items() if value},
            client_options=client,
            retry_config=retries,
        )
        self._identity = ""

    @property
    def address(self) -> str:
        return str(self._address)

    # ---- files ----

    def put(self, path: str, data: bytes) -> None:
        with self._told(path):
            try:
                self._create(path, data)
            except AlreadyExistsError as error:
                # Of a request that was repeated, the first one may have arrived after all.
                if bytes(obstore.get(self._store, path).bytes()) != data:
                    raise FileExistsError(errno.EEXIST, "this name is taken") from error

    def _create(self, path: str, data: bytes) -> Any:
        about = {"Content-Type": TYPES.get(PurePosixPath(path).suffix, "application/octet-stream")}
        about["Cache-Control"] = KEPT_BY_CLIENTS
        return obstore.put(
            self._store, path, data, mode="create", attributes=about, use_multipart=False
        )

    def read(self, path: str, first: int = 0, count: int | None = None) -> bytes:
        with self._told(path):
            if count is None and not first:
                return bytes(obstore.get(self._store, path).bytes())
            wanted: Any = {"offset": first} if count is None else (first, first + count)
            return bytes(obstore.get(self._store, path, options={"range": wanted}).bytes())

    def open(self, path: str) -> BinaryIO:
        return io.BufferedReader(_Object(self, path, self.find(path).size), PIECE)

    def find(self, path: str) -> ObjectFacts:
        with self._told(path):
            return _found(obstore.head(self._store, path))

    def names(self, folder: str) -> list[str]:
        return [name for name, _ in self._listed(folder)]

    def stats(self, folder: str, names: Collection[str]) -> dict[str, Stat]:
        if len(names) > 1:
            wanted = set(names)
            return {name: stat for name, stat in self._listed(folder) if name in wanted}
        stats: dict[str, Stat] = {}
        for name in names:
            with suppress(FileNotFoundError):
                found = self.find(f"{folder}/{name}")
                stats[name] = Stat(found.size, found.modified)
        return stats

    def _listed(self, folder: str) -> Generator[tuple[str, Stat]]:
        with self._told(folder):
            for page in obstore.list(self._store, folder, chunk_size=1000):
                for meta in page:
                    name = meta["path"].removeprefix(f"{folder}/")
                    if "/" not in name:
                        yield name, Stat(meta["size"], meta["last_modified"].timestamp())

    def copy(self, path: str, to: str) -> None:
        """`to` must be new: S3 copies over what is there."""
        with self._told(path):
            obstore.copy(self._store, path, to)

    def move(self, path: str, to: str) -> None:
        with self._told(path):
            obstore.rename(self._store, path, to)

    def remove(self, paths: Iterable[str]) -> int:
        # A file that is being written has no name here yet.
        unwanted = [path for path in paths if not path.endswith(".tmp")]
        if self._address.scheme == "s3":  # many at once, and what is not there is no error
            return self._removed(unwanted) if unwanted else 0
        return sum(self._removed([path]) for path in unwanted)

    def _removed(self, paths: Sequence[str]) -> int:
        try:
            with suppress(FileNotFoundError), self._told(paths[0]):
                obstore.delete(self._store, paths)
        except OSError as error:
            log.warning(
                "could not remove %s and %d more: %s", paths[0], len(paths) - 1, error.strerror
            )
            return 0
        return len(paths)

    # ---- for HTTP ----

    async def stream(self, path: str, first: int, count: int) -> AsyncIterator[bytes]:
        with self._told(path):
            options: Any = {"range": (first, first + count)}
            found = await obstore.get_async(self._store, path, options=options)
            async for piece in found.stream(min_chunk_size=64 * 1024):
                yield bytes(piece)

    async def find_async(self, path: str) -> ObjectFacts:
        with self._told(path):
            return _found(await obstore.head_async(self._store, path))

    def signed(self, path: str) -> str:
        """A URL by which whoever has it may fetch the file, for an hour."""
        return obstore.sign(self._store, "GET", path, timedelta(seconds=SIGNED_S))

    # ---- the place ----

    def probe(self, known: str) -> str:
        """A name may be taken once only, and what was put can be read, listed and removed."""
        self.try_out()
        with suppress(FileExistsError):
            self.put(NAME, (known or uuid.uuid4().hex).encode() + b"\n")
        self._identity = self.read(NAME).decode().strip()
        return self._identity

    def try_out(self) -> tuple[str, str]:
        """As `probe`, without leaving anything. Returns the version that the store gave to an object, and
        when it will delete it by itself, in its own words; both mostly empty. Raises OSError."""
        name = f".probe/{uuid.uuid4().hex}"
        with self._told(name):
            version = self._create(name, b"one")["version"] or ""
            try:
                with suppress(AlreadyExistsError):
                    self._create(name, b"two")
                    raise OSError(errno.EOPNOTSUPP, IGNORES_CONDITIONS)
                if bytes(obstore.get(self._store, name).bytes()) != b"one":
                    raise OSError(errno.EOPNOTSUPP, IGNORES_CONDITIONS)
                if not [True for page in obstore.list(self._store, ".probe") for _ in page]:
                    raise OSError(errno.EOPNOTSUPP, "the object store does not list what it has")
                return version, self._expires(name)
            finally:
                obstore.delete(self._store, name)

    def _expires(self, path: str) -> str:
        """Of S3: what a rule of the bucket will do to this object. Empty where it is not told."""
        if self._address.scheme != "s3":
            return ""
        url = obstore.sign(self._store, "HEAD", path, timedelta(seconds=60))
        head = urllib.request.Request(url, method="HEAD")
        with suppress(OSError), urllib.request.urlopen(head, timeout=CONNECT_TIMEOUT_S) as answer:
            return answer.headers.get("x-amz-expiration", "")
        return ""

    def identity(self) -> str:
        """Asked for once: a bucket does not become another one while a process lives."""
        if not self._identity:
            with suppress(OSError, ValueError):
                self._identity = self.read(NAME).decode().strip()
        return self._identity

    @contextmanager
    def _told(self, path: str) -> Generator[None]:
        """What obstore raises, as OSErrors whose words name no path, no host and no key."""
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
                raise OSError(errno.ENODEV, NO_BUCKET) from None
            raise FileNotFoundError(errno.ENOENT, "there is no such file") from None
        except (PermissionDeniedError, UnauthenticatedError):
            log.error("the object store denies access to %s", path)
            raise PermissionError(errno.EPERM, DENIED) from None
        except BaseError as error:
            text = str(error)
            log.warning("%s: %s", path, text.partition("\n")[0])
            if "403 Forbidden" in text or "401 Unauthorized" in text:
                raise PermissionError(errno.EPERM, DENIED) from None
            raise OSError(errno.EIO, "the object store does not answer as it should") from None


NO_BUCKET = "there is no such bucket"
DENIED = "the object store refuses these keys"
IGNORES_CONDITIONS = (
    "the object store writes over what is there (it ignores If-None-Match), so a late attempt could "
    "replace a finished file"
)


def refuse_unfit(address: ObjectAddress) -> None:
    """Raises ConfigError if files cannot be kept there, whatever time passes. A store that is away is none of
    that: jobs wait for it. What an operator should know is logged."""
    storage = ObjectStorage(address)
    try:
        version, expires = storage.try_out()
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENODEV, errno.EOPNOTSUPP):
            raise ConfigError(f"output {address.url}: {error.strerror}") from error
        log.warning("output %s: %s; jobs wait until it does", address.url, error.strerror)
        return
    if expires:
        raise ConfigError(
            f"output {address.url}: a lifecycle rule of the bucket deletes what is stored there ({expires}), "
            "and its jobs would stay; take the prefix out of the rule, and set `retention_days` instead"
        )
    if version:
        log.warning(VERSIONED, address.url)


VERSIONED = "output %s: the bucket keeps versions, so what is deleted here still takes room there"


class _Object(io.RawIOBase):
    """Read at any place, by a request for each piece."""

    def __init__(self, storage: ObjectStorage, path: str, size: int) -> None:
        self._storage, self._path, self._size, self._at = storage, path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._size - self._at)
        if count <= 0:
            return 0
        data = self._storage.read(self._path, self._at, count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _found(meta: Any) -> ObjectFacts:
    etag = meta["e_tag"] or ""
    if etag and not etag.endswith('"'):
        etag = f'"{etag}"'
    return ObjectFacts(meta["size"], meta["last_modified"].timestamp(), etag)
