"""store_copy: moves a job store from SQLite to Redis or back, page by page.

A copy that was killed goes on where it stopped. Knows where pages lie, not what they hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import uuid4

from serve_app.errors import ConfigError, StoreHeld
from serve_app.jobs.store.copies import about
from serve_app.jobs.store.directory import held
from serve_app.jobs.store.redis import AT_ONCE
from serve_app.jobs.store.redis_lease import Lease
from serve_app.jobs.store.redis_link import RedisLink
from serve_app.jobs.store.redis_scripts import COPIED

DATABASE = "jobs.db"
Progress = Callable[[Iterable[int], int], Iterable[int]]
"""Passes numbers on, of which there are so many, and shows how far they are."""


class Shape(NamedTuple):
    """Of a database: its pages and their bytes, and the hash of them all."""

    pages: int
    page_size: int
    sha256: str


class End(Protocol):
    """Where pages come from or go to."""

    name: str

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Nobody opens the store meanwhile. Raises StoreHeld."""
        ...

    def size(self) -> tuple[int, int]:
        """Pages of the store that is there, whole, and their bytes; 0, 0: there is none."""
        ...

    def read(self, first: int, number: int) -> bytes:
        """So many pages from `first` on, 1 is the first, also of a store that is not whole yet."""
        ...

    def begin(self, shape: Shape) -> int:
        """How many pages of this very copy are there already."""
        ...

    def write(self, first: int, pages: bytes, page_size: int) -> None: ...

    def finish(self, shape: Shape) -> None:
        """All pages are there: it is a store now."""
        ...

    def forget(self) -> None:
        """What is there is worth nothing: the next copy begins anew."""
        ...

    def stay(self) -> None:
        """Called now and then while nothing else is: it is still held. Raises StoreHeld."""
        ...


