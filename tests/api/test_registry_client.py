"""RegistryClient: its verbs are those of the registry, and it introduces itself to each new one."""

from __future__ import annotations

import inspect

import pytest

from serve_app.api.registry_client import RegistryClient
from serve_app.cluster.registry_actor import FOR_INGRESSES
from serve_app.errors import Unavailable
from serve_app.jobs.registry import JobRegistry
from serve_app.messages import JobFilter
from tests.api.harness import LocalTransport
from tests.factories import submission


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
    assert verbs - {"readiness"} == set(FOR_INGRESSES)


async def test_every_verb_reaches_the_registry(
    registry: RegistryClient, transport: LocalTransport
) -> None:
    job = (await registry.submit(sent := submission()))["job"]
    assert job["job_id"] == sent["job_id"]
    assert (await registry.get(job["job_id"])) is not None
    assert await registry.estimate(1.0, "ann") is None
    await registry.send_previews(job["job_id"])
    page = await registry.page("ann", JobFilter(), 10, None, None)
    assert [listed["job_id"] for listed in page["jobs"]] == [job["job_id"]]
    cancelled = await registry.cancel(job["job_id"], "ann")
    assert cancelled is not None
    assert cancelled["job_id"] == job["job_id"]
    stone = await registry.delete(job["job_id"], "ann")
    assert stone is not None
    assert stone["gone"] == "deleted"
    assert (await registry.watch(0, 0, 0))["resync"]
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
