"""RegistryClient: its verbs are those of the registry, and it introduces itself to each new one."""

from __future__ import annotations

import asyncio
import inspect
import time

import pytest
from pydantic import ValidationError

from serve_app.api.registry_client import WRITE_TIMEOUT_S, RegistryClient
from serve_app.api.submit import GRACE_S
from serve_app.cluster.registry_actor import FOR_INGRESSES
from serve_app.config import Settings
from serve_app.errors import Unavailable
from serve_app.jobs.registry import JobRegistry
from serve_app.messages import BatchRetry, JobFilter
from tests.api.harness import Hold, LocalTransport
from tests.factories import batch_submission, submission


@pytest.fixture
def registry(transport: LocalTransport) -> RegistryClient:
    return RegistryClient(transport)


@pytest.mark.parametrize("verb", FOR_INGRESSES)
def test_a_verb_has_the_parameters_of_the_registrys(verb: str) -> None:
    """By place: that is how they are sent."""
    ours, theirs = (inspect.signature(getattr(c, verb)) for c in (RegistryClient, JobRegistry))
    assert len(ours.parameters) == len(theirs.parameters)


def test_every_verb_may_be_called_on_the_actor() -> None:
    verbs = {name for name in vars(RegistryClient) if not name.startswith("_")}
    assert verbs - {"readiness", "pools"} == set(FOR_INGRESSES)


async def test_every_verb_reaches_the_registry(
    registry: RegistryClient, transport: LocalTransport
) -> None:
    job = (await registry.submit(sent := submission()))["job"]
    assert job["job_id"] == sent["job_id"]
    assert (await registry.get(job["job_id"])) is not None
    assert await registry.estimate(1.0, "ann", "tiny") is None
    assert await registry.known("ann", "a key", "a hash") is None
    assert await registry.known_batch("ann", "a key", "a hash") is None
    await registry.send_previews(job["job_id"])
    page = await registry.page("ann", JobFilter(), 10, None, None)
    assert [listed["job_id"] for listed in page["jobs"]] == [job["job_id"]]
    changed = (await registry.change(job["job_id"], "ann", {"tags": ["a"]}))["job"]
    assert changed is not None
    assert "labels" in changed
    assert changed["labels"]["tags"] == ["a"]
    cancelled = await registry.cancel(job["job_id"], "ann")
    assert cancelled is not None
    assert cancelled["job_id"] == job["job_id"]
    stone = await registry.delete(job["job_id"], "ann")
    assert stone is not None
    assert stone["gone"] == "deleted"
    assert (await registry.watch(0, 0, 0))["resync"]
    assert (await registry.changes("ann", 0, 0))["resync"]
    batch = (await registry.submit_batch(order := batch_submission()))["batch"]
    batch_id, keys = batch["batch_id"], [row["key"] for row in order["rows"]]
    assert (await registry.batch(batch_id, "ann")) == batch
    assert (await registry.batches("ann", {}, 10, None, None))["batches"] == [batch]
    assert (await registry.plan_batch("ann", "potions", keys, {"tiny": (3, 1.0)}))[
        "reused_rows"
    ] == [(1, 3)]
    assert len(await registry.batch_rows(batch_id, "ann", 0, 10)) == 3
    ended = await registry.cancel_batch(batch_id, "ann")
    assert ended is not None
    assert len(await registry.batch_rows(batch_id, "ann", 0, 10, lost=True)) == 3
    again = BatchRetry(batch_id=batch_id, owner="ann", rows=[], deadline=time.time() + 60)
    assert "batch" in await registry.retry_batch(again)
    tried = await registry.test_webhook("ann", "https://build.example/hook")
    listed = (await registry.deliveries("ann", {}, 10, None))["deliveries"]
    assert [delivery["id"] for delivery in listed] == [tried["id"]]
    assert await registry.redeliver(tried["id"], "bob") is None
    assert (await registry.usage("bob"))["waiting_jobs"] == 0
    assert set(transport.calls) == set(FOR_INGRESSES)


async def test_each_new_registry_is_told_the_settings(
    registry: RegistryClient, transport: LocalTransport
) -> None:
    """One that was restarted has those of its creation."""
    for _ in range(2):
        await registry.watch(0, 0, 0)
    first = transport.world.registry.epoch
    assert transport.introduced == [first]
    await transport.restart()
    for _ in range(2):
        await registry.watch(0, 0, 0)
    assert transport.introduced == [first, first + 1]


async def test_a_registry_that_could_not_be_told_is_told_again(
    registry: RegistryClient, transport: LocalTransport
) -> None:
    transport.failures["introduce"] = Unavailable()
    with pytest.raises(Unavailable):
        await registry.watch(0, 0, 0)
    transport.failures.clear()
    await registry.watch(0, 0, 0)
    assert transport.introduced == [transport.world.registry.epoch]


async def test_no_verb_hides_that_nobody_answers(
    registry: RegistryClient, transport: LocalTransport
) -> None:
    transport.down = True
    with pytest.raises(Unavailable):
        await registry.submit(submission())
    with pytest.raises(Unavailable):
        await registry.watch(0, 0, 0)
    assert await registry.readiness() is not None


# ---- clocks ----


class Wall:
    """`time` of an ingress whose clock is wrong by so many seconds."""

    def __init__(self, wrong_by: float) -> None:
        self.wrong_by = wrong_by

    def time(self) -> float:
        return time.time() + self.wrong_by


@pytest.mark.parametrize("wrong_by", [-12.0, 12.0, 0.0])
async def test_an_ingress_whose_clock_is_wrong_is_understood(
    registry: RegistryClient,
    transport: LocalTransport,
    monkeypatch: pytest.MonkeyPatch,
    wrong_by: float,
) -> None:
    """What it takes for ten seconds is ten seconds for the registry, and what is over is over."""
    monkeypatch.setattr("serve_app.api.registry_client.time", wall := Wall(wrong_by))
    await registry.watch(0, 0, 0)
    assert "job" in await registry.submit(submission(deadline=wall.time() + 5))
    late = await registry.submit(submission(deadline=wall.time() - 5))
    assert late.get("error", {}).get("code") == "too_late"


async def test_a_slow_answer_puts_no_clock_wrong(
    registry: RegistryClient, transport: LocalTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was on its way for a minute; both clocks are right."""
    monkeypatch.setattr("serve_app.api.registry_client.time", wall := Wall(0.0))
    transport.answered["watch"] = hold = Hold()
    watching = asyncio.create_task(registry.watch(0, 0, 0))
    await hold.reached.wait()
    wall.wrong_by = 60.0  # as if so much time had gone by, here
    hold.released.set()
    await watching
    assert registry._ahead == 0.0


def test_a_submit_is_given_up_only_after_the_call_for_it_could_end() -> None:
    """Otherwise a job could be taken of which the client hears 503."""
    longest = Settings(submit_timeout_s=14).submit_timeout_s
    assert longest + GRACE_S <= WRITE_TIMEOUT_S
    with pytest.raises(ValidationError, match="submit_timeout_s"):
        Settings(submit_timeout_s=14.1)
