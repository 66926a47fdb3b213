"""Stepped: a plain call that parks after each step; its bits are the plain call's, and it can be dropped."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from serve_app.engine.model.stepped import Stepped
from tests.engine import tiny

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def pipe() -> Any:
    made = tiny.pipeline()
    made.set_progress_bar_config(disable=True)
    return made


def call(seed: int, steps: int, guidance: float) -> dict[str, Any]:
    return {
        "prompt": "a red sword",
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "width": tiny.SIZE,
        "height": tiny.SIZE,
        "output_type": "pt",
        "generator": torch.Generator("cpu").manual_seed(seed),
    }


def test_calls_that_take_turns_are_those_of_the_plain_pipeline(pipe: Any) -> None:
    """One step each; they have other steps and guidance, and one is dropped on the way."""
    orders = [(1, 4, 5.0), (2, 6, 1.0), (3, 3, 7.3)]
    plain = [pipe(**call(*order)).images for order in orders]
    running = [Stepped(pipe, **call(*order)) for order in orders]
    leaver = Stepped(pipe, **call(9, 50, 5.0))
    while any(not one.done for one in running):
        for one in running:
            if not one.done:
                one.step()
        if leaver.steps < 2:
            leaver.step()
    leaver.drop()
    assert [one.of for one in running] == [4, 6, 3]
    for one, expected in zip(running, plain, strict=True):
        assert torch.equal(one.result.images, expected)
    assert leaver.join(PATIENCE_S)
    assert (leaver.steps, leaver.result) == (2, None)


def test_a_call_that_is_dropped_before_its_first_step_does_nothing(pipe: Any) -> None:
    dropped = Stepped(pipe, **call(1, 4, 5.0))
    dropped.drop()
    assert dropped.join(PATIENCE_S)
    assert (dropped.steps, dropped.result) == (0, None)


def test_what_the_call_raises_is_raised_by_its_step(pipe: Any) -> None:
    """And it is over."""
    wrong = Stepped(pipe, **{**call(1, 4, 5.0), "width": 33})
    with pytest.raises(ValueError, match="divisible by 8"):
        wrong.step()
    assert wrong.done
    assert wrong.join(PATIENCE_S)
