"""Which outcome each of Ray's errors becomes, and attempts that are stopped at each of their steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.serve.exceptions import BackPressureError, RequestCancelledError

from serve_app.cluster import attempts as attempts_module
from serve_app.cluster.attempts import Attempts, _outcome_of
from serve_app.cluster.launcher import RayLauncher
from serve_app.jobs.dispatcher import TaskLost
from serve_app.messages import Outcome, Redraw
from serve_app.params import CPU_POOL, DEFAULT_POOL
from tests.factories import JOB_ID, summary, ticket

ACTOR = "ab" * 16


def died(text: str, *, preempted: bool = False) -> ActorDiedError:
    """As Ray builds it from what its control store says of an actor."""
    error = ActorDiedError()
    error.error_msg, error._preempted = text, preempted
    return error


def in_task(cause: Exception, *, deep: bool = False) -> RayError:
    """As `await` raises what a task raised; `deep`: its argument was the error of another task."""
    error = RayTaskError("run_job_task", "a traceback", cause)
    if deep:
        error = RayTaskError("run_job_task", "a traceback", error.as_instanceof_cause())
    return error.as_instanceof_cause()


SIGKILLED = died(
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
)
TOLD = died("The actor is dead because it was killed by `ray.kill`.")
NODE = died("The actor died because its node has died. Node Id: ab")
PREEMPTED = died("the actor's node was preempted: spot", preempted=True)
UNREACHABLE = ActorUnavailableError("connection reset", bytes.fromhex(ACTOR))


@pytest.mark.parametrize("wrap", [lambda e: e, in_task, lambda e: in_task(e, deep=True)])  # pyright: ignore
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SIGKILLED, "died"),
        (UNREACHABLE, "died"),
        (TOLD, "stopped"),
        (NODE, "stopped"),
        (PREEMPTED, "stopped"),
    ],
)
def test_the_death_of_a_renderer(
    error: RayError, kind: str, wrap: Callable[[RayError], RayError]
) -> None:
    """Told to stop, or gone with its machine: no fault of what it drew."""
    outcome = _outcome_of(wrap(error))
    assert outcome is not None
    assert outcome["kind"] == kind
    assert "Error" in outcome["reason"]
    assert len(outcome["reason"]) <= 300


@pytest.mark.parametrize(
    "error",
    [
        WorkerCrashedError(),
        OutOfMemoryError("the node is low on memory"),
        TaskCancelledError(),
        NodeDiedError("its node died"),
        ObjectLostError("ab" * 28, None, "f"),
        in_task(ObjectLostError("ab" * 28, None, "f")),
        in_task(RequestCancelledError()),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_attempt_of_which_nobody_knows(error: RayError) -> None:
    assert _outcome_of(error) is None


@pytest.mark.parametrize("deep", [False, True])
def test_a_bug_in_a_renderer_or_a_task_is_a_refusal(deep: bool) -> None:
    """It is tried elsewhere, some times; and the client is not told what the bug said."""
    outcome = _outcome_of(in_task(KeyError("/secret/path"), deep=deep))
    assert outcome is not None
    assert outcome["kind"] == "refused"
    error = outcome.get("error")
    assert error is not None
    assert (error["code"], error["retryable"]) == ("internal", True)
    assert "KeyError" in error["detail"]
    assert "secret" not in error["detail"]


# ---- attempts that are stopped: only what Ray would do is played ----


class Response:
    """Of a call to a renderer: accepted when a test says so."""

    def __init__(self) -> None:
        self.accepted: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.asked = asyncio.Event()
        self.cancelled = 0

    async def _to_object_ref(self) -> str:
        self.asked.set()
        return await asyncio.shield(self.accepted)

    def cancel(self) -> None:
        self.cancelled += 1
        if not self.accepted.done():
            self.accepted.set_exception(RequestCancelledError())


class Renderer:
    """A handle, with one response for each call; and the remote function of the task."""

    def __init__(self) -> None:
        self.responses: list[Response] = []
        self.tasks: list[asyncio.Future[Outcome]] = []
        self.names: list[str] = []
        self.refusal: Exception | None = None
        self.render = self
        self.name = ""
        self.rendered: list[tuple[Any, ...]] = []  # arguments of each call to a renderer
        self.drawn: list[Any] = []  # refs that each task was given
        self.given: list[Any] = []  # what each task was given of the one before
        self.cpus: float | None = None  # of the newest task, if it asked for some

    def remote(self, *args: Any) -> Any:
        if len(args) > 1:
            self.drawn.append(args[1])
            self.given.append(args[-1])
            self.tasks.append(asyncio.get_running_loop().create_future())
            return self.tasks[-1]
        if self.refusal is not None:
            raise self.refusal
        self.rendered.append(args)
        self.responses.append(Response())
        return self.responses[-1]

    def options(self, **options: Any) -> Renderer:
        self.cpus = options.get("num_cpus")
        if "name" in options:
            self.names.append(options["name"])
        return self


@pytest.fixture(name="renderer")
async def _renderer(monkeypatch: pytest.MonkeyPatch) -> Renderer:
    renderer = Renderer()

    def cancel(task: asyncio.Future[Outcome], *, force: bool) -> None:
        assert force
        task.set_exception(TaskCancelledError())

    monkeypatch.setattr(attempts_module, "renderer_handle", lambda app_name, pool: renderer)  # pyright: ignore
    monkeypatch.setattr(attempts_module.ray, "cancel", cancel)
    monkeypatch.setattr(attempts_module.ray, "nodes", list)
    return renderer


def launcher_of(renderer: Renderer) -> RayLauncher:
    def create() -> Any:
        raise AssertionError("no process of its own is asked for")

    return RayLauncher(Attempts("assets", renderer), "output", create)


def launch(renderer: Renderer) -> tuple[RayLauncher, asyncio.Task[Outcome]]:
    launcher = launcher_of(renderer)
    return launcher, asyncio.create_task(launcher.run(ticket()))


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_attempt_that_is_drawn(renderer: Renderer) -> None:
    launcher, attempt = launch(renderer)
    await turn()
    assert not renderer.tasks, "no process waits while it is drawn"
    renderer.responses[0].accepted.set_result("ref")
    await turn()
    assert renderer.names == [f"job:{JOB_ID}"]
    drawn = Outcome(kind="drawn", reason="", images=[])
    renderer.tasks[0].set_result(drawn)
    assert await attempt == drawn
    assert not launcher._attempts


async def test_a_job_that_needs_no_renderer_asks_none(renderer: Renderer) -> None:
    """Its task starts at once, with a share of a CPU; it is stopped by its death."""
    renderer.refusal = KeyError("no such application")
    launcher = launcher_of(renderer)
    order = ticket(summary=summary(kind="derive", pool=CPU_POOL))
    first = asyncio.create_task(launcher.run(order))
    await turn()
    assert (len(renderer.responses), len(renderer.tasks)) == (0, 1)
    assert renderer.cpus == attempts_module.CPUS_WITHOUT_RENDERER
    launcher.kill(JOB_ID)
    with pytest.raises(TaskLost):
        await first
    second = asyncio.create_task(launcher.run({**order, "fence": 2}))
    await turn()
    drawn = Outcome(kind="drawn", reason="", images=[])
    renderer.tasks[1].set_result(drawn)
    assert await second == drawn
    assert not launcher._attempts


async def test_redraws_belong_to_the_same_attempt(renderer: Renderer) -> None:
    """A renderer draws what the task asks for, and the next task gets what the one before left."""
    launcher, attempt = launch(renderer)
    await turn()
    renderer.responses[0].accepted.set_result("ref")
    await turn()
    again = Redraw(images=[], indices=[0], number=1, used=1, params={"seed": 8}, run_s=0.5)
    renderer.tasks[0].set_result(Outcome(kind="redraw", reason="", redraw=again))
    await turn()
    assert len(renderer.responses) == 2
    (first,), (second,) = renderer.rendered
    assert second == {**first, "params": {"seed": 8}}
    renderer.responses[1].accepted.set_result("ref")
    await turn()
    assert renderer.given[1] == again
    drawn = Outcome(kind="drawn", reason="", images=[])
    renderer.tasks[1].set_result(drawn)
    assert await attempt == drawn
    assert not launcher._attempts


UNSTORED = Outcome(kind="full", reason="the bucket is away", unstored=True)


async def test_what_could_not_be_stored_is_not_drawn_again(renderer: Renderer) -> None:
    """The next attempt begins with it, redraws too; an attempt that loses it is the last that tries."""
    launcher, attempt = launch(renderer)
    again = Redraw(images=[], indices=[0], number=1, used=1, params={"seed": 8}, run_s=0.5)
    for number, outcome in enumerate((Outcome(kind="redraw", reason="", redraw=again), UNSTORED)):
        await turn()
        renderer.responses[number].accepted.set_result(f"ref{number}")
        await turn()
        renderer.tasks[number].set_result(outcome)
    assert await attempt == UNSTORED
    second = asyncio.create_task(launcher.run(ticket(fence=2)))
    await turn()
    renderer.tasks[2].set_result(Outcome(kind="redraw", reason="", redraw=again))
    await turn()
    assert renderer.drawn == ["ref0", "ref1", "ref0", "ref1"]
    assert renderer.given == [None, again, None, again]
    renderer.tasks[3].set_exception(ObjectLostError("ab" * 28, None, "f"))
    with pytest.raises(TaskLost):
        await second
    assert len(renderer.responses) == 2
    third = asyncio.create_task(launcher.run(ticket(fence=3)))
    await turn()
    assert len(renderer.responses) == 3, "it is drawn afresh"
    launcher.kill(JOB_ID)
    with pytest.raises(TaskLost):
        await third


async def test_what_was_drawn_is_forgotten_with_its_job(renderer: Renderer) -> None:
    launcher, attempt = launch(renderer)
    await turn()
    renderer.responses[0].accepted.set_result("ref")
    await turn()
    renderer.tasks[0].set_result(UNSTORED)
    await attempt
    assert (launcher._attempts._drawn, list(launcher._drawn)) == ({JOB_ID: ["ref"]}, [JOB_ID])
    launcher.forget(JOB_ID)
    launcher.forget(JOB_ID)
    assert (launcher._attempts._drawn, launcher._drawn) == ({}, {})


@pytest.mark.parametrize("error", [BackPressureError(1, 1), KeyError("no such application")])
async def test_without_a_renderer_the_attempt_is_released(
    renderer: Renderer, error: Exception
) -> None:
    renderer.refusal = error
    launcher, attempt = launch(renderer)
    assert (await attempt)["kind"] == "released"
    assert not launcher._attempts


async def test_an_attempt_that_is_stopped_while_it_waits_for_a_renderer(
    renderer: Renderer,
) -> None:
    launcher, attempt = launch(renderer)
    await turn()
    launcher.kill(JOB_ID)
    with pytest.raises(TaskLost):
        await attempt
    assert not renderer.tasks
    assert not launcher._attempts
    launcher.kill(JOB_ID)  # again, and of what does not run: nothing happens
    assert renderer.responses[0].cancelled == 1


async def test_an_attempt_that_is_stopped_just_when_a_renderer_has_it(renderer: Renderer) -> None:
    """Nobody would stop the task that started then."""
    launcher, attempt = launch(renderer)
    await turn()
    renderer.responses[0].accepted.set_result("ref")
    launcher.kill(JOB_ID)
    with pytest.raises(TaskLost):
        await attempt
    assert not renderer.tasks


async def test_an_attempt_that_is_stopped_while_it_is_drawn(renderer: Renderer) -> None:
    launcher, attempt = launch(renderer)
    await turn()
    renderer.responses[0].accepted.set_result("ref")
    await turn()
    launcher.kill(JOB_ID)
    with pytest.raises(TaskLost):
        await attempt
    assert renderer.responses[0].cancelled == 1


async def test_another_serve_ends_all_attempts_of_the_one_before(renderer: Renderer) -> None:
    """They would wait for ever for what was shut down."""
    launcher, attempt = launch(renderer)
    await turn()
    launcher.serve_is("one")
    launcher.serve_is("one")
    assert renderer.responses[0].cancelled == 0
    launcher.serve_is("two")
    with pytest.raises(TaskLost):
        await attempt


async def test_attempts_end_whose_pool_is_gone_before_a_renderer_had_them(
    renderer: Renderer,
) -> None:
    """They would wait for ever. The others go on."""
    launcher, attempt = launch(renderer)
    await turn()
    launcher.needs({DEFAULT_POOL: 0, "more": 0}, nodes_on_demand=False)
    assert renderer.responses[0].cancelled == 0
    launcher.needs({"other": 0}, nodes_on_demand=False)
    with pytest.raises(TaskLost):
        await attempt
    launcher, attempt = launch(renderer)
    await turn()
    renderer.responses[-1].accepted.set_result("ref")
    await turn()
    launcher.needs({"other": 0}, nodes_on_demand=False)
    assert not attempt.done()
    attempt.cancel()


async def test_a_redraw_that_waits_for_a_renderer_of_a_pool_that_is_gone_ends(
    renderer: Renderer,
) -> None:
    launcher, attempt = launch(renderer)
    await turn()
    renderer.responses[0].accepted.set_result("ref")
    await turn()
    again = Redraw(images=[], indices=[0], number=1, used=1, params={"seed": 8}, run_s=0.5)
    renderer.tasks[0].set_result(Outcome(kind="redraw", reason="", redraw=again))
    await turn()
    launcher.needs({"other": 0}, nodes_on_demand=False)
    with pytest.raises(TaskLost):
        await asyncio.wait_for(attempt, 5)


async def test_a_broadcast_without_an_application_is_no_error(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(app_name: str, pool: str) -> Any:
        raise KeyError(app_name)

    monkeypatch.setattr(attempts_module, "renderer_handle", gone)
    launcher = launcher_of(renderer)
    await launcher.drop(1, {JOB_ID: 1})
    await launcher.send_previews(JOB_ID)


async def test_a_registry_that_closes_is_no_loss(renderer: Renderer) -> None:
    """The cancelled attempt says nothing of its job."""
    _, attempt = launch(renderer)
    await turn()
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
