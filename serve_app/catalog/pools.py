"""Pools: which models are served, and by which pool of renderers each.

Knows the settings and the models file; nothing of Ray, and looks at no weights.
"""

from __future__ import annotations

from serve_app.catalog.models import Models, active_model, load_models
from serve_app.catalog.yamlfile import did_you_mean
from serve_app.config import Settings
from serve_app.errors import ModelError
from serve_app.params import CPU_POOL, DEFAULT_POOL


def pools_of(settings: Settings, models: Models) -> dict[str, Settings]:
    """By name of the pool, the settings of its renderers: `model` is what they draw. Without `pools` there is
    one, of the active model. Raises ModelError."""
    if not settings.pools:
        active = active_model(settings.model, models)
        return {DEFAULT_POOL: settings.model_copy(update={"model": active.name})}
    found: dict[str, Settings] = {}
    for name, pool in settings.pools.items():
        if name == CPU_POOL:
            raise ModelError(
                f"a pool must not be named {name!r}: that is the one of jobs without a renderer"
            )
        (model,) = pool.models
        if model not in models:
            text = f"pool {name!r}: model {model!r} is not in the models file"
            raise ModelError(text + did_you_mean(model, models))
        own = pool.model_dump(exclude={"models"}, exclude_none=True)
        found[name] = settings.model_copy(update={"model": model, "pools": {}, **own})
    return found


def configured_pools(settings: Settings) -> dict[str, Settings]:
    """`pools_of` with the models file of the settings. Raises ConfigError too."""
    return pools_of(settings, load_models(settings.path(settings.models_file)))


def served_models(settings: Settings, models: Models) -> list[str]:
    """The models that are served; the first is the active one, which orders get that name none. Raises
    ModelError."""
    served = [str(pool.model) for pool in pools_of(settings, models).values()]
    active = settings.model or (models.default if models.default in served else served[0])
    if active not in served:
        raise ModelError(
            f"model: no pool has {active!r}; add it to `pools`, or name one of them: {', '.join(served)}"
        )
    return [active, *(name for name in served if name != active)]
