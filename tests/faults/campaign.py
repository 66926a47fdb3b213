"""The fault campaign: hundreds of jobs of all kinds while everything that can die does.

    python -m tests.faults.campaign --seed 1 --kills 200 --cluster-kills 8 --out FOLDER
    python -m tests.faults.campaign --redis-kills 10 --out FOLDER    the store is in a Redis, which dies too

prints a table of faults and what came of them, leaves it in FOLDER/report.md beside a journal that is
written as it goes, and ends with 1 if any promise about jobs was broken. Knows when a fault strikes; what
it does is in `faults`, what must hold afterwards in `check`.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from tests.cluster.conftest import write_files
from tests.cluster.service import Service, wait_until
from tests.redis_server import RedisServer, redis_server

from . import evidence
from .check import Case, violations
from .customers import Crowd
from .faults import (
    CLUSTER_KILLED,
    FAULTS,
    KILLS,
    OTHERS,
    REDIS_KILLED,
    Recovered,
    Scene,
    kill_cluster,
    redis_killed,
)
from .journal import Journal
from .notebook import Notebook
from .orders import CLIENTS, orders
from .pixels import pixels, references
from .redeploy import BackgroundRedeploy
from .report import Result, Struck, render
from .wire import Wire

RECOVERED_WITHIN_S = 180  # seconds usually; the machine may have other work
BUSY_WITHIN_S = 180
LIVE_AT_LEAST = 10
WARM_UP_JOBS = 16


@dataclass(frozen=True)
class PlannedStrike:
    fault: str
    at_once: bool  # strike without waiting until the fault before is recovered from


def plan(seed: int, kills: int, cluster_kills: int, redis_kills: int = 0) -> list[PlannedStrike]:
    """Kills of single processes, a quarter as many other faults shuffled in between, and kills of the whole
    cluster spread evenly among them. A third strike at once."""
    rng = Random(f"{seed} plan")
    deck = [KILLS[i % len(KILLS)] for i in range(kills)]
    deck += [OTHERS[i % len(OTHERS)] for i in range(max(len(OTHERS), kills // 4))]
    deck += [REDIS_KILLED] * redis_kills
    rng.shuffle(deck)
    for i in range(cluster_kills):
        at = round((i + rng.uniform(0.3, 0.9)) * len(deck) / cluster_kills)
        deck.insert(at, CLUSTER_KILLED)
    hasty = set(rng.sample(range(1, len(deck)), len(deck) // 3))
    return [PlannedStrike(fault, i in hasty) for i, fault in enumerate(deck)]


class Campaign:
    def __init__(self, folder: Path, seed: int, redis: RedisServer | None = None) -> None:
        """`redis`: keeps the job store; None: a disk does."""
        folder.mkdir(parents=True, exist_ok=True)
        self._faults, self._redis = dict(FAULTS), redis
        if redis is not None:
            self._faults[REDIS_KILLED] = redis_killed(redis)
        self._folder, self._seed = folder, seed
        self._journal = Journal(folder / "journal.jsonl")
        self._notebook = Notebook(self._journal)
        self._result = Result(seed)
        self._pending: list[tuple[Struck, float, Recovered]] = []

    def run(self, strikes: list[PlannedStrike]) -> Result:
        settings = write_files(self._folder / "tiny") | {"shutdown_grace_s": 3, "launchers": 1}
        if self._redis is not None:
            settings |= {"redis_url": self._redis.url, "retention_days": 30}
        service = Service(self._folder / "service", settings)
        wire = Wire(service.port, self._notebook)
        crowd = Crowd(self._seed, service.port, self._notebook)
        began = time.monotonic()
        try:
            service.start()
            self._play(service, wire, crowd, strikes)
            self._result.whole = True
        finally:
            crowd.leave()
            self._result.seconds = time.monotonic() - began
            self._result.receipts = self._notebook.receipts
            self._result.replays = self._notebook.replays
            self._result.broken[:0] = self._notebook.broken_promises
            (self._folder / "report.md").write_text(render(self._result))
            wire.close()
            service.stop()
            self._journal.close()
        return self._result

    def _play(
        self, service: Service, wire: Wire, crowd: Crowd, strikes: list[PlannedStrike]
    ) -> None:
        self._notebook.source, drawn = references(service)
        earlier = frozenset(evidence.list_jobs(wire))
        scene = Scene(
            service,
            self._notebook,
            wire,
            orders(self._seed, "striker", CLIENTS),
            Random(f"{self._seed} faults"),
            BackgroundRedeploy(service),
        )
        self._warm_up(scene)
        before = evidence.census(service)
        crowd.start()
        for strike in strikes:
            if not strike.at_once:
                self._recover(scene)
                self._await_work(scene)
            self._strike(scene, strike)
        self._recover(scene)
        self._journal.write("no more orders")
        crowd.finish(evidence.ENDED_WITHIN_S)
        found = evidence.collect(service, wire, self._notebook, before)
        self._result.before, self._result.after = found.before, found.after
        self._result.jobs = {i: job for i, job in found.jobs.items() if i not in earlier}
        self._result.broken = violations(
            Case(
                self._notebook.receipts,
                found,
                scene.deaths,
                drawn,
                lambda job: pixels(service.output, job),
                earlier,
            )
        )

    def _warm_up(self, scene: Scene) -> None:
        """Jobs in company, and every route once. Thread pools fill up as they are first used: only what
        grows after this is a leak."""
        for order in islice(scene.orders, WARM_UP_JOBS):
            scene.wire.order(order)
        for fault in ("client gone from a stream", "cancel", "client gone in a POST"):
            FAULTS[fault](scene)

        def all_ended() -> bool:
            for receipt in scene.notebook.live():
                scene.wire.poll(receipt)
            return not scene.notebook.live()

        wait_until(all_ended, evidence.ENDED_WITHIN_S, "the warm-up is over")
        for fault in ("retry", "delete"):
            FAULTS[fault](scene)
        wait_until(all_ended, evidence.ENDED_WITHIN_S, "the warm-up is over")

    def _strike(self, scene: Scene, strike: PlannedStrike) -> None:
        running = [receipt.job_id for receipt in scene.running() if receipt.job_id]
        struck = Struck(strike.fault, strike.at_once, len(self._notebook.live()), running)
        self._result.struck.append(struck)
        self._journal.write("strike", fault=strike.fault, at_once=strike.at_once, live=struck.live)
        at = time.monotonic()
        try:
            self._pending.append((struck, at, self._faults[strike.fault](scene)))
        except AssertionError as error:
            if strike.fault == CLUSTER_KILLED:
                raise  # there is no service to go on with
            self._notebook.broken(f"not recovered: no victim for {strike.fault}: {error}")

    def _recover(self, scene: Scene) -> None:
        """Wait until the service has recovered from every fault since the last time it had."""
        for struck, at, recovered in self._pending:
            try:
                wait_until(recovered, RECOVERED_WITHIN_S, struck.fault)
            except AssertionError as error:
                self._notebook.broken(f"not recovered: {struck.fault}: {error}")
            else:
                struck.recovery_s = time.monotonic() - at
                self._journal.write("recovered", fault=struck.fault, seconds=struck.recovery_s)
        self._pending.clear()
        if scene.redeploy.error is not None:
            self._notebook.broken(f"redeploy failed: {scene.redeploy.error}")
            wait_until(kill_cluster(scene), RECOVERED_WITHIN_S, "a cluster again")

    def _await_work(self, scene: Scene) -> None:
        """Strike only while many jobs live and one is being drawn."""

        def busy() -> bool:
            jobs = [receipt.last for receipt in scene.running() if receipt.last]
            drawn = any((job["progress"] or {}).get("step") for job in jobs)
            return drawn and len(self._notebook.live()) >= LIVE_AT_LEAST

        try:
            wait_until(busy, BUSY_WITHIN_S, "jobs are drawn")
        except AssertionError as error:
            self._notebook.broken(f"not recovered: {error}")
            for last in [receipt.last for receipt in self._notebook.live() if receipt.last]:
                told = {key: last[key] for key in ("status", "waiting_for", "progress", "attempts")}
                self._journal.write("idle", job_id=last["job_id"], **told)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=200, help="of single processes")
    parser.add_argument("--cluster-kills", type=int, default=8, help="of all of them at once")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--redis-kills", type=int, default=0, help="above 0: the store is there")
    given = parser.parse_args()
    strikes = plan(given.seed, given.kills, given.cluster_kills, given.redis_kills)
    with contextlib.ExitStack() as stack:
        redis = None
        if given.redis_kills:
            (given.out / "redis").mkdir(parents=True)
            redis = stack.enter_context(redis_server(given.out / "redis"))
        result = Campaign(given.out, given.seed, redis).run(strikes)
    print(render(result))
    sys.exit(0 if result.passed else 1)


if __name__ == "__main__":
    main()
