"""What the HTTP tests stand on: the real app on the real registry of a World, one model, three styles.

What fails, fails in the transport between the two, or because the registry was really restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import inspect
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

from serve_app.api.asgi import create_app
from serve_app.api.keys import add_key
from serve_app.api.registry_client import RegistryClient
from serve_app.api.service import JobService
from serve_app.catalog.models import Models
from serve_app.catalog.styles import Style, StyleDefaults, Styles
from serve_app.config import Settings
from serve_app.errors import Unavailable
from serve_app.messages import PoolState
from serve_app.starter.captions import Concept
from serve_app.starter.vocabulary import Vocabulary
from tests.factories import model_spec
from tests.jobs.harness import World
from tests.serving import WAIT_S, served

MODEL = model_spec(title="Tiny", max_steps=50, sizes=[(64, 64), (64, 128)])
OTHER = MODEL.model_copy(update={"name": "other", "title": "Other"})
MODELS = Models({"tiny": MODEL, "other": OTHER}, "tiny")
ICON = Style(
    id="icon",
    title="Icon",
    template="{prompt}, game icon",
    negative_prompt="blurry",
    defaults=StyleDefaults(steps=6),
)
PORTRAIT = Style(id="portrait", template="{prompt}, portrait", only=["other"])
SWORDS = Vocabulary(
    (
        Concept(("dagger", "sword")),
        Concept(("crossed swords",)),
        Concept(("mushroom", "toadstool")),
    ),
    frozenset({"icy"}),
    {"katana": 0},
)
STYLES = Styles({style.id: style for style in (ICON, PORTRAIT)})

ORDER: dict[str, Any] = {"prompt": "a red potion", "style_id": "icon"}
JOB_ROUTES = [
    ("POST", "/cancel"),
    ("POST", "/retry"),
    ("POST", "/reproduce"),
    ("DELETE", ""),
    ("GET", ""),
    ("GET", "/events"),
]
"""Method and rest of the path below /v1/jobs/{job_id}."""
STEP = {"value": 0.5, "step": 3, "steps": 6, "image": 0, "images": 1, "stage": "denoising"}
T = TypeVar("T")


class Hold:
    """A place where a call waits until the test lets it go on."""

    def __init__(self) -> None:
        self.reached, self.released = asyncio.Event(), asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        await self.released.wait()


class LocalTransport:
    """`registry_client.Transport` to the registry of a World, whichever lives. Nothing is shared: what is
    sent and answered is copied, as between two processes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.down = False  # no call is answered
        self.missed = asyncio.Event()  # a call was not answered
        self.reason: str | None = None  # why a job would not be served
        self.states: list[PoolState] = []  # how its pools are
        self.failures: dict[str, Exception] = {}  # by method: what a call of it raises
        self.sent: dict[str, Hold] = {}  # by method: a call that has not arrived yet
        self.answered: dict[str, Hold] = {}  # by method: an answer that has not arrived yet
        self.calls: Counter[str] = Counter()
        self.introduced: list[int] = []  # epochs
        self._cursor = (0, 0)  # of the newest watch
        self._moved = asyncio.Event()

    async def call(self, method: str, *args: Any, timeout_s: float) -> Any:
        self.calls[method] += 1
        if method == "watch" and args[2]:
            self._cursor = args[:2]
            self._moved.set()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._call(method, *args)
        except TimeoutError:
            raise Unavailable("The job registry does not answer.") from None

    async def introduce(self) -> None:
        self._reach("introduce")
        self.introduced.append(self.world.registry.epoch)

    async def readiness(self) -> str | None:
        return "the job registry does not answer" if self.down else self.reason

    async def pools(self) -> list[PoolState]:
        self._reach("pools")
        return self.states

    async def caught_up(self) -> None:
        """Wait until the app that watches through this transport knows every change so far."""
        registry = self.world.registry
        seq = (await registry.watch(registry.epoch, sys.maxsize, 0))["seq"]
        async with asyncio.timeout(WAIT_S):
            while self._cursor < (registry.epoch, seq):
                self._moved.clear()
                await self._moved.wait()

    async def restart(self) -> None:
        """The registry dies and comes back. Meanwhile nobody answers."""
        self.down = True
        await self.world.die_and_rise()
        self.down = False

    async def _call(self, method: str, *args: Any) -> Any:
        if method in self.sent:
            await self.sent[method].wait()
        registry = self._reach(method)
        found = getattr(registry, method)(*copy.deepcopy(args))
        reply = await found if inspect.isawaitable(found) else found
        if method in self.answered:
            await self.answered.pop(method).wait()
        if self._reach(method) is not registry:
            raise Unavailable("The job registry does not answer.")
        return copy.deepcopy(reply)

    def _reach(self, method: str) -> Any:
        if self.down:
            self.missed.set()
            raise Unavailable("The job registry does not answer.")
        if method in self.failures:
            self.missed.set()
            raise self.failures[method]
        return self.world.registry


