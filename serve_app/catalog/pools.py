"""Pools: which models are served, and by which pool of renderers each.

Knows the settings and the models file; nothing of Ray, and looks at no weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from serve_app.catalog.models import Models, ModelSpec, active_model, load_models
from serve_app.catalog.yamlfile import did_you_mean
from serve_app.config import Settings
from serve_app.errors import ModelError
from serve_app.params import CPU_POOL, DEFAULT_POOL


class Pool(NamedTuple):
    """`settings`: those of its renderers. Each of them draws all of the `models`."""

    models: list[str]
    settings: Settings

    @property
    def arguments(self) -> tuple[dict[str, Any], list[str]]:
        """Of its renderers."""
        return self.settings.model_dump(mode="json"), self.models

    def lines(self, name: str) -> dict[str, str]:
        """Name of a line -> the model of its jobs. The registry takes each model of a pool `name` for a pool,
        so that one that is busy or broken holds up none of the others; `cluster.handles` knows that their
        renderers are the same."""
        if len(self.models) == 1:
            return {name: self.models[0]}
        return {f"{name}/{model}": model for model in self.models}


def pools_of(settings: Settings, models: Models) -> dict[str, Pool]:
    """By name. Without `pools` there is one, of the active model. Raises ModelError."""
    if not settings.pools:
        active = active_model(settings.model, models).name
        return {DEFAULT_POOL: Pool([active], settings.model_copy(update={"model": active}))}
    found: dict[str, Pool] = {}
    for name, pool in settings.pools.items():
        if name == CPU_POOL:
            raise ModelError(
                f"a pool must not be named {name!r}: that is the one of jobs without a renderer"
            )
        for model in pool.models:
            if model not in models:
                text = f"pool {name!r}: model {model!r} is not in the models file"
                raise ModelError(text + did_you_mean(model, models))
        _refuse_mixture(name, [models[model] for model in pool.models])
        own = pool.model_dump(exclude={"models"}, exclude_none=True)
        own |= {"model": pool.models[0], "pools": {}}
        found[name] = Pool(pool.models, settings.model_copy(update=own))
    return found


def _refuse_mixture(name: str, specs: list[ModelSpec]) -> None:
    """torch has one number of threads for a process, and it decides the last bits of a picture. Weights that
    come and go as a whole cannot do so part by part as well."""
    offloaded = [spec.name for spec in specs if spec.cpu_offload is not None]
    if offloaded and len(specs) > 1:
        raise ModelError(
            f"pool {name!r}: {offloaded[0]} has `cpu_offload`, so it needs a pool of its own"
        )
    threads = {spec.threads for spec in specs}
    if len(threads) > 1:
        told = ", ".join(f"{spec.name}: {spec.threads or 'none said'}" for spec in specs)
        raise ModelError(
            f"pool {name!r}: its models share a process, and so must have the same `threads` ({told})"
        )


def configured_pools(settings: Settings) -> dict[str, Pool]:
    """`pools_of` with the models file of the settings. Raises ConfigError too."""
    return pools_of(settings, load_models(settings.path(settings.models_file)))


def served_models(settings: Settings, models: Models) -> list[str]:
    """The models that are served; the first is the active one, which orders get that name none. Raises
    ModelError."""
    served = [name for pool in pools_of(settings, models).values() for name in pool.models]
    active = settings.model or (models.default if models.default in served else served[0])
    if active not in served:
        raise ModelError(
            f"model: no pool has {active!r}; add it to `pools`, or name one of them: {', '.join(served)}"
        )
    return [active, *(name for name in served if name != active)]
