"""The registry on a store of a million finished and a hundred thousand queued jobs, beside an empty one.

    python -m tests.benchmarks.bench_registry --out FOLDER                      makes FOLDER/store first
    python -m tests.benchmarks.bench_registry --out FOLDER --finished 20000 --queued 2000 --rounds 1

Workload, the same for both arms, each in a process of its own on a fresh copy of its store that the page
cache does not hold: start and answer one poll; then, while a launcher that draws nothing completes `--rate`
jobs per second and as many are ordered beside them, call the registry directly: 2,000 submits and 2,000
polls of each sort, 16 at a time, and 200 pages of each list, 2 at a time. First pages are the newest;
deep ones begin anywhere in the history of the largest owner, who has a quarter of all jobs. A call's time
runs from the task that makes it, so it includes waiting for the event loop. Rounds alternate the arms.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from serve_app.artifacts.folder import OutputDir
from serve_app.jobs.job import Status
from serve_app.jobs.registry import JobRegistry
from serve_app.jobs.startup import open_registry
from serve_app.jobs.store.schema import LIVE
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import ImageFile, JobFilter, Outcome, Submission
from tests.benchmarks.fill_store import DAY, DAYS, RARE_TAG, Author, fill
from tests.factories import submission
from tests.jobs.harness import LIMITS, ManualLauncher, NoMetrics

ARMS = ("empty", "filled")
CALLS, CALLS_AT_ONCE = 2000, 16
PAGES, PAGES_AT_ONCE = 200, 2
WARM_UP = 256  # jobs; half of them are completed
CACHED = 10_000  # the default of `cached_jobs`
OWNER = "studio-0"
FILTERS: dict[str, JobFilter] = {
    "everything": {},
    "status SUCCESS": {"statuses": ["SUCCESS"]},
    "statuses FAILURE, REVOKED": {"statuses": ["FAILURE", "REVOKED"]},
    "all six statuses": {"statuses": [status.value for status in Status]},
    "style": {"style_id": "icon"},
    "style, statuses FAILURE, REVOKED": {"style_id": "icon", "statuses": ["FAILURE", "REVOKED"]},
    "tag": {"tag": "level-0"},
    "rare tag": {"tag": RARE_TAG},
    "tag, status FAILURE": {"tag": "level-0", "statuses": ["FAILURE"]},
    "tag, a status that is not there": {"tag": "level-0", "statuses": ["STARTED"]},
    "tag, style": {"tag": "level-0", "style_id": "low_poly"},
}
Call = Callable[[], Coroutine[Any, Any, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--store", type=Path, help="made by fill_store; default: FOLDER/store")
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=20.0, help="jobs completed per second")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)  # this process is that arm
    options = parser.parse_args()
    if options.arm:
        print(json.dumps(asyncio.run(Arm(options.out, options.rate).play())))
        return
    store = options.store or options.out / "store"
    if not store.exists():
        fill(store, finished=options.finished, queued=options.queued)
    runs: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for number in range(options.rounds):
        for arm in ARMS if number % 2 == 0 else ARMS[::-1]:
            runs[arm].append(run(arm, store, options.out / "work", options.rate))
            print(f"round {number + 1}: {arm} done", file=sys.stderr, flush=True)
    text = report(runs, options.rate)
    (options.out / "bench_registry.md").write_text(text)
    print(text)


def run(arm: str, store: Path, work: Path, rate: float) -> dict[str, Any]:
    """One arm in a process of its own, on a copy of the store that nothing has read yet."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    if arm == "filled":
        shutil.copyfile(store / "jobs.db", work / "jobs.db")
        with (work / "jobs.db").open("rb+") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    command = [sys.executable, "-m", "tests.benchmarks.bench_registry", "--out", str(work)]
    began = time.time()
    done = subprocess.run(
        [*command, "--arm", arm, "--rate", str(rate)], stdout=subprocess.PIPE, check=True
    )
    shutil.rmtree(work)
    result = json.loads(done.stdout)
    result["process start to serving, s"] = result.pop("serving at") - began
    return result


# ---- one arm ----


