"""The registry attacked as in `test_registry_machine`, with its store in a Redis that dies, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis.stateful import rule

from serve_app.jobs.store.sqlite import SqliteStore
from tests.jobs.store.opens import Opens
from tests.jobs.test_registry_machine import RegistryMachine
from tests.redis_server import RedisServer, redis_server


class MachineOnRedis(RegistryMachine):
    """Nothing is promised twice: an answer that was given holds, whoever was killed."""

    server: ClassVar[RedisServer]

    def opens(self) -> Callable[[], SqliteStore]:
        return Opens(self.directory / "scratch", self.server.url, uuid4().hex)

    @rule()
    def redis_is_killed_and_started(self) -> None:
        self.server.kill()
        self.server.start()


@pytest.fixture(autouse=True)
def _nobody_waits_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.jobs.pauses.LONGEST_BACKOFF_S", 0.01)


@pytest.fixture(scope="module", autouse=True)
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        MachineOnRedis.server = server
        yield


MachineOnRedis.TestCase.settings = settings(max_examples=6, stateful_step_count=25, deadline=None)
TestRegistryOnRedis = MachineOnRedis.TestCase
