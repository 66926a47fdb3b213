"""RayLauncher: `jobs.dispatcher.Launcher` on a cluster. The registry runs attempts itself, or lets other
processes run them.

Knows where files go and what a renderer needs; how an attempt runs is in `attempts`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from serve_app.artifacts.folder import output_at
from serve_app.cluster.attempts import Attempts, Means
from serve_app.cluster.checks import SMALL_TASK_CPUS, job_task_cpus, lacking_gpus
from serve_app.cluster.launcher_process import LauncherProcess
from serve_app.messages import Outcome, OutputFolder, Ticket, WeightFiles

RAY_ASKED_EVERY_S = 2.0


class RayLauncher:
    """`attempts`: those of this process. `create_process()` starts a `LauncherActor`."""

    def __init__(
        self, attempts: Attempts, output_dir: str, create_process: Callable[[], Any]
    ) -> None:
        self.output = output_at(output_dir)  # where attempts write from now on
        self.weights = WeightFiles(matting=None, upscalers=None)  # of effects, from now on
        self._attempts, self._create_process = attempts, create_process
        self._processes: list[LauncherProcess] = []
        # By job id: who holds what was drawn for it and could not be stored.
        self._drawn: dict[str, Attempts | LauncherProcess] = {}
        self._session: str | None = None
        self._gpus: dict[str, float] = {}  # by pool: what one renderer needs
        self._reserved_cpus = 0.0
        self._lacking: dict[str, str | None] = {}
        self._task_cpus = SMALL_TASK_CPUS
        self._asked_at = float("-inf")

    def use(self, processes: int) -> None:
        """So many processes run the attempts that begin from now on. 0: this process runs them."""
        while len(self._processes) > processes:
            self._processes.pop().retire()
        while len(self._processes) < processes:
            self._processes.append(LauncherProcess(self._create_process))
            if self._session is not None:
                self._processes[-1].serve_is(self._session)

    async def run(self, ticket: Ticket) -> Outcome:
        output = self.output
        least = min(self._processes, key=len, default=self._attempts)
        self._ask_ray()
        folder = OutputFolder(path=output.path, id=output.id, weights=self.weights)
        place = self._drawn.pop(ticket["job_id"], least)
        outcome = await place.run(ticket, Means(folder, self._task_cpus))
        if outcome.get("unstored"):
            self._drawn[ticket["job_id"]] = place
        if outcome["kind"] == "drawn" and self.output is not output:
            return Outcome(kind="stopped", reason="the output folder was replaced meanwhile")
        return outcome

    def kill(self, job_id: str) -> None:
        for place in (self._attempts, *self._processes):
            place.kill(job_id)

    def forget(self, job_id: str) -> None:
        if (place := self._drawn.pop(job_id, None)) is not None:
            place.forget(job_id)

    def needs(self, gpus: Mapping[str, float], *, nodes_on_demand: bool) -> None:
        """The pools, and the GPUs that one renderer of each needs; `nodes_on_demand`: the cluster adds the
        nodes it lacks."""
        for place in (self._attempts, *self._processes):
            place.pools_are(list(gpus))
        self._gpus = {} if nodes_on_demand else dict(gpus)
        self._asked_at = float("-inf")

    def leave(self, cpus: float) -> None:
        """Job tasks leave so many logical CPUs to the replicas of the application."""
        self._reserved_cpus = cpus
        self._asked_at = float("-inf")

    def lacking(self, pool: str) -> str | None:
        self._ask_ray()
        return self._lacking.get(pool)

    def _ask_ray(self) -> None:
        now = time.monotonic()
        if now - self._asked_at > RAY_ASKED_EVERY_S:
            self._asked_at = now
            self._lacking = {pool: lacking_gpus(gpus) for pool, gpus in self._gpus.items()}
            self._task_cpus = job_task_cpus(self._reserved_cpus)

    def serve_is(self, session: str) -> None:
        """`session`: of the Serve that runs now. Attempts of another one end."""
        self._session = session
        for place in (self._attempts, *self._processes):
            place.serve_is(session)

    async def drop(self, epoch: int, fences: dict[str, int]) -> None:
        """May miss a renderer; that one learns the same from the next attempt at the job, from the next
        epoch, or when it reports."""
        await self._attempts.broadcast("drop", epoch, fences)

    async def send_previews(self, job_id: str) -> None:
        """May miss a renderer: then this attempt has no previews."""
        await self._attempts.broadcast("send_previews", job_id)