class Arm:
    """One life of a registry, and those who call it."""

    def __init__(self, directory: Path, rate: float) -> None:
        self.directory, self.rate = directory, rate
        self.rng = random.Random(0)
        self.author = Author(20, self.rng)
        self.launcher = ManualLauncher()
        self.completed = self.cursor = 0

    async def play(self) -> dict[str, Any]:
        figures: dict[str, Any] = {"memory before, MiB": uss()}
        figures["restart to serving, s"] = await self.start()
        figures["serving at"] = time.time()
        figures["memory after start, MiB"] = uss()
        await self.warm_up()
        traffic = asyncio.create_task(self.traffic())
        began, others = time.perf_counter(), cpu_of_others()
        samples = {**await self.submits(), **await self.polls(), **await self.pages()}
        took = time.perf_counter() - began
        figures["jobs completed per second"] = self.completed / took
        figures["cores that other processes used"] = (cpu_of_others() - others) / took
        traffic.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await traffic
        figures["memory at the end, MiB"] = uss()
        figures["memory at its peak, shared pages included, MiB"] = (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        )
        stats = self.registry.stats()
        figures |= {"jobs waiting": stats["waiting"], "jobs in memory": stats["cached"]}
        figures["store, MiB"] = (self.directory / "jobs.db").stat().st_size / 2**20
        await self.registry.close()
        figures["restart, page cache warm, s"] = await self.start()
        await self.registry.close()
        return {**figures, "samples": samples}

    async def start(self) -> float:
        """Seconds until it answers."""
        limits = dataclasses.replace(
            LIMITS, max_in_flight=16, max_pending=10**6, cached_jobs=CACHED, retention_s=None
        )
        began = time.perf_counter()
        output = OutputDir(self.directory / "output")
        self.registry = await open_registry(
            lambda: SqliteStore(self.directory),
            lambda store: JobRegistry(store, self.launcher, output, NoMetrics(), limits),
        )
        await self.registry.get("no such job")
        return time.perf_counter() - began

    def order(self) -> Submission:
        order = self.author.order()
        return submission(order.params, order.labels, owner=order.owner)

    async def warm_up(self) -> None:
        """Something to draw and something drawn, in the empty store too."""
        for _ in range(WARM_UP):
            await self.registry.submit(self.order())
        while self.completed < WARM_UP // 2:
            await self.watch()
            await self.complete()
        self.completed = 0

    async def traffic(self) -> None:
        """What goes on meanwhile: an ingress watches, one order comes, one is done."""
        while True:
            await asyncio.sleep(1 / self.rate)  # the clock of the workload
            await self.watch()
            await self.registry.submit(self.order())
            await self.complete()

    async def watch(self) -> None:
        reply = await self.registry.watch(self.registry.epoch, self.cursor, 0)
        self.cursor = reply["seq"]

    async def complete(self) -> None:
        await asyncio.sleep(0)
        for job_id, fence in list(self.launcher.running)[:1]:
            assert await self.registry.admitted(job_id, fence)
            self.launcher.end(job_id, fence, Outcome(kind="drawn", reason="", images=[IMAGE]))
            while self.registry._jobs.in_flight.get(job_id) == fence:
                await self.registry._cache.change()
            self.completed += 1

    # ---- what is timed ----

    async def submits(self) -> dict[str, list[float]]:
        orders = [self.order() for _ in range(CALLS)]
        self.newest = [order["job_id"] for order in orders]
        calls = [lambda o=order: self.registry.submit(o) for order in orders]
        return {"submit": await timed(calls, CALLS_AT_ONCE)}

    async def polls(self) -> dict[str, list[float]]:
        cache = self.registry._cache
        finished = [job.job_id for job in cache.final()]
        return {
            "poll a queued job, in memory": await self.poll(self.newest),
            "poll a finished job, in memory": await self.poll(finished),
            "poll a queued job, from its row": await self.poll(self.stored(LIVE, self.newest)),
            "poll a finished job, from its row": await self.poll(
                self.stored("completed_at IS NOT NULL", finished)
            ),
        }

    async def poll(self, job_ids: list[str]) -> list[float]:
        chosen = self.rng.choices(job_ids, k=CALLS)
        return await timed([lambda j=job_id: self.registry.get(j) for job_id in chosen], 16)

    def stored(self, condition: str, held: list[str]) -> list[str]:
        """Jobs that are not in memory, from all over the store. An empty store has none: there, those
        that are `held` are forgotten first, so that like is compared with like."""
        cache = self.registry._cache
        found: list[str] = []
        with contextlib.closing(sqlite3.connect(self.directory / "jobs.db")) as db:
            query = (
                f"SELECT MIN(number), (SELECT MAX(number) FROM jobs) FROM jobs WHERE {condition}"
            )
            low, high = db.execute(query).fetchone()
            query = f"SELECT job_id FROM jobs NOT INDEXED WHERE number >= ? AND {condition} LIMIT 1"
            for _ in range(CALLS):
                row = db.execute(query, (self.rng.randint(low, high),)).fetchone()
                if row is not None and cache.get(row[0]) is None:
                    found.append(row[0])
        if not found:
            for job_id in held:
                cache._others.pop(job_id, None)
        return found or held

    async def pages(self) -> dict[str, list[float]]:
        samples: dict[str, list[float]] = {}
        for name, wanted in FILTERS.items():
            samples[f"list: {name}; first page"] = await self.list(wanted, deep=False)
            samples[f"list: {name}; deep"] = await self.list(wanted, deep=True)
        samples["first events of a stream: 500 rows; deep"] = await self.list(
            {}, deep=True, limit=500
        )
        middle = time.time() - DAYS / 2 * DAY
        day: JobFilter = {"created_after": middle, "created_before": middle + DAY}
        samples["list: one day; first page"] = await self.list(day, deep=False)
        samples["list: one day, tag; first page"] = await self.list(
            {**day, "tag": "level-0"}, deep=False
        )
        return samples

    async def list(self, wanted: JobFilter, *, deep: bool, limit: int = 100) -> list[float]:
        def call(i: int) -> Call:
            number = round((time.time() - self.rng.random() * DAYS * DAY) * 1e6) if deep else None
            before, after = (number, None) if i % 2 else (None, number)
            return lambda: self.registry.page(OWNER, wanted, limit, before, after)

        return await timed([call(i) for i in range(PAGES)], PAGES_AT_ONCE)


