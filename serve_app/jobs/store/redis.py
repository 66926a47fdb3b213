"""RedisKeeper: keeps a database in Redis. Its pages are there; the file here is a copy of them.

All queries run on the file. After each commit the pages that it changed are sent with one script, which
checks that nobody else has become the writer. Knows leases and commits, not what the pages hold.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from serve_app.errors import ConfigError, StoreHeld
from serve_app.jobs.store.pages import Change, Wal
from serve_app.jobs.store.redis_lease import LEASE_S, Lease, words_of
from serve_app.jobs.store.redis_link import RedisLink, StoreAway
from serve_app.jobs.store.redis_scripts import COMMIT

log = logging.getLogger("assets.registry")

PATIENCE_S = 2.0
"""So long a commit is tried again before its callers are told that Redis is away."""
AT_ONCE = 256
"""Pages that are fetched by one command."""
MOST_BYTES = 2**29
"""Of one commit: Redis takes no command beyond 1 GiB, and answers nobody else meanwhile."""
CHECKPOINT_FRAMES = 1000
PREFIX = "copy-of-redis-"


class RedisKeeper:
    """The store `prefix` of the server at `url`, held until `release`, or until this process has not renewed
    its lease for `lease_s` and somebody else takes it. `on_lost(why)` is called then, by a thread. `scratch`:
    a folder here for the copy."""

    durable = False

    def __init__(
        self,
        url: str,
        scratch: Path,
        *,
        prefix: str = "assets",
        vouched: bool = False,
        lease_s: float = LEASE_S,
        lock_timeout_s: float = 0.0,
        on_lost: Callable[[str], None] = lambda why: None,
    ) -> None:
        """Raises StoreHeld, naming the holder, if another process has it after `lock_timeout_s`; ConfigError,
        if the server is not fit; StoreAway, if it does not answer."""
        # Where one thread is told that Redis is away, it cuts its link off, but not the other's.
        self._link, self._renewing = RedisLink(url, prefix), RedisLink(url, prefix)
        self._on_lost = on_lost
        self._lost: str | None = None
        self._away = False
        self._owed: dict[int, bytes] = {}  # pages that Redis may have otherwise than the file,
        self._mending = ""  # and the nonce of the commit that brings them
        self._sent = 0  # bytes of pages
        try:
            self._link.check(vouched=vouched)
            self._lease = Lease(self._link, lease_s=lease_s, timeout_s=lock_timeout_s)
            self._refuse_half()
        except BaseException:
            self._link.close()
            raise
        self._size, self._page_size = self._lease.size, self._lease.page_size
        self._nonces = [self._lease.nonce]  # of the commits that may be the newest one in Redis
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()
        try:
            scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.copies = scratch
            self._note = scratch / f"{prefix}.in-redis"
            self._refuse_emptied()
            self._folder, self._lock = _folder_in(scratch)
            self.path = self._folder / "jobs.db"
            self._fetch(self.path)
            self._wal = Wal(self.path)
        except BaseException:
            self.release()
            raise

    def _refuse_half(self) -> None:
        """With the lease, so that no copy begins afterwards."""
        try:
            if "copying" in self._link.facts():
                raise StoreHeld(
                    f"the job store {self._link.prefix!r} at {self._link.name} is half a copy: give the"
                    " same `assets store copy` again, which ends it"
                )
        except BaseException:
            with contextlib.suppress(StoreAway, ConfigError):
                self._lease.release(self._link)
            raise

    def _refuse_emptied(self) -> None:
        """A server that came back without its files would look like one that is new. The note says that there
        was a store."""
        note = self._note
        self._noted = note.exists() and note.read_text() == self._here
        if self._noted and not self._size:
            raise ConfigError(
                f"Redis at {self._link.name} has no job store {self._link.prefix!r} any more: was it emptied,"
                f" or started without its files? To begin anew, remove {note}"
            )
        self._take_note()

    def _take_note(self) -> None:
        if self._size and not self._noted:
            with contextlib.suppress(OSError):  # what was kept is kept
                self._note.write_text(self._here)
                self._noted = True

    @property
    def _here(self) -> str:
        return f"{self._link.name}\n"

    # ---- the lease ----

    def _renew(self) -> None:
        while not self._over.wait(self._lease.renew_after_s):
            with contextlib.suppress(StoreAway, ConfigError):
                answer = self._lease.renew(self._renewing)
                if answer[0] == b"held":
                    self._lose(answer)

    def _lose(self, answer: list[Any]) -> None:
        if answer[0] == b"held":
            why = f"another registry has taken the job store: {words_of(answer[1].decode())}"
        else:
            why = (
                "the job store in Redis is not as this registry left it: it was put back or emptied"
            )
        self._end(why)

    def _end(self, why: str) -> None:
        if self._lost is None:
            self._lost = f"{why}. This one can change nothing any more"
            log.critical("%s", self._lost)
            self._on_lost(self._lost)

    # ---- commits ----

    def ready(self) -> None:
        if self._lost is not None:
            raise StoreAway(self._lost)
        if self._away:  # it needs memory even if it mends no page
            self._send(Change(self._owed, self._size), self._mending)
            log.warning("Redis at %s keeps the job store again", self._link.name)

    def keep(self, db: sqlite3.Connection) -> None:
        try:
            change = self._wal.changed()
        except OSError as error:
            self._end(f"the copy of the job store in {self._folder} cannot be read: {error}")
            raise StoreAway(self._lost or "") from error
        if change is None:
            return
        try:
            self._send(change, uuid4().hex)
        except sqlite3.Error:
            try:
                self._go_back(change)
            except (OSError, sqlite3.Error) as error:
                self._end(f"the copy of the job store in {self._folder} cannot be mended: {error}")
            raise
        self._wal.taken()
        if self._wal.frames > CHECKPOINT_FRAMES:
            try:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            except sqlite3.Error as error:  # what was kept is kept
                log.warning("the WAL of the job store was not checkpointed, it grows: %s", error)

    def _send(self, change: Change, nonce: str) -> None:
        """Raises StoreAway. Then nobody knows whether Redis has it or will have it; as soon as it has the
        next one, which knows this `nonce`, it cannot get it any more."""
        if change.bytes > MOST_BYTES:
            raise StoreAway(
                f"a commit of {change.bytes / 2**20:.0f} MiB is too large for Redis: copy the store to a disk"
                " by `assets store copy`, let it be brought up to date there, and copy it back"
            )
        kept = [(number, page) for number, page in change.pages.items() if number <= change.size]
        pages = [value for page in kept for value in page]
        page_size = len(kept[0][1]) if kept else self._page_size
        after = "".join(f",{known}" for known in self._nonces) + ","
        give_up = time.monotonic() + (0 if self._away else PATIENCE_S)
        while True:
            try:
                answer = self._link.run(
                    COMMIT, self._lease.term, nonce, after, page_size, change.size, *pages
                )
                break
            except (StoreAway, ConfigError) as error:
                if self._over.is_set() or time.monotonic() > give_up:
                    if not self._away:
                        log.error("%s", error)
                        self._away, self._mending = True, uuid4().hex
                        self._nonces = [*self._nonces, nonce, self._mending]
                    raise StoreAway(str(error)) from error
                self._over.wait(0.1)
        if answer[0] != b"kept":
            self._lose(answer)
            raise StoreAway(self._lost or "")
        self._sent += change.bytes
        self._nonces, self._owed = [nonce], {}
        self._size, self._page_size, self._away = change.size, page_size, False
        self._take_note()

    def _go_back(self, change: Change) -> None:
        """Let `path` be a copy of the file without the newest commit, and remember what Redis may have of
        that."""
        old, new = self.path, self.path.with_name(f"{uuid4().hex}.db")
        self._wal.copy_taken(new)
        with contextlib.closing(sqlite3.connect(new)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with new.open("rb") as file:
            for number in {*change.pages, *range(change.size + 1, self._size + 1)}:
                if number <= self._size:
                    page = os.pread(file.fileno(), self._page_size, (number - 1) * self._page_size)
                    self._owed[number] = page
        self._wal.close()
        self._wal, self.path = Wal(new), new
        for end in ("", "-wal", "-shm"):
            old.with_name(old.name + end).unlink(missing_ok=True)

    def take_sent(self) -> int:
        sent, self._sent = self._sent, 0
        return sent

    # ---- the copy ----

    def _fetch(self, to: Path) -> None:
        to.touch(mode=0o600)
        if not self._size:
            return
        began = time.monotonic()
        with to.open("r+b") as file:
            for first, pages in fetched(self._link, self._size):
                for number, page in enumerate(pages, first):
                    if page is None or len(page) != self._page_size:
                        raise StoreHeld(
                            f"the job store in Redis is damaged: page {number} of {self._size} is missing"
                        )
                file.write(b"".join(page for page in pages if page))
                if first % (AT_ONCE * 100) == 1 and first > 1:
                    log.info("fetched %d of %d pages of the job store", first, self._size)
        with contextlib.closing(sqlite3.connect(to)) as db:
            (wrong,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if wrong != "ok":
            raise StoreHeld(f"the job store in Redis is damaged: {wrong}")
        took = time.monotonic() - began
        log.info("the job store came from Redis: %d pages in %.1f s", self._size, took)

    def release(self) -> None:
        self._over.set()
        self._thread.join()
        with contextlib.suppress(StoreAway, ConfigError):
            self._lease.release(self._link)
        for link in self._link, self._renewing:
            link.close()
        if hasattr(self, "_wal"):
            self._wal.close()
        if hasattr(self, "_folder"):
            shutil.rmtree(self._folder, ignore_errors=True)
            self._lock.close()


def fetched(link: RedisLink, size: int) -> Iterator[tuple[int, list[bytes | None]]]:
    """All pages, in order: the number of the first one, and a few from there on."""
    for first in range(1, size + 1, AT_ONCE):
        yield first, link.pages(range(first, min(first + AT_ONCE, size + 1)))


def _folder_in(scratch: Path) -> tuple[Path, IO[str]]:
    """A new folder, locked while this process uses it; those of dead ones are removed."""
    for left in scratch.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (left / "used").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=scratch))
    lock = (folder / "used").open("a")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock
