"""Client: what it sends, how patient it is, and what it makes of the answers. Against the real app."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from serve_app.client import Client, Damaged, Job, NotDone, Rejected, ServerAway
from serve_app.messages import JobView
from tests.api.harness import MODEL, PIXELS, UNKNOWN_ID, MemoryRegistry, make_app, refusal, store


class InProcess(httpx.BaseTransport):
    """The app behind a blocking client; `fail` is raised once, after the app has worked."""

    def __init__(self, registry: MemoryRegistry, root: Path) -> None:
        self._runner = asyncio.Runner()
        self._asgi = httpx.ASGITransport(make_app(registry, root))
        self.requests: list[httpx.Request] = []
        self.fail: list[httpx.TransportError] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def answer() -> httpx.Response:
            request.read()
            response = await self._asgi.handle_async_request(request)
            content = await response.aread()
            return httpx.Response(response.status_code, headers=response.headers, content=content)

        self.requests.append(request)
        response = self._runner.run(answer())
        if self.fail:
            raise self.fail.pop()
        return response

    def close(self) -> None:
        self._runner.close()


class World:
    """A server, a client, and what happens while the client pauses."""

    def __init__(self, root: Path) -> None:
        self.registry = MemoryRegistry()
        self.transport = InProcess(self.registry, root)
        self.output = root / "output"
        self.pauses: list[float] = []
        self.meanwhile: list[Callable[[], object]] = []
        self.client = Client("http://localhost", transport=self.transport, pause=self._pause)

    def finish(self, job: Job, data: bytes = PIXELS) -> JobView:
        store(self.output, job.job_id, data)
        return self.registry.finish(job.job_id)

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        assert len(self.pauses) < 20, "waits for ever"
        if self.meanwhile:
            self.meanwhile.pop(0)()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    with world.client:
        yield world


def test_an_order_becomes_a_job(world: World) -> None:
    """What is None stays the server's choice."""
    job = world.client.generate("a sword", style_id="icon", seed=3, n=2, steps=None)
    params = world.registry.jobs[job.job_id]["params"]
    assert (job.status, job.done) == ("PENDING", False)
    assert (params["subject"], params["seed"], params["n"], params["steps"]) == ("a sword", 3, 2, 6)


def test_wait_follows_the_job_to_its_end(world: World) -> None:
    """It pauses as long as the server says, and shows each change once."""
    job = world.client.generate("a sword", style_id="icon")
    running = {"value": 0.5, "stage": "denoising"}
    change = world.registry.change
    world.meanwhile = [
        lambda: change(job.job_id, status="STARTED", started_at=time.time(), progress=running),
        lambda: None,
        lambda: world.finish(job),
    ]
    seen: list[tuple[str, float]] = []
    done = world.client.wait(job.job_id, on_progress=lambda j: seen.append((j.status, j.progress)))
    assert done.status == "SUCCESS"
    assert seen == [("PENDING", 0.0), ("STARTED", 0.5), ("SUCCESS", 1.0)]
    assert world.pauses == [1.0, 1.0, 1.0]


def test_wait_gives_up_in_time(world: World) -> None:
    job = world.client.generate("a sword", style_id="icon")
    with pytest.raises(NotDone) as raised:
        world.client.wait(job.job_id, timeout_s=0.5)
    assert raised.value.job is not None
    assert raised.value.job.status == "PENDING"
    assert world.pauses == []


def test_a_failed_job_is_returned_with_its_reason(world: World) -> None:
    job = world.client.generate("a sword", style_id="icon")
    world.registry.change(job.job_id, status="FAILURE", error=refusal("x").get("error"))
    done = world.client.wait(job.job_id)
    assert (done.status, done.error) == ("FAILURE", "Refused: Not now.")


def test_download_checks_what_arrived(world: World, tmp_path: Path) -> None:
    job = world.client.generate("a sword", style_id="icon")
    world.finish(job)
    (path,) = world.client.download(world.client.job(job.job_id), tmp_path / "mine")
    assert path.read_bytes() == PIXELS
    assert path.name == f"icon_7_{job.job_id}_0_1.png"
    assert list((tmp_path / "mine").iterdir()) == [path]


def test_a_damaged_file_is_not_kept(world: World, tmp_path: Path) -> None:
    job = world.client.generate("a sword", style_id="icon")
    world.finish(job, data=b"pix")
    with pytest.raises(Damaged):
        world.client.download(world.client.job(job.job_id), tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("code", ["queue_full", "draining"])
def test_a_busy_server_is_asked_again_when_it_said(world: World, code: str) -> None:
    world.registry.refuse = refusal(code, retry_after=7)
    world.meanwhile = [lambda: setattr(world.registry, "refuse", None)]
    assert world.client.generate("a sword", style_id="icon").status == "PENDING"
    assert world.pauses == [7.0]


def test_patience_ends(world: World) -> None:
    world.registry.refuse = refusal("queue_full", retry_after=600)
    with pytest.raises(Rejected) as raised:
        world.client.generate("a sword", style_id="icon")
    assert (raised.value.status, raised.value.code) == (429, "queue_full")
    assert world.pauses == []


def test_an_order_whose_answer_was_lost_is_not_doubled(world: World) -> None:
    """The server had taken it: the same key finds the same job."""
    world.transport.fail = [httpx.ReadError("reset")]
    job = world.client.generate("a sword", style_id="icon")
    sent = [request.headers["idempotency-key"] for request in world.transport.requests]
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert list(world.registry.jobs) == [job.job_id]


def test_two_orders_have_two_keys(world: World) -> None:
    first, second = (world.client.generate("a sword", style_id="icon") for _ in range(2))
    assert first.job_id != second.job_id


def test_waiting_outlives_a_restart(world: World) -> None:
    job = world.client.generate("a sword", style_id="icon")
    world.finish(job)
    world.transport.fail = [httpx.ConnectError("refused"), httpx.ReadError("reset")]
    assert world.client.wait(job.job_id).done
    assert len(world.pauses) == 2


def test_a_rejection_names_fields_and_what_is_allowed(world: World) -> None:
    with pytest.raises(Rejected) as raised:
        world.client.generate("a sword", style_id="nope")
    assert str(raised.value) == "style_id: no such style (allowed: icon, none, portrait)"
    assert raised.value.errors[0]["field"] == "style_id"


def test_an_unknown_job_is_a_rejection(world: World) -> None:
    with pytest.raises(Rejected, match="no job of this id"):
        world.client.job(UNKNOWN_ID)


@pytest.mark.parametrize("server", ["http://127.0.0.1:9", "nonsense", "http://[", "ftp://x"])
def test_an_address_where_nothing_is(server: str) -> None:
    """Said at once, not after a minute of patience."""
    pauses: list[float] = []
    with pytest.raises(ServerAway), Client(server, pause=pauses.append) as client:
        client.generate("a sword", style_id="icon")
    assert pauses == []


def test_the_catalog_and_readiness(world: World) -> None:
    assert [style["style_id"] for style in world.client.styles()] == ["none", "icon", "portrait"]
    assert world.client.models()[0]["name"] == MODEL.name
    assert world.client.ready()
    world.registry.reason = "no renderer"
    assert not world.client.ready()
