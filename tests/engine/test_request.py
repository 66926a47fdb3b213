"""One image in the engine: its keys, and what is derived from its counters."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from serve_app.catalog.schedulers import DIFFUSION
from serve_app.engine.model.trajectory import new_scheduler
from serve_app.engine.request import (
    CARRIED,
    RECORDED,
    BatchKey,
    DecodeKey,
    Request,
    evaluations_of,
)
from serve_app.params import GenerationParams
from tests.engine import tiny
from tests.factories import params


def test_every_parameter_is_in_the_key_or_carried_or_only_recorded() -> None:
    """A new field of GenerationParams fails here until someone decides where it belongs."""
    keyed = {field.name for field in fields(DecodeKey)} - {"windows"}
    assert set(GenerationParams.model_fields) == keyed | CARRIED | RECORDED
    assert not keyed & CARRIED
    assert not (keyed | CARRIED) & RECORDED


@pytest.mark.parametrize(
    ("changes", "calls_shared"),
    [
        ({"seed": 9, "steps": 3, "guidance_scale": 1.0, "scheduler": "ddim"}, 2),
        ({"decoder": "tiny"}, 1),
        ({"width": 40}, 0),
        ({"tile": "x"}, 0),
        ({"loras": ({"name": "ink"},)}, 0),
        ({"model_revision": "1" * 12}, 0),
        ({"reproducible": "strict"}, 0),
    ],
)
def test_keys_say_which_calls_may_be_shared(changes: dict[str, Any], calls_shared: int) -> None:
    """2: UNet and VAE calls; 1: UNet calls only; 0: none."""
    one, other = params(), params(**changes)
    equal = BatchKey.of(one) == BatchKey.of(other), DecodeKey.of(one) == DecodeKey.of(other)
    assert sum(equal) == calls_shared
    assert equal[0] or not equal[1]


@pytest.mark.parametrize("scheduler", DIFFUSION)
@pytest.mark.parametrize("steps", [4, 7])
def test_evaluations_are_those_of_diffusers(scheduler: str, steps: int) -> None:
    """The prediction equals the number of timesteps that the diffusers class then makes."""
    made = new_scheduler(tiny.scheduler().config, scheduler)
    made.set_timesteps(steps)
    assert evaluations_of(scheduler, steps) == len(made.timesteps)


def test_rows_follow_the_guided_share_of_the_evaluations() -> None:
    """Two rows while it is guided; the share is rounded up to whole evaluations."""
    request = Request(params(steps=5, guidance_stop=0.5), 0, 0, guided=True)
    rows: list[int] = []
    while not request.denoised:
        rows.append(request.rows)
        request.step += 1
    assert rows == [2, 2, 2, 1, 1]


def test_without_guidance_there_is_one_row() -> None:
    """Also where guidance is an input of the UNet: then `guided` is false although the scale is above 1."""
    request = Request(params(guidance_scale=8.0), 0, 0, guided=False)
    assert (request.rows, request.guided_evaluations) == (1, 0)


def test_each_image_has_its_own_seed() -> None:
    """Image i of a job is drawn with seed + i."""
    assert [Request(params(seed=7, n=3), i, 0, guided=True).seed for i in range(3)] == [7, 8, 9]


def test_who_shares_no_call() -> None:
    """Strict requests, and those that were in a call that failed."""
    plain, strict = (Request(params(reproducible=r), 0, 0, guided=True) for r in (None, "strict"))
    assert (plain.own_call, strict.own_call) == (False, True)
    plain.suspect = True
    assert plain.own_call
