"""The faults. Each strikes once, and returns a condition that is true when the service has recovered.

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
from tests.redis_server import RedisServer

from .notebook import Notebook
from .orders import ENDLESS, PlannedOrder
from .receipt import Receipt
from .redeploy import BackgroundRedeploy
from .wire import Wire, final

INGRESS = "^ray::ServeReplica:assets:Ingress"
RENDERER = "^ray::ServeReplica:assets:Renderer"
REGISTRY = r"^ray::Registry\b"
LAUNCHER = r"^ray::JobLauncher\b"
TASK = "^ray::job:([0-9a-f-]{36}).*"

VICTIM_WITHIN_S = 90
"""A fault that strikes during recovery may have to wait until the process it kills has started."""


@dataclass
class Scene:
    """What the faults act on."""

    service: Service
    notebook: Notebook
    wire: Wire
    orders: Iterator[PlannedOrder]
    rng: Random
    redeploy: BackgroundRedeploy
    deaths: list[float] = field(default_factory=list[float])  # of renderers; unix seconds

    def running(self) -> list[Receipt]:
        return [receipt for receipt in self.notebook.live() if receipt.status == "STARTED"]


Recovered = Callable[[], object]
Fault = Callable[[Scene], Recovered]


# ---- a process dies ----


def kill_ingress(scene: Scene) -> Recovered:
    _kill(scene, INGRESS)
    return scene.wire.alive


def kill_task(scene: Scene) -> Recovered:
    """Recovered when the job has another task, or has ended. (It may be drawn much later: jobs that a dead
    renderer left come first, one at a time.)"""
    job_id = re.sub(TASK, r"\1", _kill(scene, TASK))

    def taken_up() -> bool:
        return bool(scene.service.processes(f"^ray::job:{job_id}")) or final(
            scene.wire.look(job_id)
        )

    return taken_up


def kill_renderer(scene: Scene) -> Recovered:
    """Recovered when a new renderer has admitted a job."""
    struck_at = time.time()
    _kill(scene, RENDERER)
    scene.deaths.append(struck_at)
    return lambda: scene.notebook.drawn_since(struck_at)


def kill_registry(scene: Scene) -> Recovered:
    """Recovered when an order is accepted: the old registry is dead, so the new one accepted it."""
    _kill(scene, REGISTRY)
    return _accepts(scene)


def kill_launcher(scene: Scene) -> Recovered:
    """With all attempts that it has begun. Recovered when a job is drawn that another one launched."""
    struck_at = time.time()
    _kill(scene, LAUNCHER)
    return lambda: scene.notebook.drawn_since(struck_at)


def stop_then_kill_registry(scene: Scene) -> Recovered:
    """An order reaches a registry that does not answer until the client gives up, and then dies."""
    stopped, _ = _signal(scene, REGISTRY, signal.SIGSTOP)
    scene.wire.order(next(scene.orders), timeout_s=1)
    stopped.kill()
    psutil.wait_procs([stopped], timeout=10)
    return _accepts(scene)


def redis_killed(server: RedisServer) -> Fault:
    """With whatever it was told and had not confirmed. It is started at once. Recovered when an order is
    accepted."""

    def kill_redis(scene: Scene) -> Recovered:
        server.kill()
        server.start()
        return _accepts(scene)

    return kill_redis


def kill_cluster(scene: Scene) -> Recovered:
    struck_at = time.time()
    scene.service.kill_everything()
    scene.deaths.append(struck_at)
    scene.redeploy.forget()
    _start(scene.service)
    return lambda: scene.wire.ready() and scene.notebook.drawn_since(struck_at)


# ---- a client asks for something else, or leaves ----


def cancel(scene: Scene) -> Recovered:
    """Of a job that waits, and of one that runs."""
    running = scene.running()
    waiting = [receipt for receipt in scene.notebook.live() if receipt not in running]
    return _ask(scene.wire.cancel, [scene.rng.choice(some) for some in (waiting, running) if some])


def retry(scene: Scene) -> Recovered:
    """Of a job that ended by itself; with a key or without."""
    ended = [r for r in scene.notebook.ended() if r.order.motif.shape != ENDLESS]
    if not ended:
        return scene.wire.alive
    of = scene.rng.choice(ended)
    key = f"retry {len(scene.notebook.receipts)}" if scene.rng.random() < 0.7 else None
    receipt = scene.wire.retry(of, key)
    return lambda: not receipt.unsettled or scene.wire.send(receipt)


def delete(scene: Scene) -> Recovered:
    """Of two jobs that ended, and sometimes of one that lives."""
    ended = scene.notebook.ended()
    chosen = scene.rng.sample(ended, min(2, len(ended)))
    if scene.rng.random() < 0.3 and (live := scene.notebook.live()):
        chosen.append(scene.rng.choice(live))
    return _ask(scene.wire.delete, chosen)


def leave_post(scene: Scene) -> Recovered:
    """Hang up at some byte of an order, and right after the last one."""
    for share in (scene.rng.random(), 0.99 * scene.rng.random(), 1, 1):
        order = next(scene.orders)
        while order.expires:  # the client who waits for its deadline is gone
            order = next(scene.orders)
        scene.wire.hang_up(order, share)
    return scene.wire.alive


def leave_stream(scene: Scene) -> Recovered:
    """Hang up on the events of one job, of another, and of all."""
    live = scene.notebook.live()
    for receipt in [*scene.rng.sample(live, min(2, len(live))), None]:
        most = scene.rng.randrange(1, 40)
        scene.wire.listen(receipt, lambda lines, most=most: lines >= most)
    return scene.wire.alive


# ---- the operator deploys ----


def redeploy(scene: Scene) -> Recovered:
    scene.redeploy.begin()

    def deployed() -> bool:
        return not scene.redeploy.running and scene.wire.ready()

    return deployed


# ---- how ----


def _kill(scene: Scene, pattern: str) -> str:
    """SIGKILL one process and wait until it is dead. Returns its title."""
    victim, title = _signal(scene, pattern, signal.SIGKILL)
    psutil.wait_procs([victim], timeout=10)
    return title


def _signal(scene: Scene, pattern: str, number: signal.Signals) -> tuple[psutil.Process, str]:
    """Send a signal to one of the processes whose title matches, as soon as there is one. Returns the
    process and its title."""

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
    receipts: list[Receipt] = []

    def accepted() -> bool:
        """Send an order until one is accepted: the same again if it has a key, otherwise another."""
        if not receipts or receipts[-1].key is None:
            receipts.append(scene.wire.order(next(scene.orders)))
        else:
            scene.wire.send(receipts[-1])
        return receipts[-1].job_id is not None

    return accepted


def _ask(call: Callable[[Receipt], bool], receipts: list[Receipt]) -> Recovered:
    """Ask now, and again whoever got no answer: asking twice changes nothing."""
    unanswered = [receipt for receipt in receipts if not call(receipt)]

    def answered() -> bool:
        unanswered[:] = [receipt for receipt in unanswered if not call(receipt)]
        return not unanswered

    return answered


REDIS_KILLED = "Redis killed"
CLUSTER_KILLED = "cluster killed"
KILL_ONE: dict[str, Fault] = {
    "ingress killed": kill_ingress,
    "task killed": kill_task,
    "renderer killed": kill_renderer,
    "registry killed": kill_registry,
    "launcher killed": kill_launcher,
    "registry stopped, then killed": stop_then_kill_registry,
}
KILL_NOTHING: dict[str, Fault] = {
    "cancel": cancel,
    "retry": retry,
    "delete": delete,
    "client gone in a POST": leave_post,
    "client gone from a stream": leave_stream,
    "redeploy": redeploy,
}
FAULTS: dict[str, Fault] = {**KILL_ONE, CLUSTER_KILLED: kill_cluster, **KILL_NOTHING}

KILLS = (*KILL_ONE, "task killed", "registry killed", "task killed")
"""In these proportions: the processes that come back soonest are killed most."""
OTHERS = tuple(KILL_NOTHING)
