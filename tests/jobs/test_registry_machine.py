"""The registry attacked: any order of calls either raises or does what was asked, and nothing leaks."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from serve_app.jobs.job import MOVES
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import JobChanges, Outcome
from tests.factories import labels, submission

from .harness import DIED, ERROR, RELEASED, STOPPED, Moves, World, nothing_lives


@pytest.fixture(autouse=True)
def _nobody_waits_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was lost five times in a row waits 15 s, of which an example may hold several."""
    monkeypatch.setattr("serve_app.jobs.pauses.LONGEST_BACKOFF_S", 0.01)


class RegistryMachine(RuleBasedStateMachine):
    """Rules play clients, tasks, replicas and SIGKILL; invariants hold after each."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = Path(tempfile.mkdtemp())
        self.moves = Moves()
        limits = {"max_in_flight": 3, "cached_jobs": 4}
        self.world = World(self.directory, limits, moves=self.moves, opens=self.opens())
        self.wait(self.world.rise())
        self.accepted: list[str] = []
        self.ended: dict[str, tuple[str, list[str]]] = {}  # what the outside was told once
        self.deleted: set[str] = set()
        self.said: dict[str, dict[str, Any]] = {}  # labels that a client was told to be so

    def opens(self) -> Callable[[], SqliteStore] | None:
        """The store; None: SQLite in the directory."""
        return None

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def runs(self, job: str, fence: int) -> bool:
        """The attempt is driven for certain. (One may be committed and not launched yet.)"""
        runs = (job, fence) in self.world.launcher.running
        return runs and job not in self.ended and job not in self.deleted

    def some_attempt(self, which: int) -> tuple[str, int] | None:
        """One of the attempts that run."""
        running = sorted(self.world.launcher.running)
        return running[which % len(running)] if running else None

    def newest_fence(self, job: str) -> int:
        return self.wait(self.world.look(job))["fence"]

    def published(self, job: str) -> list[str]:
        """Paths of the files of a job that has ended and is not deleted."""
        return [] if job in self.deleted else self.ended.get(job, ("", []))[1]

    def revoked(self, job: str) -> None:
        self.ended.setdefault(job, ("REVOKED", []))

    def settle_down(self) -> None:
        """Let the registry act on what the rule did."""
        registry = self.world.registry

        async def quiet() -> None:
            before = -1
            while before != (
                before := registry.stats()["changes"] + len(self.world.launcher.drops)
            ):
                await registry._store.last_number()
                await registry.watch(registry.epoch, 0, 0)

        self.wait(quiet())

    @initialize(target=jobs)
    def some_jobs_run(self) -> MultipleResults[Any]:
        """So that no example is about nothing."""
        found = [self.submit(None, body, "p", "normal") for body in ("x", "y")]
        self.settle_down()
        return multiple(*found)

    @rule(
        target=jobs,
        key=st.sampled_from([None, "a", "b"]),
        body=st.sampled_from(["x", "y"]),
        client=st.sampled_from(["p", "q"]),
        priority=st.sampled_from(["low", "normal", "high"]),
        settle=st.booleans(),
    )
    def submit(
        self, key: str | None, body: str, client: str, priority: str, settle: bool = False
    ) -> str:
        order = submission(
            labelled=labels(client=client, priority=priority),
            idempotency_key=key,
            body_hash=body,
            cancel_after_s=3600 if body == "y" else None,
        )
        reply = self.wait(self.world.registry.submit(order))
        if "error" in reply:
            assert reply["error"]["code"] == "idempotency_key_reuse"
            assert key is not None
            return order["job_id"]
        job_id = reply["job"]["job_id"]
        if not reply["replayed"]:
            self.accepted.append(job_id)
        if settle:
            self.settle_down()
        return job_id

    @rule(which=st.integers(0, 9))
    def a_task_that_runs_says_admitted(self, which: int) -> None:
        if attempt := self.some_attempt(which):
            self.a_task_says_admitted(*attempt)

    @rule(job=jobs, fence=st.integers(0, 4))
    def a_task_says_admitted(self, job: str, fence: int) -> None:
        runs = self.runs(job, fence)
        admitted = self.wait(self.world.registry.admitted(job, fence))
        assert admitted or not runs
        assert not admitted or self.newest_fence(job) == fence

    @rule(job=jobs, fence=st.integers(0, 4), step=st.integers(0, 9))
    def a_task_reports_progress(self, job: str, fence: int, step: int) -> None:
        self.wait(self.world.progress(job, fence, {"step": step}))

    @rule(which=st.integers(0, 9), success=st.booleans())
    def a_task_that_runs_ends_its_job(self, which: int, success: bool) -> None:
        if attempt := self.some_attempt(which):
            self.a_task_ends_the_job(*attempt, success)

    @rule(job=jobs, fence=st.integers(1, 4), success=st.booleans())
    def a_task_ends_the_job(self, job: str, fence: int, success: bool) -> None:
        runs = self.runs(job, fence)
        image = self.world.files.put(job, fence) if success else None
        if image is not None:
            done = self.wait(self.world.finish(job, fence, [image]))
        else:
            done = self.wait(self.world.fail(job, fence, ERROR))
        assert done or not runs
        if done:
            assert self.newest_fence(job) == fence
            end = ("SUCCESS", [image["path"]]) if image else ("FAILURE", [])
            assert self.ended.setdefault(job, end) == end
        elif image is not None and image["path"] not in self.published(job):
            self.world.files.remove([image["path"]])  # as a superseded attempt does

    @rule(outcome=st.sampled_from([RELEASED, DIED, STOPPED, None]), which=st.integers(0, 9))
    def an_attempt_comes_to_its_end(self, outcome: Outcome | None, which: int) -> None:
        if attempt := self.some_attempt(which):
            self.world.launcher.end(*attempt, outcome)
            self.settle_down()

    @rule(job=jobs, owner=st.sampled_from(["ann", "ann", "bob"]), times=st.integers(1, 2))
    def a_client_cancels(self, job: str, owner: str, times: int) -> None:
        async def cancel() -> list[Any]:
            calls = (self.world.registry.cancel(job, owner) for _ in range(times))
            return await asyncio.gather(*calls)

        for found in self.wait(cancel()):
            if job not in self.accepted or owner == "bob":
                assert found is None
            elif job in self.deleted:
                assert found["gone"] == "deleted"
            else:
                if found["status"] == "REVOKED":
                    self.revoked(job)
                assert found["status"] in ("REVOKED", "SUCCESS", "FAILURE")
        self.settle_down()

    @rule(job=jobs, owner=st.sampled_from(["ann", "ann", "bob"]))
    def a_client_deletes(self, job: str, owner: str) -> None:
        found = self.wait(self.world.registry.delete(job, owner))
        if job in self.accepted and owner == "ann":
            assert found == {"job_id": job, "owner": "ann", "gone": "deleted"}
            self.deleted.add(job)
        else:
            assert found is None
        self.settle_down()

    @rule(
        job=jobs,
        owner=st.sampled_from(["ann", "ann", "bob"]),
        priority=st.sampled_from([None, None, "low", "high"]),
        tag=st.sampled_from("abc"),
    )
    def a_client_changes_it(self, job: str, owner: str, priority: str | None, tag: str) -> None:
        """Whatever else happens to it meanwhile."""
        changes = JobChanges(tags=[tag], marks={tag: {"starred": True}})
        if priority is not None:
            changes["priority"] = priority
        reply = self.wait(self.world.registry.change(job, owner, changes))
        found = reply["job"]
        if job not in self.accepted or owner == "bob":
            assert found is None
        elif job in self.deleted:
            assert found["gone"] == "deleted"
        elif reply["begun"]:
            assert priority is not None
        else:
            assert found["labels"]["tags"] == [tag]
            assert tag in found["labels"]["marks"]
            assert priority in (None, found["labels"]["priority"])
            self.said[job] = found["labels"]

    @invariant()
    def what_a_client_said_of_a_job_stays(self) -> None:
        for job_id, said in self.said.items():
            if job_id not in self.deleted:
                assert self.wait(self.world.look(job_id))["labels"] == said

    @rule(job=jobs)
    def a_deadline_passes(self, job: str) -> None:
        deadlines = self.world.registry._deadlines
        if job not in deadlines._timers:
            return

        async def pass_by() -> None:
            deadlines.set(job, 0)
            await self.world.becomes(job, "REVOKED")

        self.wait(pass_by())
        assert job not in self.ended
        view = self.wait(self.world.registry.get(job))
        assert view["error"]["code"] == "deadline_exceeded"
        self.revoked(job)
        self.settle_down()

    @rule(job=jobs)
    def a_client_watches_how_it_is_drawn(self, job: str) -> None:
        self.wait(self.world.registry.send_previews(job))

    @rule(job=jobs, fence=st.integers(0, 4))
    def a_task_sends_a_preview(self, job: str, fence: int) -> None:
        runs = self.runs(job, fence)
        self.wait(self.world.preview(job, fence, 0, b"jpeg"))
        if runs:
            preview = self.wait(self.world.look(job))["preview"]
            assert preview
            assert preview["data"] == b"jpeg"

    @rule(limit=st.integers(1, 4))
    def a_client_walks_the_list(self, limit: int) -> None:
        """Newest first, each once, without the deleted ones."""

        async def walk() -> list[str]:
            found: list[str] = []
            before = None
            while True:
                page = await self.world.registry.page("ann", {}, limit, before, None)
                found += [job["job_id"] for job in page["jobs"]]
                if (before := page["older"]) is None:
                    return found

        expected = [job for job in reversed(self.accepted) if job not in self.deleted]
        assert self.wait(walk()) == expected

    @rule(job=consumes(jobs))
    def a_client_asks_for_an_unknown_job(self, job: str) -> None:
        assert self.wait(self.world.registry.get(job + "0")) is None

    @rule()
    def everything_is_killed_and_started_again(self) -> None:
        self.wait(self.world.die_and_rise())

    @rule()
    def a_pause_is_over(self) -> None:
        self.world.registry.resume()
        self.settle_down()

    @invariant()
    def every_accepted_job_is_known_and_an_end_is_final(self) -> None:
        for job_id in self.accepted:
            view = self.wait(self.world.registry.get(job_id))
            assert view is not None
            if job_id in self.deleted:
                assert view == {"job_id": job_id, "owner": "ann", "gone": "deleted"}
            elif job_id in self.ended:
                status, paths = self.ended[job_id]
                assert (view["status"], [i["path"] for i in view["images"]]) == (status, paths)
            elif view["status"] == "FAILURE":
                assert view["attempts"] >= 3
                self.ended[job_id] = ("FAILURE", [])
            else:
                assert view["status"] in ("PENDING", "STARTED", "RETRY")

    @invariant()
    def no_status_changes_but_as_the_table_says(self) -> None:
        assert all(new in MOVES[old] for old, new in self.moves.seen), self.moves.seen

    @invariant()
    def no_job_runs_twice_and_no_more_than_allowed(self) -> None:
        running = [job_id for job_id, _ in self.world.launcher.running]
        assert len(running) == len(set(running)) <= 3

    def teardown(self) -> None:
        """Let all that is left end: then nothing is held, and published files are the only ones."""
        self.wait(self.finish_everything())
        views = [
            self.wait(self.world.registry.get(job_id))
            for job_id in self.accepted
            if job_id not in self.deleted
        ]
        assert {view["status"] for view in views} <= {"SUCCESS", "FAILURE", "REVOKED"}
        published = {image["path"] for view in views for image in view["images"]}
        assert nothing_lives(self.world)
        self.wait(self.world.until(lambda: set(self.world.files.names()) == published))
        self.no_status_changes_but_as_the_table_says()
        self.wait(self.world.die())
        self.loop.close()
        shutil.rmtree(self.directory)

    async def finish_everything(self) -> None:
        registry, launcher = self.world.registry, self.world.launcher
        async with asyncio.timeout(30):
            while registry.stats()["live"] or launcher.running:
                registry.resume()
                for job_id, fence in sorted(launcher.running):
                    if await registry.admitted(job_id, fence):
                        image = self.world.files.put(job_id, fence)
                        assert await self.world.finish(job_id, fence, [image])
                    else:
                        launcher.end(job_id, fence, STOPPED)
                await registry.watch(registry.epoch, 0, 0)
                await registry._store.last_number()


RegistryMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestRegistry = RegistryMachine.TestCase
