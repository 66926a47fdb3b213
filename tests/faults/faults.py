"""The faults. Each strikes once and returns the condition that tells, from outside, that it is over.

Knows processes by their titles and the service by its HTTP; nothing of when a fault strikes, nor of
what must hold afterwards.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import psutil

from tests.cluster.service import Service, wait_until

from .deployment import Deployment
from .ledger import Entry, Ledger
from .orders import ENDLESS, Order
from .wire import Wire, final

INGRESS = "^ray::ServeReplica:assets:Ingress"
RENDERER = "^ray::ServeReplica:assets:Renderer"
REGISTRY = r"^ray::Registry\b"
TASK = "^ray::job:([0-9a-f-]{36}).*"

VICTIM_WITHIN_S = 90
"""A fault that strikes during recovery may have to wait for its victim to be born."""


@dataclass
class Scene:
    """What the faults act on."""

    service: Service
    ledger: Ledger
    wire: Wire
    orders: Iterator[Order]
    rng: Random
    deployment: Deployment
    deaths: list[float] = field(default_factory=list[float])  # of renderers; unix seconds

    def running(self) -> list[Entry]:
        return [entry for entry in self.ledger.live() if entry.status == "STARTED"]


Recovered = Callable[[], object]
Strike = Callable[[Scene], Recovered]


# ---- a process dies ----


def kill_ingress(scene: Scene) -> Recovered:
    _kill(scene, INGRESS)
    return scene.wire.alive


def kill_task(scene: Scene) -> Recovered:
    """One attempt is lost; the job has another, unless it had just ended. (When it is drawn is another
    matter: it may have to wait for jobs that a dead renderer left and that are drawn alone.)"""
    job_id = re.sub(TASK, r"\1", _kill(scene, TASK))

    def taken_up() -> bool:
        return bool(scene.service.processes(f"^ray::job:{job_id}")) or final(
            scene.wire.look(job_id)
        )

    return taken_up


def kill_renderer(scene: Scene) -> Recovered:
    """Somebody's job is admitted by a new one."""
    struck_at = time.time()
    _kill(scene, RENDERER)
    scene.deaths.append(struck_at)
    return lambda: scene.ledger.drawn_since(struck_at)


def kill_registry(scene: Scene) -> Recovered:
    """An order is accepted: the old one is dead by now, so the new one did that."""
    _kill(scene, REGISTRY)
    return _accepts(scene)


def stop_then_kill_registry(scene: Scene) -> Recovered:
    """It hears an order, is silent until the client gives up, and dies."""
    stopped, _ = _signal(scene, REGISTRY, signal.SIGSTOP)
    scene.wire.order(next(scene.orders), timeout_s=1)
    stopped.kill()
    psutil.wait_procs([stopped], timeout=10)
    return _accepts(scene)


def kill_cluster(scene: Scene) -> Recovered:
    struck_at = time.time()
    scene.service.kill_everything()
    scene.deaths.append(struck_at)
    scene.deployment.forget()
    _start(scene.service)
    return lambda: scene.wire.ready() and scene.ledger.drawn_since(struck_at)


# ---- a client asks for something else, or leaves ----


def cancel(scene: Scene) -> Recovered:
    """One that waits and one that runs."""
    running = scene.running()
    waiting = [entry for entry in scene.ledger.live() if entry not in running]
    return _ask(scene.wire.cancel, [scene.rng.choice(e) for e in (waiting, running) if e])


def retry(scene: Scene) -> Recovered:
    """One that ended on its own; with a key or without."""
    ended = [e for e in scene.ledger.ended() if e.order.motif.shape != ENDLESS]
    if not ended:
        return scene.wire.alive
    of = scene.rng.choice(ended)
    key = f"retry {len(scene.ledger.entries)}" if scene.rng.random() < 0.7 else None
    entry = scene.wire.retry(of, key)
    return lambda: not entry.open or scene.wire.send(entry)


