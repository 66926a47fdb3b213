"""The job store on a disk, and in Redis: what a commit takes, and what a job takes.

    python -m tests.benchmarks.bench_store --folder FOLDER        on the disk that is meant

Workload, for each arm on an empty store: 300 orders one after the other; then 4,000 jobs live their lives,
64 at a time: ordered, started, ended with one picture, each a commit that others may share. One batch of
10,000 orders. Then the store is closed and opened again. Needs `redis-server` (of Debian), which is started
with the settings that the service demands, on the same disk. It tells nothing of a network between them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from serve_app.jobs.job import Status
from serve_app.jobs.store.redis import RedisKeeper
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.jobs.store.stored_batch import NewRow
from tests.factories import image_file, job, new_id, params
from tests.redis_server import RedisServer, redis_server

ALONE, LIVES, AT_ONCE, BATCH = 300, 4_000, 64, 10_000


async def order(store: SqliteStore, number: int) -> float:
    """Seconds until it is stored."""
    new = job(job_id=new_id(), number=number, created_at=number / 1e6)
    begun = time.perf_counter()
    await store.insert(new, key=new.job_id, body_hash="h", key_expires_before=0.0)
    return time.perf_counter() - begun


async def live(store: SqliteStore, number: int) -> None:
    new = job(job_id=new_id(), number=number, created_at=number / 1e6)
    await store.insert(new, key=new.job_id, body_hash="h", key_expires_before=0.0)
    started = new.evolve(status=Status.STARTED, fence=1, started_at=time.time())
    await store.update(started, expected_fence=0)
    ended = started.evolve(
        status=Status.SUCCESS, completed_at=time.time(), images=(image_file(path="a/b.png"),)
    )
    await store.update(ended, expected_fence=1)


async def lives(store: SqliteStore, first: int) -> float:
    """Jobs a second."""
    numbers = iter(range(first, first + LIVES))

    async def worker() -> None:
        for number in numbers:
            await live(store, number)

    begun = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return LIVES / (time.perf_counter() - begun)


async def batch(store: SqliteStore, first: int) -> float:
    """Seconds until all of it is stored."""
    orders = [
        job(params(seed=i), job_id=new_id(), number=first + i, created_at=(first + i) / 1e6)
        for i in range(BATCH)
    ]
    rows = [
        NewRow(one, json.dumps(one.params), str(i).encode(), None) for i, one in enumerate(orders)
    ]
    begun = time.perf_counter()
    await store.batches.insert(
        new_id(), "ann", "b", rows, reuse=False, key=None, body_hash="", key_expires_before=0.0
    )
    return time.perf_counter() - begun


async def measured(folder: Path, server: RedisServer | None) -> dict[str, str]:
    def opened() -> SqliteStore:
        return SqliteStore(folder if server is None else RedisKeeper(server.url, folder))

    def memory() -> int:
        return 0 if server is None else server.client.info("memory")["used_memory"]

    empty = memory()
    store = opened()
    store.take_sent()
    alone = [await order(store, number) for number in range(1, ALONE + 1)]
    found = {
        "an order alone, median, ms": f"{statistics.median(alone) * 1e3:.2f}",
        "an order alone, 99 of 100, ms": f"{sorted(alone)[ALONE * 99 // 100] * 1e3:.2f}",
        "sent for it, kB": f"{store.take_sent() / ALONE / 1e3:.0f}",
        "lives a second, 64 at a time": f"{await lives(store, 10**6):.0f}",
        "sent for a life, kB": f"{store.take_sent() / LIVES / 1e3:.0f}",
    }
    kept = (ALONE + LIVES) * 1e3
    size = store._database.path.stat().st_size
    found["database, kB a job"] = f"{size / kept:.1f}"
    found["memory of Redis, kB a job"] = f"{(memory() - empty) / kept:.1f}"
    found[f"a batch of {BATCH}, s"] = f"{await batch(store, 10**9):.2f}"
    found["sent for it, MB"] = f"{store.take_sent() / 1e6:.0f}"
    await store.close()
    begun = time.perf_counter()
    store = opened()
    seconds = time.perf_counter() - begun
    mib = store._database.path.stat().st_size / 2**20
    await store.close()
    found["opened again, s"] = f"{seconds:.2f} ({mib:.0f} MiB)"
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(dir=parser.parse_args().folder) as name:
        folder = Path(name)
        (folder / "redis").mkdir()
        disk = asyncio.run(measured(folder / "disk", None))
        with redis_server(folder / "redis") as server:
            redis = asyncio.run(measured(folder / "state", server))
    for figure, value in disk.items():
        print(f"| {figure} | {value} | {redis[figure]} |")


if __name__ == "__main__":
    main()
