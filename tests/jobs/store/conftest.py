"""The contract of the store is one, and so are its tests: each runs over SQLite and over Redis."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from serve_app.jobs.store.sqlite import SqliteStore
from tests.jobs.store.opens import Opens
from tests.redis_server import RedisServer, redis_server


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """For tests that need keys of their own and no more."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Opens:
    if request.param == "sqlite":
        return Opens(tmp_path)
    server: RedisServer = request.getfixturevalue("shared_redis")
    return Opens(tmp_path, server.url, uuid4().hex)


@pytest.fixture
async def store(open_store: Opens) -> AsyncGenerator[SqliteStore]:
    store = open_store()
    yield store
    await store.close()
