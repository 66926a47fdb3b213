"""Stable Diffusion 3 and 3.5 are drawn like their pipeline."""

from __future__ import annotations

import pytest

from tests.engine.model.dit import tiny
from tests.engine.model.dit.harness import compare, order

ORDERS = [
    order(negative_prompt="blurry", guidance_scale=4.5),
    order(prompt="a blue shield", steps=4, seed=3, guidance_scale=7.3),
    order(guidance_scale=1.0, seed=4, steps=2),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_from_prompt_to_pixels(dtype: str) -> None:
    """Alone bit by bit, and beside others of other steps, with guidance and without."""
    parts = tiny.loaded("sd3", dtype=dtype)
    assert compare(parts, ORDERS)[0] == 2
