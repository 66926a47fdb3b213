"""Checks before anything is served: are the files there, has the cluster GPUs, and whom does it let in?

Knows Ray's and Serve's own settings, and which files the settings name; changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import ray
from pydantic import ValidationError
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from serve_app.api.keys import ApiKeys
from serve_app.catalog.models import Models, ModelSpec, load_models
from serve_app.catalog.pools import served_models
from serve_app.catalog.revision import model_folder, weights_revision
from serve_app.catalog.styles import load_styles
from serve_app.catalog.yamlfile import mistakes_of, shown, unknown_keys
from serve_app.cluster.handles import call_sync, registry_actor
from serve_app.cluster.keepers import refuse_unfit_redis, store_name
from serve_app.cluster.serve_run import end_serve_run
from serve_app.config import LOOPBACK, PROJECT_ROOT, Settings
from serve_app.errors import ConfigError, ServiceError
from serve_app.finishing.base import refuse_bad_weights
from serve_app.object_address import ObjectAddress
from serve_app.webhooks.address import target_of
from serve_app.webhooks.owners import HookOwners
from serve_app.webhooks.sending import Sender

TASK_CPUS = 0.9  # less than 1: on two CPUs, a renderer of one and an ingress leave so much
SMALL_TASK_CPUS = 0.05

T = TypeVar("T")


class Fault(NamedTuple):
    """What is wrong with what one setting names."""

    setting: str
    error: ServiceError


def lacking_gpus(gpus: float) -> str | None:
    """What a renderer needs and no node has, as a sentence; None: one has it, free or not. A call to Ray's
    control store."""
    if gpus <= 0:
        return None
    most = max(
        (node["Resources"].get("GPU", 0.0) for node in ray.nodes() if node["Alive"]), default=0.0
    )
    if most >= gpus:
        return None
    return f"no node offers {gpus:g} GPU"


def job_task_cpus(reserved: float) -> float:
    """Logical CPUs for a task that writes files, beside replicas that reserve so many in all.

    Ray keeps as many idle workers as it has CPUs free, and ends the others after a second; to start one takes
    seconds of CPU. Tasks of nearly a whole CPU are never more than it keeps. Where there is no room for such
    ones they get next to nothing, so that they find room at all.
    """
    nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
    spare = sum(nodes) - reserved
    # Rounded: 2 - 1.1 is a little less than 0.9.
    return TASK_CPUS if nodes and round(spare / len(nodes), 6) >= TASK_CPUS else SMALL_TASK_CPUS


def gpus_per_replica(settings: Settings) -> float:
    """`auto` is 1 if the cluster has a GPU now. Needs a running Ray for `auto` only."""
    if settings.num_gpus == "auto":
        return 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
    return settings.num_gpus


def file_faults(settings: Settings) -> list[Fault]:
    """Everything that is wrong with the models, the styles, the weights and the keys, as this machine sees
    them."""
    found: list[Fault] = []

    def look(setting: str, check: Callable[[], T]) -> T | None:
        try:
            return check()
        except ServiceError as error:
            found.append(Fault(setting, error))
            return None

    models = look("models_file", lambda: load_models(settings.path(settings.models_file)))
    if models is not None:
        look("styles_file", lambda: load_styles(settings.path(settings.styles_file), models))
        found += _served_faults(settings, models)
    matting, upscalers = settings.matting_file, settings.upscalers_dir
    if matting is not None:
        look("matting_file", lambda: refuse_bad_weights(settings.path(matting), None))
    if upscalers is not None:
        look("upscalers_dir", lambda: refuse_bad_weights(None, settings.path(upscalers)))
    keys = settings.api_keys_file
    if keys is not None:
        look("api_keys_file", lambda: _check_keys(settings.path(keys)))
    hooks, ca_file = settings.webhooks_file, settings.webhook_ca_file
    if hooks is not None:
        look("webhooks_file", lambda: _check_hooks(settings.path(hooks), settings))
    if ca_file is not None:
        look("webhook_ca_file", lambda: _check_certificates(settings.path(ca_file)))
    return found


def _served_faults(settings: Settings, models: Models) -> list[Fault]:
    """What is wrong with the pools, or with the weights of any of them."""
    setting = "pools" if settings.pools else "model"
    try:
        served = served_models(settings, models)
    except ServiceError as error:
        return [Fault(setting, error)]
    found: list[Fault] = []
    for name in served:
        try:
            _check_weights(models[name])
        except ServiceError as error:
            found.append(Fault(setting, error))
    return found


class CannotServe(RayServeException):
    """Of a RayServeException, Serve tells what it says; of any other, some forty lines of traceback."""


def servable(args: Settings | dict[str, Any]) -> Settings:
    """Raises CannotServe, with a line for each mistake, if an argument or a file is wrong, the model is
    missing, anybody could come in, the cluster is somebody else's, or files cannot be kept in the bucket."""
    try:
        settings = _settings_of(args)
        if faults := file_faults(settings):
            raise ConfigError("\n".join(fault.error.detail for fault in faults))
        refuse_open_bind(settings)
        _refuse_anothers_cluster(settings)
        refuse_unfit_redis(settings)
        if settings.output is not None and settings.output_folder is None:
            refuse_unfit(settings.output)
    except ServiceError as error:
        end_serve_run(error.detail)
        raise CannotServe(error.detail) from None
    return settings


