"""What an operator's alarms stand on: a loop that lags, a slow commit, a job that waits, a full disk."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from serve_app.cluster import vitals
from serve_app.cluster.vitals import Vitals
from serve_app.jobs.store.sqlite import SqliteStore
from tests.factories import job
from tests.jobs.harness import NoMetrics


class Noted(NoMetrics):
    """Keeps all that is reported."""

    def __init__(self) -> None:
        self.values = defaultdict[str, list[Any]](list)
        self.looked = asyncio.Event()

    def depth(self, waiting: int, in_flight: int) -> None:
        self.values["depth"].append((waiting, in_flight))

    def lag(self, seconds: float) -> None:
        self.values["lag"].append(seconds)

    def commit(self, seconds: float, sent_bytes: int) -> None:
        assert sent_bytes == 0, "SQLite sends nothing"
        self.values["commit"].append(seconds)

    def paused(self, reason: str | None) -> None:
        self.values["paused"].append(reason)

    def oldest_waiting(self, seconds: float) -> None:
        self.values["oldest"].append(seconds)

    def free(self, disk: str, size_bytes: int) -> None:
        self.values[disk].append(size_bytes)
        if disk == "output":
            self.looked.set()


class Registry:
    def stats(self) -> dict[str, Any]:
        return {"paused": "storage", "waiting": 3, "in_flight": 2}


async def test_all_of_it_is_reported_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vitals, "EVERY_S", 0.05)
    monkeypatch.setattr(vitals, "TICK_S", 0.01)
    noted, store = Noted(), SqliteStore(tmp_path / "state")
    output = tmp_path / "output"
    output.mkdir()
    reporting = asyncio.create_task(
        Vitals(noted, noted, tmp_path / "state", lambda: str(output)).report(Registry(), store)
    )
    async with asyncio.timeout(10):
        await noted.looked.wait()
        assert noted.values["oldest"] == [0.0]
        assert noted.values["lag"][0] < 0.3

        old = time.time() - 100
        await store.insert(
            job(job_id="old", number=int(old * 1e6)), key=None, body_hash="", key_expires_before=0.0
        )
        for _ in range(2):  # the loop stands still once, in one of these rounds
            threading.Event().wait(0.4)
            noted.looked.clear()
            await noted.looked.wait()
    reporting.cancel()
    assert max(noted.values["lag"]) > 0.3
    assert max(noted.values["commit"]) > 0
    assert 100 <= noted.values["oldest"][-1] < 110
    assert noted.values["paused"][-1] == "storage"
    assert set(noted.values["depth"]) == {(3, 2)}
    total = shutil.disk_usage(tmp_path).total
    assert all(0 < noted.values[disk][-1] < total for disk in ("state", "output"))
    await store.close()
