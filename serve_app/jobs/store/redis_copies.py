"""Copies of a store in Redis, as a file: of one moment, while others write.

Knows what Redis tells of its pages; nothing of what they hold.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from serve_app.errors import ConfigError
from serve_app.jobs.store.redis import fetched
from serve_app.jobs.store.redis_link import RedisLink
from serve_app.jobs.store.redis_scripts import SINCE


def copy_redis(link: RedisLink, to: Path) -> None:
    """The store as it is at one moment, as the new file `to`. Raises ConfigError if there is none,
    sqlite3.Error: it is damaged, or Redis is away."""
    facts = link.facts()
    if "commit" not in facts:
        raise ConfigError(f"there is no job store in Redis at {link.name}: nothing to copy")
    page_size = int(facts["page_size"])
    with to.open("xb") as file:
        to.chmod(0o600)  # it holds prompts
        for first, pages in fetched(link, int(facts["size"])):
            file.seek((first - 1) * page_size)
            file.write(b"".join(page or bytes(page_size) for page in pages))
        # What changed while it was fetched, all of one moment.
        _, size, *changed = link.run(SINCE, facts["commit"])
        for number, page in zip(changed[::2], changed[1::2], strict=True):
            file.seek((int(number) - 1) * page_size)
            file.write(page)
        file.truncate(int(size) * page_size)
    # One in WAL mode would leave files beside it when it is read.
    with closing(sqlite3.connect(to)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
