"""A job's Ray task: `jobs.attempt` with the renderer and the registry that are on the cluster.

Knows handles, and what Ray's errors mean for an attempt; loads no torch.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from serve_app import logs
from serve_app.artifacts.folder import OutputDir
from serve_app.cluster.handles import call_sync, renderer_handle
from serve_app.jobs.attempt import RegistryGone, RendererGone, run_job
from serve_app.messages import ImageFile, JobError, Outcome, RenderEvent, Ticket


def run(ticket: Ticket, app_name: str, registry: ActorHandle, output_dir: str) -> Outcome:
    """One attempt, in the process of its Ray task."""
    logs.configure()
    return run_job(
        ticket, ServeRenderStream(app_name), ActorRegistry(registry), OutputDir(Path(output_dir))
    )


class ServeRenderStream:
    """`jobs.attempt.RenderStream` over the deployment's streaming handle."""

    def __init__(self, app_name: str) -> None:
        self._app_name = app_name

    def render(self, ticket: Ticket) -> Generator[RenderEvent]:
        try:
            handle = renderer_handle(self._app_name)
            stream = handle.options(stream=True).render.remote(ticket)
            try:
                yield from stream
            finally:
                stream.cancel()
        except ActorDiedError as error:
            how = "stopped" if "killed by `ray.kill`" in str(error) else "crashed"
            raise RendererGone(how, str(error)[:300]) from error
        except RayActorError as error:
            raise RendererGone("crashed", str(error)[:300]) from error
        except (RayServeException, ValueError) as error:
            raise RendererGone("absent", str(error)[:300]) from error
        except RayTaskError:
            raise  # the renderer's own code failed at this job: waiting would not help
        except Exception as error:
            # Serve's router may raise anything when its deployment goes away (a KeyError was seen).
            raise RendererGone("stopped", f"{type(error).__name__}: {error}"[:300]) from error


class ActorRegistry:
    """`jobs.attempt.AttemptRegistry` over the actor. The task dies with its registry, so nothing is
    retried."""

    def __init__(self, actor: ActorHandle) -> None:
        self._actor: Any = actor

    def admitted(self, job_id: str, fence: int, solo_seconds: float | None) -> bool:
        return self._ask("admitted", job_id, fence, solo_seconds)

    def preview(self, job_id: str, fence: int, index: int, data: bytes) -> None:
        self._actor.call.remote("preview", job_id, fence, index, data)

    def progress(self, job_id: str, fence: int, progress: dict[str, Any]) -> None:
        self._actor.call.remote("progress", job_id, fence, progress)

    def finish(self, job_id: str, fence: int, images: list[ImageFile]) -> bool:
        return self._ask("finish", job_id, fence, images)

    def fail(self, job_id: str, fence: int, error: JobError) -> bool:
        return self._ask("fail", job_id, fence, error)

    def _ask(self, method: str, *args: Any) -> bool:
        try:
            return call_sync(self._actor.call.remote(method, *args), None)
        except RayError as error:
            raise RegistryGone(type(error).__name__) from error
