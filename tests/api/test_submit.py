"""submit: a client that hangs up, and a registry that does not answer."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import httpx
import pytest

from serve_app.api import submit as module
from serve_app.api.registry_client import RegistryClient
from serve_app.errors import Unavailable
from serve_app.messages import Submission, SubmitReply
from tests.api.harness import (
    ORDER,
    Hold,
    LocalTransport,
    assert_problem,
    make_app,
    serving,
)
from tests.factories import submission


@pytest.fixture
def held(transport: LocalTransport) -> Hold:
    """Where submits wait on their way to the registry."""
    transport.sent["submit"] = hold = Hold()
    return hold


async def test_a_hang_up_does_not_reach_the_registry(
    client: httpx.AsyncClient, transport: LocalTransport, held: Hold
) -> None:
    """The order of a client that left is neither lost nor doubled."""
    post = asyncio.create_task(client.post("/v1/generate", json=ORDER))
    await held.reached.wait()
    post.cancel()
    await asyncio.wait([post])
    assert post.cancelled()
    held.released.set()
    await asyncio.wait(module._running)
    assert len((await client.get("/v1/jobs")).json()["results"]) == 1
    assert not module._running


async def test_a_registry_that_does_not_answer_is_503(
    transport: LocalTransport, held: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And when the submit arrives later, it is refused: the 503 leaves no ghost job."""
    monkeypatch.setattr(module, "GRACE_S", 0.0)
    async with serving(make_app(transport, submit_timeout_s=0.01)) as client:
        response = await client.post("/v1/generate", json=ORDER)
        body = assert_problem(response, 503, "unavailable")
        assert "Idempotency-Key" in body["detail"]
        (late,) = module._running
        held.released.set()
        assert (await late)["error"]["code"] == "too_late"
        assert (await client.get("/v1/jobs")).json()["results"] == []


async def test_a_submit_that_is_too_late_is_503(transport: LocalTransport) -> None:
    """The registry says when to come back."""
    async with serving(make_app(transport, submit_timeout_s=1e-9)) as client:
        response = await client.post("/v1/generate", json=ORDER)
    assert_problem(response, 503, "too_late")
    assert response.headers["retry-after"] == "1"


REQUEST = ContextVar("REQUEST", default="none")


class Noting(RegistryClient):
    """Notes to which request its submits belong."""

    requests: tuple[str, ...] = ()

    async def submit(self, submission: Submission) -> SubmitReply:
        self.requests += (REQUEST.get(),)
        return await super().submit(submission)


async def test_a_submit_belongs_to_no_request(transport: LocalTransport) -> None:
    """Serve finds the tasks of a request by their context, and cancels them when the client hangs up."""
    registry = Noting(transport)
    REQUEST.set("of a client")
    await module.submit(registry, submission(), 10.0)
    assert registry.requests == ("none",)


async def test_what_the_transport_raises_is_raised(transport: LocalTransport) -> None:
    transport.down = True
    with pytest.raises(Unavailable):
        await module.submit(RegistryClient(transport), submission(), 1.0)
    assert not module._running