def refuse_unfit(output: str) -> None:
    """Raises ConfigError if files cannot be kept there, whatever time passes."""
    from serve_app.artifacts.objects import refuse_unfit as refuse

    refuse(ObjectAddress.parse(output))


def _settings_of(args: Settings | dict[str, Any]) -> Settings:
    unknown = {mistake.at: mistake for mistake in unknown_keys(Settings, args)}
    try:
        return Settings.model_validate(args)
    except ValidationError as error:
        others = [mistake for mistake in mistakes_of(error) if mistake.at not in unknown]
        lines = (
            f"{'.'.join(map(str, ('args', *mistake.at)))}: {mistake.text}"
            for mistake in (*unknown.values(), *others)
        )
        raise ConfigError("\n".join(lines)) from None


def open_bind_problem(settings: Settings, host: str | None) -> str | None:
    """Why other hosts must not reach a service that listens on `host`, or None."""
    if settings.api_keys_file is not None:
        return None
    if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1":
        return "RAY_SERVE_ENABLE_HA_PROXY=1 listens on every interface: set api_keys_file"
    if host is not None and host not in LOOPBACK:
        allowed = ", ".join(LOOPBACK)
        return f"http_options.host is {host}: without api_keys_file only {allowed} are allowed"
    return None


def refuse_open_bind(settings: Settings) -> None:
    """Raises ConfigError if other hosts could reach the service while it asks for no API key. Returns where
    there is no Serve yet."""
    if not ray.is_initialized():
        return
    try:
        controller = ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return
    host = call_sync(controller.get_http_config.remote()).host
    if problem := open_bind_problem(settings, host):
        raise ConfigError(problem)


def _refuse_anothers_cluster(settings: Settings) -> None:
    """Raises ConfigError if this cluster has an application of the same name with another state: it belongs
    to another checkout or another user, and would be replaced."""
    if not ray.is_initialized():
        return
    try:
        theirs = call_sync(registry_actor(settings.app_name).hello.remote())["state_dir"]
    except (ValueError, AttributeError, RayError):
        return  # there is none, or it is older and cannot say: then the ingress refuses, after this
    ours = store_name(settings)
    if theirs != ours:
        raise ConfigError(
            f"this Ray cluster already serves an application {settings.app_name!r}, whose store is "
            f"{theirs} and not {ours}. `assets run` starts a cluster of its own; on a shared cluster, give "
            "this one another `name` and `app_name`"
        )


def _check_keys(path: Path) -> None:
    if not path.exists():
        make = f"`assets keys add OWNER --file {shown(path)}` makes it, with a first key"
        raise ConfigError(f"there is no {shown(path)}; {make}")
    ApiKeys.load(path)


def _check_hooks(path: Path, settings: Settings) -> None:
    if not path.exists():
        make = f"`assets webhooks add OWNER --file {shown(path)}` makes it, with a first secret"
        raise ConfigError(f"there is no {shown(path)}; {make}")
    allowed = [ip_network(network) for network in settings.webhook_networks]
    for name, owner in HookOwners.load(path).owners.items():
        if owner.url:
            target_of(owner.url, allowed, f"{shown(path)}: `url` of {name}")


def _check_certificates(path: Path) -> None:
    try:
        Sender((), str(path))
    except OSError as error:
        raise ConfigError(f"{shown(path)} holds no certificate that can be read") from error


def _check_weights(spec: ModelSpec) -> None:
    """Raises ModelError. Of a model from the hub only its commit is looked at: it is downloaded later."""
    weights_revision(spec, PROJECT_ROOT)
    if spec.hub is None:
        from serve_app.engine.model.checkpoint import check_index

        check_index(spec, model_folder(spec, PROJECT_ROOT))
