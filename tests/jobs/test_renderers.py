"""What is known of renderers from what they say, and what a launched job waits for."""

from __future__ import annotations

from pathlib import Path

from serve_app.jobs.renderers import FORGOTTEN_AFTER_S, Renderers
from serve_app.messages import HeldModel
from serve_app.params import DEFAULT_POOL
from tests.factories import deployed_pool, params

from .harness import World

NEW, OLD = ("tiny", "new"), ("tiny", "old")


def deployed(*, weights: tuple[str, str] = NEW) -> Renderers:
    renderers = Renderers()
    renderers.deployed(*weights)
    return renderers


def test_weights_are_proven_by_a_renderer_that_has_loaded_them() -> None:
    renderers = deployed()
    assert not renderers.proven
    renderers.is_ready(*OLD)  # still of the deployment before
    assert not renderers.proven
    renderers.is_ready(*NEW)
    assert renderers.proven
    renderers.deployed(*NEW)  # another ingress says the same
    assert renderers.proven
    renderers.deployed(*OLD)
    assert not renderers.proven


def test_a_renderer_may_be_faster_than_the_first_ingress() -> None:
    renderers = Renderers()
    renderers.is_ready(*NEW)
    renderers.deployed(*NEW)
    assert renderers.proven


def test_a_renderer_that_draws_has_loaded() -> None:
    """A registry that was started again hears of no load."""
    renderers = deployed()
    renderers.draws(*OLD)
    assert not renderers.proven
    renderers.draws(*NEW)
    assert renderers.proven


def held(*, on_device: bool = False, why: str | None = None) -> HeldModel:
    return HeldModel(revision="" if why else NEW[1], on_device=on_device, why=why)


def test_of_several_models_each_renderer_says_where_it_has_them() -> None:
    """One that could not load a model says nothing of the others; one that is silent is gone."""
    renderers = deployed()
    assert renderers.held(0.0) is None
    renderers.holds("a", "tiny", held(why="a tensor is missing"), 0.0)
    assert (renderers.load_error, renderers.held(0.0)) == ("a tensor is missing", None)
    renderers.holds("b", "tiny", held(), 1.0)
    assert (renderers.load_error, renderers.held(1.0)) == (None, "host")
    renderers.holds("a", "tiny", held(why="a tensor is missing"), 2.0)
    assert renderers.load_error is None
    renderers.holds("b", "tiny", held(on_device=True), 3.0)
    assert renderers.held(4.0) == "device"
    assert renderers.held(3.0 + FORGOTTEN_AFTER_S) is None
    renderers.holds("a", "tiny", held(why="a tensor is missing"), 3.0 + FORGOTTEN_AFTER_S)
    assert renderers.load_error == "a tensor is missing"
    renderers.deployed("tiny", "")  # by an ingress that does not see its files
    renderers.failed_to_load("its folder is missing")
    renderers.holds("c", "tiny", held(), 30.0)
    assert renderers.load_error is None


def test_what_a_job_waits_for() -> None:
    renderers = deployed()
    assert renderers.waits_for == "replica"
    renderers.starts_loading()
    assert renderers.waits_for == "model"
    renderers.failed_to_load("a tensor is missing")
    assert renderers.waits_for == "model: a tensor is missing"
    renderers.starts_loading()  # the next try
    assert renderers.waits_for == "model: a tensor is missing"
    renderers.is_ready(*NEW)
    assert renderers.waits_for == "replica"


def test_a_load_error_is_over_when_one_draws_or_others_are_deployed() -> None:
    renderers = deployed()
    renderers.failed_to_load("a tensor is missing")
    renderers.draws(*NEW)
    assert renderers.load_error is None
    renderers.failed_to_load("a tensor is missing")
    renderers.deployed(*NEW)
    assert renderers.load_error == "a tensor is missing", "the same weights"
    renderers.deployed(*OLD)
    assert renderers.load_error is None


async def test_jobs_say_why_the_model_does_not_come(tmp_path: Path) -> None:
    """Those that are launched; and the registry's numbers say it to whoever asks whether it is ready."""
    async with World(tmp_path, {"max_in_flight": 1}) as world:
        order = params()
        world.registry.serves({DEFAULT_POOL: deployed_pool(order.model, order.model_revision)})
        first, second = await world.submit(order), await world.submit(order)
        await world.launched(first)
        world.registry.load_failed("a tensor is missing")
        assert (await world.look(first))["waiting_for"] == "model: a tensor is missing"
        assert (await world.look(second))["waiting_for"] == "turn"
        stats = world.registry.stats()["pools"][DEFAULT_POOL]
        assert (stats["proven"], stats["load_error"]) == (False, "a tensor is missing")
        await world.started(first)
        assert (await world.look(first))["waiting_for"] is None
        stats = world.registry.stats()["pools"][DEFAULT_POOL]
        assert (stats["proven"], stats["load_error"]) == (True, None)
        await world.draw(first)
        await world.draw(second)


async def test_jobs_say_what_the_cluster_lacks(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        world.launcher.lacks = "no node offers 1 GPU"
        job_id = await world.submit()
        await world.launched(job_id)
        assert (await world.look(job_id))["waiting_for"] == "replica: no node offers 1 GPU"
        stats = world.registry.stats()["pools"][DEFAULT_POOL]
        assert stats["lacking"] == "no node offers 1 GPU"
        world.launcher.lacks = None
        world.registry.loading()
        assert (await world.look(job_id))["waiting_for"] == "model"
