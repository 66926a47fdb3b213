"""Ten thousand watchers on four ingresses: CPU and memory while nothing happens, and while jobs change.

    python -m tests.benchmarks.bench_streams

Workload: four apps, as four ingress replicas have them, follow one registry, all in this process; without
sockets, HAProxy and Ray, which `bench_control_plane` measures. 2,500 readers at each, every one on the events
of a job of its own; 1,000 jobs run, the others wait. (1) Nothing happens. (2) 1,500 reports of progress a
second, evenly over the running jobs. (3) The same, and 100 readers of each ingress watch all jobs instead.
The times are those of the whole process: registry, four views and all streams.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from fastapi import FastAPI
from starlette.types import Message

from tests.api.harness import LocalTransport, limit, make_app, service_of
from tests.jobs.harness import World

INGRESSES = 4
RUNNING = 1000
CHANGES_PER_S = 1500
SECONDS = 10.0


class Reader:
    """One stream, read as fast as it comes."""

    def __init__(self, app: FastAPI, path: str, client: int) -> None:
        self.began = asyncio.Event()
        self.events, self.bytes = 0, 0
        self.task = asyncio.create_task(self._run(app, path, f"c{client}"))

    async def _run(self, app: FastAPI, path: str, client: str) -> None:
        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "root_path": ""}
        scope |= {"query_string": b"", "scheme": "http"}
        scope["headers"] = [(b"host", b"localhost"), (b"x-client-id", client.encode())]
        await app({**scope, "server": ("127.0.0.1", 80)}, self._receive, self._send)

    async def _receive(self) -> Message:
        return await asyncio.Future[Message]()

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200, message
        elif message.get("body"):
            self.events += 1
            self.bytes += len(message["body"])
            self.began.set()


class Meter:
    """Of this process: CPU seconds, and events of all readers."""

    def __init__(self, readers: list[Reader]) -> None:
        self._readers = readers
        self._cpu, self._began = time.process_time(), time.monotonic()
        self._events = self._told()

    def row(self, what: str) -> str:
        seconds = time.monotonic() - self._began
        cores = (time.process_time() - self._cpu) / seconds
        events = (self._told() - self._events) / seconds
        return f"| {what} | {cores:.2f} | {events:.0f} | {cores / INGRESSES:.3f} |"

    def _told(self) -> int:
        return sum(reader.events for reader in self._readers)


async def measure(folder: Path, watchers: int) -> None:
    async with World(folder) as world:
        limit(world, max_in_flight=RUNNING, max_pending=100_000, cached_jobs=10_000)
        transports = [LocalTransport(world) for _ in range(INGRESSES)]
        for transport in transports:  # what crosses a process border is not copied here
            transport._call = direct(world)  # type: ignore[method-assign]
        apps = [make_app(transport) for transport in transports]
        async with contextlib.AsyncExitStack() as lives:
            for app in apps:
                await lives.enter_async_context(app.router.lifespan_context(app))
            jobs: list[str] = []
            for _ in range(0, watchers, 500):
                jobs += await asyncio.gather(*(world.submit(owner="local") for _ in range(500)))
            runs = await running(world)
            empty = psutil.Process().memory_info().rss
            print("| | cores | events a second | cores an ingress |\n|---|---|---|---|")
            print(
                f"{time.process_time():.0f} s of CPU until {len(jobs)} jobs are in line", flush=True
            )
            readers = await opened(apps, [f"/v1/jobs/{job_id}/events" for job_id in jobs])
            used = psutil.Process().memory_info().rss - empty
            meter = Meter(readers)
            await asyncio.sleep(SECONDS)
            print(meter.row(f"{watchers} watch, nothing happens"))
            meter = Meter(readers)
            await change(world, runs)
            print(meter.row(f"{watchers} watch, {CHANGES_PER_S} changes a second"))
            for reader in readers[-100 * INGRESSES :]:
                reader.task.cancel()
            await asyncio.wait([reader.task for reader in readers[-100 * INGRESSES :]])
            del readers[-100 * INGRESSES :]
            readers += await opened(apps, ["/v1/events"] * 100 * INGRESSES)
            meter = Meter(readers)
            await change(world, runs)
            print(meter.row("the same, and 400 of them watch all jobs of the owner"))
            print(f"\nmemory of a stream: {used / watchers / 1024:.1f} KiB")
            taken = [service_of(app).watching.seats.taken for app in apps]
            assert sum(taken) == len(readers), taken
            for reader in readers:
                reader.task.cancel()
            await asyncio.wait([reader.task for reader in readers])


async def running(world: World) -> list[str]:
    """Let those that have been launched start, and return them."""
    await world.until(lambda: len(world.registry._jobs.in_flight) >= RUNNING)
    runs = list(world.registry._jobs.in_flight)
    said: list[tuple[str, int, float | None]] = [
        (job_id, world.registry._jobs.in_flight[job_id], None) for job_id in runs
    ]
    await world.registry.report({"admitted": said, "progress": [], "previews": []})
    return runs


def direct(world: World) -> Any:
    async def call(method: str, *args: Any) -> Any:
        found = getattr(world.registry, method)(*args)
        return await found if asyncio.iscoroutine(found) else found

    return call


async def opened(apps: list[FastAPI], paths: list[str]) -> list[Reader]:
    """A hundred at a time, each at the next ingress. All have read their first event."""
    readers: list[Reader] = []
    for first in range(0, len(paths), 100):
        some = paths[first : first + 100]
        opening = [
            Reader(apps[number % INGRESSES], path, first + number)
            for number, path in enumerate(some)
        ]
        async with asyncio.timeout(60):
            await asyncio.gather(*(reader.began.wait() for reader in opening))
        readers += opening
    return readers


async def change(world: World, jobs: list[str]) -> None:
    """Progress of one job after the other, a handful each 20 ms, as renderers report it."""
    began, done = time.monotonic(), 0
    while (passed := time.monotonic() - began) < SECONDS:
        wanted = int(passed * CHANGES_PER_S)
        said = [
            (jobs[number % len(jobs)], 1, {"value": 0.5, "step": number, "steps": 10**6})
            for number in range(done, wanted)
        ]
        await world.registry.report({"admitted": [], "progress": said, "previews": []})
        done = wanted
        await asyncio.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--watchers", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder), given.watchers))


if __name__ == "__main__":
    main()
