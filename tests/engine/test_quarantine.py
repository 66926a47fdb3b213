"""A request that kills its renderer: registry and engine together find it, and the other jobs succeed.

Without Ray: `Cluster` stands for the job tasks and for Serve, and a new engine is a new replica.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serve_app.engine.engine import Engine
from serve_app.engine.model.model_runner import ModelRunner
from serve_app.engine.request import Request
from serve_app.engine.scheduler import Scheduler
from serve_app.messages import ImageFile, Outcome, Ticket
from serve_app.params import GenerationParams
from tests.engine import tiny
from tests.factories import params
from tests.jobs.harness import DIED, RELEASED, World

POISON = 666  # a seed


class Mortal(ModelRunner):
    """Waits until three jobs are admitted, and dies in a call that contains the poison."""

    def __init__(self, company: threading.Event) -> None:
        super().__init__(tiny.shared_parts())
        self.company = company

    def denoise(self, requests: Sequence[Request]) -> dict[Request, Exception]:
        assert self.company.wait(30)
        if any(request.seed == POISON for request in requests):
            raise SystemExit("killed")
        return super().denoise(requests)


class Cluster:
    """Runs each attempt on the current engine; when that dies, the next attempt finds a new one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.company = threading.Event()
        self.admitted: list[tuple[str, bool]] = []
        self.engine = self.replica()

    def replica(self) -> Engine:
        engine = Engine(Mortal(self.company), Scheduler(tiny.SharingCosts()))
        engine.start()
        return engine

    async def run(self, ticket: Ticket) -> Outcome:
        if not self.engine.healthy:
            self.engine = self.replica()
        job_id, fence = ticket["job_id"], ticket["fence"]
        images: list[ImageFile] = []
        admitted = False
        wanted = GenerationParams.model_validate(ticket["params"])
        async for event in self.engine.render(wanted, ticket):
            if event["kind"] == "admitted":
                admitted = await self.world.registry.admitted(job_id, fence)
                self.admitted.append((job_id, ticket["alone"]))
                if len(self.admitted) == 3:
                    self.company.set()
            elif event["kind"] == "image":
                images.append(self.world.files.put(job_id, fence))
            elif event["kind"] == "failed":
                return DIED if admitted else RELEASED
        return Outcome(kind="drawn", reason="", images=images)

    async def drop(self, epoch: int, fences: dict[str, int]) -> None:
        self.engine.drop(epoch, fences)


async def test_a_poisonous_job_ends_alone_and_its_mates_are_drawn(tmp_path: Path) -> None:
    """Three share a replica that dies. Each runs alone next; only the poison kills again."""
    async with World(tmp_path) as world:
        cluster: Any = Cluster(world)
        world.launcher.run, world.launcher.drop = cluster.run, cluster.drop
        jobs = [await world.submit(params(seed=seed)) for seed in (1, POISON, 2)]
        for job in jobs:
            await world.ended(job)
        views = [await world.look(job) for job in jobs]
        await cluster.engine.close()
    assert [view["status"] for view in views] == ["SUCCESS", "FAILURE", "SUCCESS"]
    assert [view["error"]["code"] for view in views if view["error"]] == ["renderer_died"]
    assert not any(alone for _, alone in cluster.admitted[:3])
    assert all(alone for _, alone in cluster.admitted[3:])
    assert [job for job, _ in cluster.admitted].count(jobs[1]) == 3
    assert [job for job, _ in cluster.admitted].count(jobs[0]) == 2
