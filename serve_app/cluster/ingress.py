"""IngressReplica: the HTTP application in a Serve deployment, with a registry behind it.

Knows how a replica starts. It owns no job: it checks orders, and asks the registry for all else.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.actor import ActorHandle
from ray.serve.handle import DeploymentHandle

from serve_app import logs
from serve_app.catalog.models import ModelSpec, load_models
from serve_app.catalog.pools import pools_of, served_models
from serve_app.catalog.revision import weights_revision
from serve_app.catalog.styles import load_styles
from serve_app.catalog.taught import vocabulary_of
from serve_app.cluster.checks import gpus_per_replica, refuse_open_bind
from serve_app.cluster.handles import collect_rarely, serve_session
from serve_app.cluster.registry_actor import limits_of, webhooks_of
from serve_app.cluster.registry_port import attach
from serve_app.cluster.replica_port import listen_on_node_address
from serve_app.config import INGRESS_CPUS, PROJECT_ROOT, Settings
from serve_app.errors import ModelError
from serve_app.messages import DeployedPool, Deployment, WeightFiles
from serve_app.starter.vocabulary import Vocabulary

log = logging.getLogger("assets.cluster")


class IngressReplica:
    """`create_registry(settings)` returns the application's registry actor, a new one if there is none."""

    def __init__(
        self,
        settings: dict[str, Any],
        renderers: dict[str, DeploymentHandle],
        create_registry: Callable[[Settings], ActorHandle],
    ) -> None:
        logs.configure()
        listen_on_node_address()
        collect_rarely()
        self._settings = Settings.model_validate(settings)
        self._renderers = renderers  # bound so that they are deployed; jobs reach them by name
        refuse_open_bind(self._settings)
        self._registry = attach(
            self._settings,
            _deployment(self._settings),
            lambda: create_registry(self._settings),
        )

    def __serve_build_asgi_app__(self) -> Any:
        """Serve calls this on the replica, after `__init__`: the routes need the registry."""
        from serve_app.api.asgi import create_app
        from serve_app.api.registry_client import RegistryClient

        settings = self._settings
        models = load_models(settings.path(settings.models_file))
        served = served_models(settings, models)
        known = {name: _vocabulary(models[name]) for name in served}
        return create_app(
            settings,
            RegistryClient(self._registry),
            styles=load_styles(settings.path(settings.styles_file), models),
            models=models,
            active=served[0],
            served=served,
            revision_of=lambda name: weights_revision(models[name], PROJECT_ROOT),
            vocabularies={name: found for name, found in known.items() if found is not None},
            dashboard=_dashboard(),
        )


def _dashboard() -> str | None:
    """Host and port of Ray's dashboard, which Ray tells its own processes only."""
    services: Any = importlib.import_module("ray._private.services")
    return services.get_webui_url_from_internal_kv() or None


def _deployment(settings: Settings) -> Deployment:
    models = load_models(settings.path(settings.models_file))
    pools = pools_of(settings, models)
    return Deployment(
        session=serve_session(),
        limits=limits_of(settings),
        pools={
            line: _deployed(pool.settings, models[model])
            for name, pool in pools.items()
            for line, model in pool.lines(name).items()
        },
        nodes_on_demand=settings.nodes_on_demand,
        launchers=settings.launchers,
        cpus=sum(pool.max_replicas * pool.num_cpus for _, pool in pools.values())
        + settings.ingress_replicas * INGRESS_CPUS,
        output_dir=settings.output_address,
        weights=WeightFiles(
            matting=_text(settings, settings.matting_file),
            upscalers=_text(settings, settings.upscalers_dir),
        ),
        webhooks=webhooks_of(settings),
    )


def _vocabulary(spec: ModelSpec) -> Vocabulary | None:
    try:
        return vocabulary_of(spec, PROJECT_ROOT)
    except ModelError as error:
        log.error("%s", error.detail)
        return None


def _deployed(pool: Settings, spec: ModelSpec) -> DeployedPool:
    """Weights that are gone since they were deployed have no revision: orders of them wait, the others are
    drawn."""
    try:
        revision = weights_revision(spec, PROJECT_ROOT)
    except ModelError as error:
        log.error("%s", error.detail)
        revision = ""
    return DeployedPool(
        model=spec.name,
        model_revision=revision,
        gpus=gpus_per_replica(pool),
        max_in_flight=pool.max_in_flight,
    )


def _text(settings: Settings, path: Path | None) -> str | None:
    return None if path is None else str(settings.path(path))
