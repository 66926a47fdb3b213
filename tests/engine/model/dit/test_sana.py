"""Sana is drawn like its pipeline."""

from __future__ import annotations

import pytest

from tests.engine.model.dit import tiny
from tests.engine.model.dit.harness import compare, order

ORDERS = [
    order(negative_prompt="blurry", guidance_scale=4.5, scheduler="flow_dpmpp_2m"),
    order(prompt="a blue shield", steps=4, seed=3, guidance_scale=7.3, scheduler="flow_dpmpp_2m"),
    order(guidance_scale=1.0, seed=4, steps=2, scheduler="flow_dpmpp_2m"),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_from_prompt_to_pixels(dtype: str) -> None:
    """Alone bit by bit, and beside others; sizes as they were ordered."""
    parts = tiny.loaded("sana", dtype=dtype)
    assert compare(parts, ORDERS)[0] == 2