def delete(scene: Scene) -> Recovered:
    """Two that ended, and now and then one that lives."""
    ended = scene.ledger.ended()
    chosen = scene.rng.sample(ended, min(2, len(ended)))
    if scene.rng.random() < 0.3 and (live := scene.ledger.live()):
        chosen.append(scene.rng.choice(live))
    return _ask(scene.wire.delete, chosen)


def leave_post(scene: Scene) -> Recovered:
    """Hang up at some byte of an order, and right after the last one."""
    for share in (scene.rng.random(), 0.99 * scene.rng.random(), 1, 1):
        order = next(scene.orders)
        while order.expires:  # nobody would be there to see it expire
            order = next(scene.orders)
        scene.wire.hang_up(order, share)
    return scene.wire.alive


def leave_stream(scene: Scene) -> Recovered:
    """Hang up on the events of one job, of another, and of all."""
    live = scene.ledger.live()
    for entry in [*scene.rng.sample(live, min(2, len(live))), None]:
        most = scene.rng.randrange(1, 40)
        scene.wire.listen(entry, lambda lines, most=most: lines >= most)
    return scene.wire.alive


# ---- the operator deploys ----


def redeploy(scene: Scene) -> Recovered:
    scene.deployment.begin()

    def deployed() -> bool:
        return not scene.deployment.running and scene.wire.ready()

    return deployed


# ---- how ----


def _kill(scene: Scene, pattern: str) -> str:
    """SIGKILL one process and wait until it is dead; its title."""
    victim, title = _signal(scene, pattern, signal.SIGKILL)
    psutil.wait_procs([victim], timeout=10)
    return title


def _signal(scene: Scene, pattern: str, number: signal.Signals) -> tuple[psutil.Process, str]:
    """Send it to one of the processes of such a title, as soon as there is one."""

    def strike() -> tuple[psutil.Process, str] | None:
        found = scene.service.processes(pattern)
        if not found:
            return None
        victim = scene.rng.choice(found)
        try:
            title = " ".join(victim.cmdline())
            victim.send_signal(number)
        except psutil.NoSuchProcess:
            return None
        return victim, title

    return wait_until(strike, VICTIM_WITHIN_S, pattern)


def _start(service: Service) -> None:
    """Ray gives a node 30 s to start, which on a busy machine is not always enough."""
    for _ in range(2):
        try:
            service.start()
            return
        except AssertionError:
            service.kill_everything()
    service.start()


def _accepts(scene: Scene) -> Recovered:
    entries: list[Entry] = []

    def accepted() -> bool:
        """One order, sent until it is accepted. If it has no key, each time is another order."""
        if not entries or entries[-1].key is None:
            entries.append(scene.wire.order(next(scene.orders)))
        else:
            scene.wire.send(entries[-1])
        return entries[-1].job_id is not None

    return accepted


def _ask(call: Callable[[Entry], bool], entries: list[Entry]) -> Recovered:
    """Ask now; whoever gets no answer asks again, which changes nothing."""
    unanswered = [entry for entry in entries if not call(entry)]

    def answered() -> bool:
        unanswered[:] = [entry for entry in unanswered if not call(entry)]
        return not unanswered

    return answered


FAULTS: dict[str, Strike] = {
    "ingress killed": kill_ingress,
    "task killed": kill_task,
    "renderer killed": kill_renderer,
    "registry killed": kill_registry,
    "registry stopped, then killed": stop_then_kill_registry,
    "cluster killed": kill_cluster,
    "cancel": cancel,
    "retry": retry,
    "delete": delete,
    "client gone in a POST": leave_post,
    "client gone from a stream": leave_stream,
    "redeploy": redeploy,
}
KILLS = (*tuple(FAULTS)[:5], "task killed", "registry killed", "task killed")
"""In these proportions: who comes back soonest is killed most."""
CLUSTER = "cluster killed"
OTHERS = tuple(FAULTS)[6:]
