"""Qwen-Image is drawn like its pipeline."""

from __future__ import annotations

import pytest

from tests.engine.model.dit import tiny
from tests.engine.model.dit.harness import compare, order

ORDERS = [
    order(negative_prompt="blurry", guidance_scale=4.0),
    order(prompt="a blue shield of stone", steps=4, seed=3, guidance_scale=7.3),
    order(guidance_scale=1.0, seed=4, steps=2),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_from_prompt_to_pixels(dtype: str) -> None:
    """Alone bit by bit, branch by branch; beside others, whose texts have other lengths, packed."""
    parts = tiny.loaded("qwen_image", dtype=dtype)
    assert compare(parts, ORDERS)[:2] == [1, 1]
