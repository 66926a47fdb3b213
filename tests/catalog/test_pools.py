"""Which models are served, by which pools, and what is wrong with pools."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.catalog.models import Models
from serve_app.catalog.pools import pools_of, served_models
from serve_app.cluster.handles import renderer_name
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
    assert (name, pool.models, pool.settings.slots, others) == (DEFAULT_POOL, ["big"], 3, [])


def test_a_pool_says_what_differs_from_the_others() -> None:
    given = settings(
        num_gpus=1,
        max_replicas=2,
        slots=4,
        pools={"a": {"models": ["big"], "slots": 8, "min_replicas": 0}, "b": {"models": ["tiny"]}},
    )
    pools = [pool for _, pool in pools_of(given, MODELS).values()]
    assert [(p.model, p.num_gpus, p.slots, p.min_replicas) for p in pools] == [
        ("big", 1, 8, 0),
        ("tiny", 1, 4, 1),
    ]
    assert [pool.max_in_flight for pool in pools] == [24, 12]
    assert not any(pool.pools for pool in pools)


def test_each_model_of_a_pool_has_a_line_of_its_own() -> None:
    """And renderers with the others: the deployment's name is the pool's."""
    both = settings(pools={"a": {"models": ["big", "odd"], "weights_share": 0.5}})
    pool = pools_of(both, MODELS)["a"]
    assert pool.settings.weights_share == 0.5
    assert pool.lines("a") == {"a/big": "big", "a/odd": "odd"}
    assert {renderer_name(line) for line in pool.lines("a")} == {"Renderer-a"}
    assert served_models(both, MODELS) == ["big", "odd"]
    alone = pools_of(settings(pools={"a": {"models": ["big"]}}), MODELS)["a"]
    assert alone.lines("a") == {"a": "big"}


def test_models_of_a_pool_have_the_same_threads() -> None:
    """torch has one number for a process, and it decides the last bits of a picture."""
    models = Models({"tiny": model_spec("tiny", threads=2), "big": model_spec("big")}, "tiny")
    with pytest.raises(ModelError, match=r"same `threads` \(tiny: 2, big: none said\)"):
        pools_of(settings(pools={"a": {"models": ["tiny", "big"]}}), models)


def test_the_active_model_comes_first() -> None:
    """It is the one that is named; else the default of the models file, if it is served; else the first."""
    both: dict[str, Any] = {"a": {"models": ["big"]}, "b": {"models": ["tiny"]}}
    assert served_models(settings(pools=both), MODELS) == ["tiny", "big"]
    assert served_models(settings(pools=both, model="big"), MODELS) == ["big", "tiny"]
    others: dict[str, Any] = {"a": {"models": ["odd"]}, "b": {"models": ["big"]}}
    assert served_models(settings(pools=others), MODELS) == ["odd", "big"]


def test_a_model_that_moves_its_parts_itself_has_a_pool_of_its_own() -> None:
    offloaded = model_spec("big", cpu_offload="model")
    models = Models({"tiny": model_spec("tiny"), "big": offloaded}, "tiny")
    with pytest.raises(ModelError, match="big has `cpu_offload`"):
        pools_of(settings(pools={"a": {"models": ["tiny", "big"]}}), models)
    assert pools_of(settings(pools={"a": {"models": ["big"]}}), models)["a"].models == ["big"]


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
