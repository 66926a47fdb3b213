"""Where the store of a test lies: a directory, or keys of its own in Redis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.jobs.store.redis import RedisKeeper
from serve_app.jobs.store.sqlite import SqliteStore


@dataclass(frozen=True)
class Opens:
    """A call opens the store, which must be closed, or its process dead, before the next one. `url`: of
    Redis; empty: SQLite in `folder`."""

    folder: Path
    url: str = ""
    prefix: str = "assets"

    def __call__(self, **more: Any) -> SqliteStore:
        return SqliteStore(self.keeper(**more) if self.url else self.folder)

    def keeper(self, **more: Any) -> RedisKeeper:
        return RedisKeeper(self.url, self.folder, prefix=self.prefix, **more)
