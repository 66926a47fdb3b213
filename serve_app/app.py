"""The topology of the service: which class runs where, with which resources. Typed arguments in, a Serve
application out.

Ray decorators are applied here and nowhere else. What the parts do is in `cluster/`, and beyond Ray in
`api/`, `jobs/` and `engine/`.

    HTTP -> Ingress -> Registry (one detached actor; with SQLite on the head node)
                          |  one call per attempt at a job
                          v
                       Renderer (a deployment for each pool: autoscaled, one engine per replica)
                          |  the pictures, by reference
                          v
                       run_job_task (one Ray task per attempt) -> output/
"""

from __future__ import annotations

from typing import Any

import ray
from ray import serve
from ray.actor import ActorHandle
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from serve_app.catalog.pools import configured_pools
from serve_app.cluster import job_task
from serve_app.cluster.checks import gpus_per_replica, servable
from serve_app.cluster.courier import CourierActor
from serve_app.cluster.handles import DETACHED, give_way, registry_name, renderer_name, worker_env
from serve_app.cluster.ingress import IngressReplica
from serve_app.cluster.launcher_process import LauncherActor
from serve_app.cluster.nodes import beside_this_process, near_its_store
from serve_app.cluster.registry_actor import RegistryActor
from serve_app.cluster.registry_port import REGISTRY_VERSION
from serve_app.cluster.renderer import RendererReplica
from serve_app.config import INGRESS_CPUS, INGRESS_REQUESTS, Settings
from serve_app.messages import Outcome, OutputFolder, Redraw, Rendered, Ticket

ON_ONE_LOOP = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}
"""An ingress runs on its replica's own event loop. Otherwise each message of a request goes from one thread
to another and back, which is half of what a poll costs. So nothing in `api/` may block."""


def build(args: Settings | dict[str, Any]) -> Application:
    """What `import_path: serve_app.app:build` of a Serve config calls. Raises CannotServe before anything is
    deployed if an argument or a file is wrong, the model is missing, anybody could come in, or the cluster
    is somebody else's.

    Ray passes the config's `args` as a dict, because it cannot read a postponed annotation."""
    settings = servable(args)
    dumped = settings.model_dump(mode="json")
    renderers = {
        name: Renderer.options(**renderer_options(name, *pool)).bind(*pool.arguments)
        for name, pool in configured_pools(settings).items()
    }
    ingress = Ingress.options(
        num_replicas=settings.ingress_replicas,
        ray_actor_options={"num_cpus": INGRESS_CPUS, "runtime_env": worker_env(**ON_ONE_LOOP)},
    )
    return ingress.bind(dumped, renderers)


@serve.deployment(name="Ingress", max_ongoing_requests=INGRESS_REQUESTS, health_check_period_s=5)
@serve.ingress()  # pyright: ignore[reportUntypedClassDecorator]
class Ingress(IngressReplica):
    """On any node; the first replica of an application creates its registry."""

    def __init__(self, settings: dict[str, Any], renderers: dict[str, DeploymentHandle]) -> None:
        super().__init__(settings, renderers, create_registry)


@serve.deployment(health_check_period_s=10, health_check_timeout_s=30)
class Renderer(RendererReplica):
    """On nodes with the resources of `renderer_options`; as many as the queue needs."""


def renderer_options(pool: str, models: list[str], settings: Settings) -> dict[str, Any]:
    """Deployment options of the renderers of a pool. Each of its models has `slots` of its own."""
    return {
        "name": renderer_name(pool),
        "max_ongoing_requests": len(models) * settings.slots + 2,
        "graceful_shutdown_timeout_s": settings.shutdown_grace_s,
        "autoscaling_config": {
            "min_replicas": settings.min_replicas,
            "max_replicas": settings.max_replicas,
            "target_ongoing_requests": settings.slots,
            "upscale_delay_s": settings.upscale_delay_s,
            "downscale_delay_s": settings.downscale_delay_s,
            "downscale_to_zero_delay_s": settings.scale_to_zero_delay_s,
            "upscaling_factor": 2.0,
            "metrics_interval_s": settings.autoscaling_interval_s,
            "look_back_period_s": 3 * settings.autoscaling_interval_s,
        },
        "ray_actor_options": {
            "num_cpus": settings.num_cpus,
            "num_gpus": gpus_per_replica(settings),
            "runtime_env": worker_env(),
        },
    }


@ray.remote
class Registry(RegistryActor):
    """Detached: it outlives every deployment. It launches the tasks itself and owns them."""

    def __init__(self, settings: dict[str, Any], version: int) -> None:
        super().__init__(settings, version, run_job_task, create_launcher, create_courier)


@ray.remote
class JobLauncher(LauncherActor):
    """On any node. The registry owns it, so they die together; it owns the tasks that it starts."""


@ray.remote
class WebhookCourier(CourierActor):
    """Beside the registry, which owns it: the secrets that it signs with are on that node."""


def create_launcher(app_name: str) -> ActorHandle:
    return _actor(JobLauncher, scheduling_strategy="SPREAD").remote(app_name, run_job_task)


def create_courier() -> ActorHandle:
    return _actor(WebhookCourier, **beside_this_process()).remote()


def create_registry(settings: Settings) -> ActorHandle:
    """The registry of this application, made if there is none."""
    name = registry_name(settings.app_name)
    registry = _actor(Registry, name=name, **near_its_store(settings), **DETACHED)
    return registry.remote(settings.model_dump(mode="json"), REGISTRY_VERSION)


def _actor(kind: Any, **options: Any) -> Any:
    return kind.options(num_cpus=0, max_concurrency=2000, runtime_env=worker_env(), **options)


@ray.remote(max_retries=0, runtime_env=worker_env())  # once: for each task it would cost 0.3 ms
def run_job_task(
    ticket: Ticket,
    rendered: Rendered | None,
    folder: OutputFolder,
    app_name: str,
    redraw: Redraw | None = None,
) -> Outcome:
    """One attempt, on any node. Never retried by Ray: the registry alone counts attempts."""
    give_way()
    return job_task.run(ticket, rendered, folder, app_name, redraw)
