"""Which models are served, by which pools, and what is wrong with pools."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.catalog.models import Models
from serve_app.catalog.pools import pools_of, served_models
from serve_app.config import Settings
from serve_app.errors import ModelError
from serve_app.params import DEFAULT_POOL
from tests.factories import model_spec

MODELS = Models({name: model_spec(name) for name in ("tiny", "big", "odd")}, "tiny")


def settings(**given: Any) -> Settings:
    return Settings.model_validate(given)


def test_without_pools_there_is_one_of_the_active_model() -> None:
    assert served_models(settings(), MODELS) == ["tiny"]
    assert served_models(settings(model="big"), MODELS) == ["big"]
    (name, pool), *others = pools_of(settings(model="big", slots=3), MODELS).items()
    assert (name, pool.model, pool.slots, others) == (DEFAULT_POOL, "big", 3, [])


def test_a_pool_says_what_differs_from_the_others() -> None:
    given = settings(
        num_gpus=1,
        max_replicas=2,
        slots=4,
        pools={"a": {"models": ["big"], "slots": 8, "min_replicas": 0}, "b": {"models": ["tiny"]}},
    )
    pools = pools_of(given, MODELS)
    assert [(p.model, p.num_gpus, p.slots, p.min_replicas) for p in pools.values()] == [
        ("big", 1, 8, 0),
        ("tiny", 1, 4, 1),
    ]
    assert [pool.max_in_flight for pool in pools.values()] == [24, 12]
    assert not any(pool.pools for pool in pools.values())


def test_the_active_model_comes_first() -> None:
    """It is the one that is named; else the default of the models file, if it is served; else the first."""
    both: dict[str, Any] = {"a": {"models": ["big"]}, "b": {"models": ["tiny"]}}
    assert served_models(settings(pools=both), MODELS) == ["tiny", "big"]
    assert served_models(settings(pools=both, model="big"), MODELS) == ["big", "tiny"]
    others: dict[str, Any] = {"a": {"models": ["odd"]}, "b": {"models": ["big"]}}
    assert served_models(settings(pools=others), MODELS) == ["odd", "big"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pools": {"a": {"models": ["bgi"]}}}, "pool 'a': model 'bgi' .*did you mean 'big'"),
        ({"pools": {"cpu": {"models": ["big"]}}}, "must not be named 'cpu'"),
        ({"model": "tiny", "pools": {"a": {"models": ["big"]}}}, "no pool has 'tiny'.*: big"),
    ],
)
def test_what_the_models_file_does_not_know_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        served_models(settings(**given), MODELS)
