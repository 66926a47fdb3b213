"""Attempts that another process runs: told and ended by the handful, and lost together with that process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from serve_app.cluster import checks, launcher_process
from serve_app.cluster.attempts import Attempts, Means
from serve_app.cluster.launcher import RayLauncher
from serve_app.cluster.launcher_process import LauncherActor, LauncherProcess
from serve_app.jobs.dispatcher import TaskLost
from serve_app.messages import Outcome, OutputFolder, Ticket
from tests.factories import JOB_ID, new_id, ticket

MEANS = Means(OutputFolder(path="output", id=""), 0.5)
DRAWN = Outcome(kind="drawn", reason="", images=[])


class Actor:
    """What Ray does to the calls of one actor: they reach it in turn, until its process is gone."""

    def __init__(self, moved: asyncio.Event) -> None:
        self.runs: dict[str, asyncio.Future[Outcome]] = {}
        self.calls: list[str] = []
        self.killed: list[str] = []
        self.dead = asyncio.Event()
        self._moved = moved
        self.inside = LauncherActor("assets", None)
        self.inside._attempts.run = self._run_attempt
        self.inside._attempts.kill = self._kill_attempt

    async def _run_attempt(self, ticket: Ticket, means: Means) -> Outcome:
        ends = self.runs[ticket["job_id"]] = asyncio.get_running_loop().create_future()
        self._moved.set()
        return await ends

    def _kill_attempt(self, job_id: str) -> None:
        self.killed.append(job_id)
        self.runs[job_id].set_exception(TaskLost("it was stopped"))

    def __getattr__(self, method: str) -> Actor:
        self.calls.append(method)
        return self

    def remote(self, *args: Any) -> asyncio.Task[Any]:
        return asyncio.create_task(self._call(getattr(self.inside, self.calls[-1]), *args))

    async def _call(self, method: Callable[..., Any], *args: Any) -> Any:
        """As long as the process lives."""
        answer, death = asyncio.create_task(method(*args)), asyncio.create_task(self.dead.wait())
        await asyncio.wait((answer, death), return_when=asyncio.FIRST_COMPLETED)
        death.cancel()
        if answer.done():
            return answer.result()
        answer.cancel()
        raise ActorDiedError()


class Actors(list[Actor]):
    """All that were started, in that order."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = asyncio.Event()

    def create(self) -> Actor:
        self.append(Actor(self.moved))
        return self[-1]

    async def run(self, *job_ids: str) -> None:
        """Wait until they run, wherever."""
        async with asyncio.timeout(5):
            while not {job_id for actor in self for job_id in actor.runs} >= set(job_ids):
                self.moved.clear()
                await self.moved.wait()


@pytest.fixture(name="actors")
async def _actors(monkeypatch: pytest.MonkeyPatch) -> Actors:
    monkeypatch.setattr(launcher_process.ray, "kill", lambda actor: actor.dead.set())  # pyright: ignore
    monkeypatch.setattr(checks.ray, "nodes", list)
    return Actors()


async def test_attempts_begin_and_end_by_the_handful(actors: Actors) -> None:
    process, ids = LauncherProcess(actors.create), [new_id() for _ in range(50)]
    attempts = [asyncio.create_task(process.run(ticket(job_id=i), MEANS)) for i in ids]
    await actors.run(*ids)
    assert len(process) == 50
    for job_id in ids:
        actors[0].runs[job_id].set_result(DRAWN)
    assert await asyncio.gather(*attempts) == [DRAWN] * 50
    assert len(process) == 0
    assert (len(actors), actors[0].calls.count("begin")) == (1, 1)
    assert actors[0].calls.count("ended") <= 2


async def test_a_process_that_is_gone_loses_its_attempts_and_the_next_begins_another(
    actors: Actors,
) -> None:
    process, ids = LauncherProcess(actors.create), [new_id() for _ in range(200)]
    attempts = [asyncio.create_task(process.run(ticket(job_id=i), MEANS)) for i in ids]
    await actors.run(*ids)
    actors[0].dead.set()
    assert {outcome["kind"] for outcome in await asyncio.gather(*attempts)} == {"lost"}
    again = asyncio.create_task(process.run(ticket(fence=2), MEANS))
    await actors.run(JOB_ID)
    actors[1].runs[JOB_ID].set_result(DRAWN)
    assert await again == DRAWN
    assert len(actors) == 2


async def test_an_attempt_that_is_killed(actors: Actors) -> None:
    """Before its ticket was sent, and after."""
    process = LauncherProcess(actors.create)
    unsent = asyncio.create_task(process.run(ticket(), MEANS))
    await asyncio.sleep(0)
    process.kill(JOB_ID)
    assert (await unsent)["kind"] == "lost"
    other = new_id()
    sent = asyncio.create_task(process.run(ticket(job_id=other), MEANS))
    await actors.run(other)
    process.kill(other)
    process.kill(new_id())  # of what does not run: nothing happens
    assert (await sent)["kind"] == "lost"
    assert actors[0].killed == [other]
    assert set(actors[0].runs) == {other}


async def test_a_process_that_is_not_needed_any_more_ends_with_its_last_attempt(
    actors: Actors,
) -> None:
    launcher = RayLauncher(Attempts("assets", None), "output", actors.create)
    launcher.use(1)
    launcher.serve_is("one")
    attempt = asyncio.create_task(launcher.run(ticket()))
    await actors.run(JOB_ID)
    assert actors[0].inside._attempts._session == "one"
    launcher.use(0)
    await asyncio.sleep(0)
    assert not actors[0].dead.is_set()
    actors[0].runs[JOB_ID].set_result(DRAWN)
    assert await attempt == DRAWN
    await asyncio.wait_for(actors[0].dead.wait(), 5)


async def test_each_attempt_goes_where_fewest_run(actors: Actors) -> None:
    launcher = RayLauncher(Attempts("assets", None), "output", actors.create)
    launcher.use(2)
    ids = [new_id() for _ in range(6)]
    attempts = [asyncio.create_task(launcher.run(ticket(job_id=job_id))) for job_id in ids]
    await actors.run(*ids)
    assert [len(actor.runs) for actor in actors] == [3, 3]
    for actor in actors:
        for ends in actor.runs.values():
            ends.set_result(DRAWN)
    assert await asyncio.gather(*attempts) == [DRAWN] * 6