def make_app(
    transport: LocalTransport,
    *,
    styles: Styles = STYLES,
    models: Models = MODELS,
    served: Sequence[str] = ("tiny",),
    revision_of: Callable[[str], str] = lambda name: f"{name}-weights",
    vocabularies: Mapping[str, Vocabulary] | None = None,
    dashboard: str | None = None,
    **settings: Any,
) -> FastAPI:
    """`vocabularies`: what models were taught; left out, of a model that takes no orders."""
    world = transport.world
    given = {"output_dir": world.files.root, "state_dir": world.directory / "state"} | settings
    return create_app(
        Settings.model_validate(given),
        RegistryClient(transport),
        styles=styles,
        models=models,
        active=served[0],
        served=served,
        revision_of=revision_of,
        vocabularies=vocabularies or {"other": SWORDS},
        dashboard=dashboard,
    )


def service_of(app: FastAPI) -> JobService:
    return app.state.service


@contextlib.asynccontextmanager
async def serving(app: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of the running app: with its lifespan, without a socket."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


def limit(world: World, **limits: Any) -> None:
    """Change limits of the registry, for its later lives too. `max_in_flight` 0: nothing is launched."""
    world.limits.update(limits)
    world.registry.configure(limits)


async def ordered(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    """The job object of a new order."""
    response = await client.post("/v1/generate", json=ORDER | body)
    assert response.status_code == 202, response.text
    return response.json()


async def get(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    response = await client.get(path)
    assert response.status_code == 200, response.text
    return response.json()


async def finish(world: World, job_id: str, fence: int = 1) -> str:
    """Play the rest of an attempt that has started; returns the job's revision."""
    assert await world.finish(job_id, fence, [world.files.put(job_id, fence)])
    return (await world.look(job_id))["rev"]


def keys_of(path: Path, *owners: str) -> list[dict[str, str]]:
    """Headers with a new key for each owner, whose hashes are in the file at `path`."""
    return [{"X-API-Key": add_key(path, owner)} for owner in owners]


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """RFC 9457, with everything this service promises of a problem."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["type"].endswith(code)
    assert body["title"]
    assert isinstance(body["detail"], str)
    assert ("retry-after" in response.headers) == (status in (429, 503))
    return body


@dataclasses.dataclass(frozen=True)
class Site:
    """A listening service with its registry, in a thread of its own, for blocking tests."""

    portal: BlockingPortal
    world: World
    transport: LocalTransport
    url: str

    def do(self, work: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run `work` in the service's thread; then wait until the service knows of every change."""

        async def run() -> T:
            result = await work(*args)
            if not self.transport.down:
                await self.transport.caught_up()
            return result

        return self.portal.call(run)

    def limit(self, **limits: Any) -> None:
        self.portal.call(lambda: limit(self.world, **limits))


@contextlib.contextmanager
def site(root: Path, make: Callable[[LocalTransport], FastAPI] | None = None) -> Generator[Site]:
    """`make`: the app to serve, if it is not the one of `make_app`."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(World(root)) as world,
    ):
        transport = LocalTransport(world)
        with portal.wrap_async_context_manager(served((make or make_app)(transport))) as url:
            yield Site(portal, world, transport, url)