IMAGE = ImageFile(
    path="2026-01-01/icon_1_00000000-0000-7000-8000-000000000000_0_1.png",
    index=0,
    seed=1,
    width=512,
    height=512,
    content_type="image/png",
    size_bytes=400_000,
    sha256="0" * 64,
    has_alpha=False,
    notes=[],
)


async def timed(calls: Iterable[Call], at_once: int) -> list[float]:
    """Seconds of each call; so many callers, each of whom makes the next call when one is answered."""
    left = iter(calls)
    taken: list[float] = []

    async def caller() -> None:
        for call in left:
            began = time.perf_counter()
            await asyncio.create_task(call())
            taken.append(time.perf_counter() - began)

    await asyncio.gather(*(caller() for _ in range(at_once)))
    return taken


def uss() -> float:
    """MiB that would be free if this process ended."""
    return psutil.Process().memory_full_info().uss / 2**20


def cpu_of_others() -> float:
    """CPU seconds that whatever else runs on this machine has had: times mean something near zero."""
    machine, own = psutil.cpu_times(), psutil.Process().cpu_times()
    return machine.user + machine.nice + machine.system - own.user - own.system


# ---- words ----


def report(runs: dict[str, list[dict[str, Any]]], rate: float) -> str:
    empty, filled = (runs[arm] for arm in ARMS)
    lines = [
        f"{len(empty)} rounds, {len(os.sched_getaffinity(0))} core(s), SQLite "
        f"{sqlite3.sqlite_version}, {rate:g} jobs per second meanwhile.",
        "",
        "| | empty | filled |",
        "|---|---|---|",
    ]
    for name in empty[0].keys() - {"samples"}:
        cells = (f"{np.median([r[name] for r in arm]):,.2f}" for arm in (empty, filled))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines[4:] = sorted(lines[4:])
    lines += [
        "",
        "| ms | empty p50 / p99 | filled p50 / p99 | worst | p99, filled : empty (rounds) |",
        "|---|---|---|---|---|",
    ]
    for name in empty[0]["samples"]:
        a, b = (np.array([r["samples"][name] for r in arm]) * 1000 for arm in (empty, filled))
        ratios = sorted(np.percentile(b, 99, axis=1) / np.percentile(a, 99, axis=1))
        lines.append(
            f"| {name} | {np.median(a):.2f} / {np.percentile(a, 99):.2f}"
            f" | {np.median(b):.2f} / {np.percentile(b, 99):.2f} | {b.max():.1f}"
            f" | {np.percentile(b, 99) / np.percentile(a, 99):.2f}"
            f" ({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