def copy(source: End, to: End, progress: Progress) -> Shape:
    """Raises ConfigError, StoreHeld, sqlite3.Error, OSError. Then `to` is no store yet, and the next call
    goes on there."""
    if source.name == to.name:
        raise ConfigError(f"{source.name} would be copied over itself")
    with source.held(), to.held():
        pages, page_size = source.size()
        if not pages:
            raise ConfigError(f"there is no job store in {source.name}")
        if to.size()[0]:
            raise ConfigError(f"{to.name} holds a job store already: name another place")
        shape = Shape(pages, page_size, _hash(source, pages, to))
        firsts = range(to.begin(shape) // AT_ONCE * AT_ONCE + 1, pages + 1, AT_ONCE)
        for first in progress(firsts, len(firsts)):
            number = min(AT_ONCE, pages + 1 - first)
            to.write(first, source.read(first, number), page_size)
        try:
            if (found := _hash(to, pages, source)) != shape.sha256:
                raise ConfigError(
                    f"the copy in {to.name} has other bytes: {found} is not {shape.sha256}"
                )
        except ConfigError:  # or misses a page
            to.forget()
            raise
        to.finish(shape)
    return shape


def _hash(end: End, pages: int, other: End) -> str:
    digest = hashlib.sha256()
    for first in range(1, pages + 1, AT_ONCE):
        other.stay()
        digest.update(end.read(first, min(AT_ONCE, pages + 1 - first)))
    return digest.hexdigest()


class FileEnd:
    """A folder with `jobs.db`, or where that shall be."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder, self._whole = folder, folder / DATABASE
        self._part, self._stamp = folder / f".{DATABASE}.copy", folder / f".{DATABASE}.copied"
        self._taking = False  # it is the end that gets the pages

    def held(self) -> contextlib.AbstractContextManager[None]:
        return held(self._folder)

    def size(self) -> tuple[int, int]:
        if not self._whole.exists() or not self._whole.stat().st_size:
            return 0, 0
        about(self._whole)
        with contextlib.closing(sqlite3.connect(self._whole)) as db:
            busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:  # the newest commits are not in the file
                raise StoreHeld(f"{self._whole} is being read by another process: try again")
            (page_size,) = db.execute("PRAGMA page_size").fetchone()
        self._page_size = page_size
        return self._whole.stat().st_size // page_size, page_size

    def read(self, first: int, number: int) -> bytes:
        path = self._part if self._taking else self._whole
        with path.open("rb") as file:
            file.seek((first - 1) * self._page_size)
            return file.read(number * self._page_size)

    def begin(self, shape: Shape) -> int:
        self._page_size, self._taking = shape.page_size, True
        begun = self._stamp.exists() and self._part.exists()
        if begun and self._stamp.read_text() == shape.sha256:
            return self._part.stat().st_size // shape.page_size
        self.forget()
        self._part.touch(mode=0o600)
        self._stamp.write_text(shape.sha256)
        return 0

    def write(self, first: int, pages: bytes, page_size: int) -> None:
        with self._part.open("r+b") as file:
            file.seek((first - 1) * page_size)
            file.write(pages)

    def finish(self, shape: Shape) -> None:
        with self._part.open("r+b") as file:
            file.truncate(shape.pages * shape.page_size)
            os.fsync(file.fileno())
        about(self._part)
        for end in ("-wal", "-shm"):
            self._whole.with_name(DATABASE + end).unlink(missing_ok=True)
            self._part.with_name(self._part.name + end).unlink(missing_ok=True)
        self._part.replace(self._whole)
        self._stamp.unlink()

    def forget(self) -> None:
        for path in self._stamp, self._part:
            path.unlink(missing_ok=True)

    def stay(self) -> None: ...


class RedisEnd:
    """The keys `prefix` of a server."""

    def __init__(self, url: str, prefix: str, *, vouched: bool) -> None:
        self._link = RedisLink(url, prefix)
        self.name = f"Redis at {self._link.name}, keys {prefix}:*"
        self._vouched = vouched

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        try:
            self._link.check(vouched=self._vouched)
            self._lease = Lease(self._link)
            try:
                yield
            finally:
                self._lease.release(self._link)
        finally:
            self._link.close()

    def size(self) -> tuple[int, int]:
        facts = self._link.facts()
        return int(facts.get("size", 0)), int(facts.get("page_size", 0))

    def read(self, first: int, number: int) -> bytes:
        self.stay()
        pages = self._link.pages(range(first, first + number))
        if missing := [first + at for at, page in enumerate(pages) if page is None]:
            raise ConfigError(f"{self.name}: page {missing[0]} is missing")
        return b"".join(page for page in pages if page)

    def begin(self, shape: Shape) -> int:
        self.stay()  # else the pages may be somebody else's
        facts = self._link.facts()
        if facts.get("copying") == shape.sha256:
            return int(facts.get("copied", 0))
        self._link.ask("DEL", self._link.keys[1])
        self._link.ask("HSET", self._link.keys[0], "copying", shape.sha256, "copied", 0)
        return 0

    def write(self, first: int, pages: bytes, page_size: int) -> None:
        self.stay()
        numbered = [
            value
            for at in range(0, len(pages), page_size)
            for value in (first + at // page_size, pages[at : at + page_size])
        ]
        self._link.ask("HSET", self._link.keys[1], *numbered)
        self._link.ask("HSET", self._link.keys[0], "copied", first - 1 + len(numbered) // 2)

    def stay(self) -> None:
        if self._lease.renew(self._link)[0] != b"kept":
            raise StoreHeld(f"{self.name}: a registry has taken the store meanwhile")

    def finish(self, shape: Shape) -> None:
        self.stay()
        self._link.run(COPIED, uuid4().hex, shape.pages, shape.page_size)

    def forget(self) -> None:
        self.stay()
        # It stays half a copy, of no store: nobody opens it.
        self._link.ask("HSET", self._link.keys[0], "copying", "", "copied", 0)
