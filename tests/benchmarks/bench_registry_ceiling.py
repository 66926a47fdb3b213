"""How many jobs per second one registry carries when it does nothing else: in plain Python, and as an actor.

    python -m tests.benchmarks.bench_registry_ceiling --out FOLDER

Workload of the plain arms: sixteen renderers admit and end attempts by the handful, and draw nothing; 64
callers submit one order after the other, so that the line is never empty; watchers follow every change as
ingresses do, and look 20 times a second. The registry runs in a process of its own
with `synchronous = FULL`, on the disk of FOLDER. Each arm is a fresh store; arms take turns. The actor's arms
are in `ceiling_actor`. There the processes that order and launch need processor time, too, so on few cores
CPU per job says more than jobs per second.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections import deque
from itertools import count
from pathlib import Path
from typing import Any

from serve_app.api.view import COALESCE_S, WATCH_TIMEOUT_S
from serve_app.artifacts.folder import OutputDir
from serve_app.jobs.registry import JobRegistry
from serve_app.jobs.startup import open_registry
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import Outcome, Report, Ticket
from tests.factories import image_file, labels, params, submission
from tests.jobs.harness import LIMITS, NoMetrics

RENDERERS = 16
SUBMITTERS = 64
BACKLOG = 200  # jobs that wait, beside those in flight
ARMS = [
    {"actor": actor, "in_flight": in_flight, "watchers": watchers, "clients": clients}
    for actor in (False, True)
    for in_flight in (64, 800)
    for watchers in (1, 8)
    for clients in (1, 2000)
]


class InstantLauncher:
    """Attempts begin at once, and end when the bench says so."""

    def __init__(self) -> None:
        self.begun: deque[Ticket] = deque()
        self.more = asyncio.Event()
        self.ends: dict[str, asyncio.Future[Outcome]] = {}

    async def run(self, ticket: Ticket) -> Outcome:
        end = self.ends[ticket["job_id"]] = asyncio.get_running_loop().create_future()
        self.begun.append(ticket)
        self.more.set()
        return await end

    async def drop(self, epoch: int, fences: dict[str, int]) -> None: ...
    def kill(self, job_id: str) -> None: ...

    def forget(self, job_id: str) -> None: ...
    async def send_previews(self, job_id: str) -> None: ...
    def lacking(self, pool: str) -> str | None: ...


class Arm:
    def __init__(self, directory: Path, *, in_flight: int, watchers: int, clients: int) -> None:
        self.directory, self.in_flight = directory, in_flight
        self.watchers, self.clients = watchers, clients
        self.launcher = InstantLauncher()
        self.admitted: deque[str] = deque()
        self.ended = 0
        self.numbers = count()
        self.order = params()

    async def play(self, seconds: float) -> dict[str, float]:
        limits = dataclasses.replace(
            LIMITS, max_in_flight=self.in_flight, max_pending=10**6, cached_jobs=10_000
        )
        output = OutputDir(self.directory / "output")
        self.registry = await open_registry(
            lambda: SqliteStore(self.directory),
            lambda store: JobRegistry(store, self.launcher, output, NoMetrics(), limits),
        )
        await self.registry.watch(self.registry.epoch, 0, 0)
        self.room = asyncio.Semaphore(self.in_flight + BACKLOG)
        others = [asyncio.create_task(self.submit()) for _ in range(SUBMITTERS)]
        others += [asyncio.create_task(self.watch()) for _ in range(self.watchers)]
        others.append(asyncio.create_task(self.render()))
        await self.played(1.0)  # warm, and full
        figures = await self.played(seconds)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.registry.close()
        return figures

    async def played(self, seconds: float) -> dict[str, float]:
        ended, began, cpu, loop = self.ended, time.perf_counter(), _cpu(), time.thread_time()
        await asyncio.sleep(seconds)  # the clock of the workload
        jobs, took = self.ended - ended, time.perf_counter() - began
        return {
            "jobs/s": jobs / took,
            "CPU, ms a job": 1000 * (_cpu() - cpu) / max(1, jobs),
            "of it the loop, ms": 1000 * (time.thread_time() - loop) / max(1, jobs),
            "cores": (_cpu() - cpu) / took,
        }

    async def submit(self) -> None:
        while True:
            await self.room.acquire()
            client = f"client {next(self.numbers) % self.clients}"
            reply = await self.registry.submit(submission(self.order, labels(client=client)))
            assert "job" in reply, reply

    async def render(self) -> None:
        """Each renderer in its turn: admits what came, and ends what it has held longest."""
        share = max(1, self.in_flight // RENDERERS)
        while True:
            await self.launcher.more.wait()
            self.launcher.more.clear()
            new = [self.launcher.begun.popleft() for _ in range(len(self.launcher.begun))]
            told: list[tuple[str, int, float | None]] = [
                (ticket["job_id"], ticket["fence"], 0.1) for ticket in new
            ]
            if told:
                gone = await self.registry.report(Report(admitted=told, progress=[], previews=[]))
                assert not gone, gone
                self.admitted.extend(job_id for job_id, _, _ in told)
            while len(self.admitted) > self.in_flight - share:
                end = self.launcher.ends.pop(self.admitted.popleft())
                end.set_result(Outcome(kind="drawn", reason="", images=[image_file()], run_s=0.1))
                self.ended += 1
                self.room.release()

    async def watch(self) -> None:
        seq = 0
        while True:
            reply = await self.registry.watch(self.registry.epoch, seq, WATCH_TIMEOUT_S)
            seq = reply["seq"]
            await asyncio.sleep(COALESCE_S)  # as an ingress does


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# ---- rounds ----


def play(out: Path, seconds: float, *, actor: bool, **arm: int) -> dict[str, float]:
    if not actor:
        return asyncio.run(Arm(out, **arm).play(seconds))
    from tests.benchmarks import ceiling_actor  # sets Ray's variables

    return ceiling_actor.play(out, seconds, **arm)


def run(out: Path, arm: dict[str, Any], seconds: float) -> dict[str, float]:
    work = out / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.benchmarks.bench_registry_ceiling"]
    command += ["--out", str(work), "--seconds", str(seconds), "--arm", json.dumps(arm)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    shutil.rmtree(work)
    return json.loads(done.stdout)


def report(runs: dict[str, list[dict[str, Any]]]) -> str:
    names = ["jobs/s", "CPU, ms a job", "of it the loop, ms", "cores", "calls a job"]
    lines = [
        "| arm | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for arm, rounds in runs.items():
        found = [
            f"{statistics.median(one[name] for one in rounds):.4g}" if name in rounds[0] else ""
            for name in names
        ]
        lines.append(f"| {arm} | " + " | ".join(found) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument(
        "--arm", type=json.loads, help=argparse.SUPPRESS
    )  # this process is that arm
    options = parser.parse_args()
    if options.arm:
        print(json.dumps(play(options.out, options.seconds, **options.arm)))
        return
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for arm in ARMS:
            numbers = [f"{arm[key]} {key.replace('_', ' ')}" for key in arm if key != "actor"]
            name = ", ".join(["actor" if arm["actor"] else "plain", *numbers])
            runs.setdefault(name, []).append(run(options.out, arm, options.seconds))
            print(f"{name}: {runs[name][-1]}", file=sys.stderr, flush=True)
    text = report(runs)
    (options.out / "bench_registry_ceiling.md").write_text(text)
    print(text)
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
