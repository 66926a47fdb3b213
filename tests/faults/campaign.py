"""The fault campaign: hundreds of jobs of all kinds while everything that can die does.

    python -m tests.faults.campaign --seed 1 --kills 200 --cluster-kills 8 --out FOLDER

prints a table of faults and outcomes, leaves it in FOLDER/report.md beside a journal that is written
as it goes, and ends with 1 if any promise of DESIGN.md section 5 was broken. Knows the order of things;
what a fault does, and what must hold, is in `faults` and `check`.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from tests.cluster.conftest import write_files
from tests.cluster.service import Service, wait_until

from . import evidence
from .check import Case, violations
from .customers import Crowd
from .deployment import Deployment
from .faults import CLUSTER, FAULTS, KILLS, OTHERS, Recovered, Scene, kill_cluster
from .ledger import Journal, Ledger
from .orders import CLIENTS, orders
from .pixels import pixels, references
from .report import Result, Struck, render
from .wire import Wire

RECOVERED_WITHIN_S = 180  # seconds usually; the machine may have other work
BUSY_WITHIN_S = 180
LIVE_AT_LEAST = 10
WARM_UP_JOBS = 16


@dataclass(frozen=True)
class Step:
    fault: str
    at_once: bool  # strike without waiting until the fault before is recovered from


def plan(seed: int, kills: int, cluster_kills: int) -> list[Step]:
    """Kills of single processes, a quarter as many other faults in between, and the ends of the whole
    cluster evenly among them. A third follow at once."""
    rng = Random(f"{seed} plan")
    deck = [KILLS[i % len(KILLS)] for i in range(kills)]
    deck += [OTHERS[i % len(OTHERS)] for i in range(max(len(OTHERS), kills // 4))]
    rng.shuffle(deck)
    for i in range(cluster_kills):
        deck.insert(round((i + rng.uniform(0.3, 0.9)) * len(deck) / cluster_kills), CLUSTER)
    hasty = set(rng.sample(range(1, len(deck)), len(deck) // 3))
    return [Step(fault, i in hasty) for i, fault in enumerate(deck)]


class Campaign:
    def __init__(self, folder: Path, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._seed = folder, seed
        self._journal = Journal(folder / "journal.jsonl")
        self._ledger = Ledger(self._journal)
        self._result = Result(seed)
        self._pending: list[tuple[Struck, float, Recovered]] = []

    def run(self, steps: list[Step]) -> Result:
        settings = write_files(self._folder / "tiny") | {"shutdown_grace_s": 3}
        service = Service(self._folder / "service", settings)
        wire = Wire(service.port, self._ledger)
        crowd = Crowd(self._seed, service.port, self._ledger)
        began = time.monotonic()
        try:
            service.start()
            self._fight(service, wire, crowd, steps)
            self._result.whole = True
        finally:
            crowd.leave()
            self._result.seconds = time.monotonic() - began
            self._result.entries, self._result.replays = self._ledger.entries, self._ledger.replays
            self._result.broken[:0] = self._ledger.wrong
            (self._folder / "report.md").write_text(render(self._result))
            wire.close()
            service.stop()
            self._journal.close()
        return self._result

    def _fight(self, service: Service, wire: Wire, crowd: Crowd, steps: list[Step]) -> None:
        drawn = references(service)
        strangers = frozenset(evidence.list_jobs(wire))
        scene = Scene(
            service,
            self._ledger,
            wire,
            orders(self._seed, "striker", CLIENTS),
            Random(f"{self._seed} faults"),
            Deployment(service),
        )
        self._warm_up(scene)
        before = evidence.census(service)
        crowd.start()
        for step in steps:
            if not step.at_once:
                self._recover(scene)
                self._await_work(scene)
            self._strike(scene, step)
        self._recover(scene)
        self._journal.write("no more orders")
        crowd.serve_out(evidence.SERVED_WITHIN_S)
        found = evidence.collect(service, wire, self._ledger, before)
        self._result.before, self._result.after = found.before, found.after
        self._result.jobs = {i: job for i, job in found.jobs.items() if i not in strangers}
        self._result.broken = violations(
            Case(
                self._ledger.entries,
                found,
                scene.deaths,
                drawn,
                lambda job: pixels(service.output, job),
                strangers,
            )
        )

    def _warm_up(self, scene: Scene) -> None:
        """Jobs in company, and every route once: pools fill up as they are first used, and only what
        grows after that is a leak."""
        for order in islice(scene.orders, WARM_UP_JOBS):
            scene.wire.order(order)
        for fault in ("client gone from a stream", "cancel", "client gone in a POST"):
            FAULTS[fault](scene)

        def served() -> bool:
            for entry in scene.ledger.live():
                scene.wire.poll(entry)
            return not scene.ledger.live()

        wait_until(served, evidence.SERVED_WITHIN_S, "the warm-up is over")
        for fault in ("retry", "delete"):
            FAULTS[fault](scene)
        wait_until(served, evidence.SERVED_WITHIN_S, "the warm-up is over")

    def _strike(self, scene: Scene, step: Step) -> None:
        running = [entry.job_id for entry in scene.running() if entry.job_id]
        struck = Struck(step.fault, step.at_once, len(self._ledger.live()), running)
        self._result.struck.append(struck)
        self._journal.write("strike", fault=step.fault, at_once=step.at_once, live=struck.live)
        at = time.monotonic()
        try:
            self._pending.append((struck, at, FAULTS[step.fault](scene)))
        except AssertionError as error:
            if step.fault == CLUSTER:
                raise  # there is nothing any more to go on with
            self._ledger.broken(f"not recovered: no victim for {step.fault}: {error}")

    def _recover(self, scene: Scene) -> None:
        """Wait for the end of every fault since the last time all was well."""
        for struck, at, recovered in self._pending:
            try:
                wait_until(recovered, RECOVERED_WITHIN_S, struck.fault)
            except AssertionError as error:
                self._ledger.broken(f"not recovered: {struck.fault}: {error}")
            else:
                struck.recovery_s = time.monotonic() - at
                self._journal.write("recovered", fault=struck.fault, seconds=struck.recovery_s)
        self._pending.clear()
        if scene.deployment.error is not None:
            self._ledger.broken(f"redeploy failed: {scene.deployment.error}")
            wait_until(kill_cluster(scene), RECOVERED_WITHIN_S, "a cluster again")

    def _await_work(self, scene: Scene) -> None:
        """Strike only while many jobs live and one is being drawn."""

        def busy() -> bool:
            drawing = [
                e for e in scene.running() if e.last and (e.last["progress"] or {}).get("step")
            ]
            return bool(drawing) and len(self._ledger.live()) >= LIVE_AT_LEAST

        try:
            wait_until(busy, BUSY_WITHIN_S, "jobs are drawn")
        except AssertionError as error:
            self._ledger.broken(f"not recovered: {error}")
            for last in [e.last for e in self._ledger.live() if e.last]:
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
    given = parser.parse_args()
    steps = plan(given.seed, given.kills, given.cluster_kills)
    result = Campaign(given.out, given.seed).run(steps)
    print(render(result))
    sys.exit(0 if result.passed else 1)


if __name__ == "__main__":
    main()
