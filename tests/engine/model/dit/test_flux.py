"""FLUX.1 dev and schnell are drawn like their pipeline."""

from __future__ import annotations

import pytest

from tests.engine.model.dit import tiny
from tests.engine.model.dit.harness import compare, order

ORDERS = [
    order(guidance_scale=3.5),
    order(prompt="a blue shield", steps=4, seed=3, guidance_scale=7.3),
    order(guidance_scale=1.0, seed=4, steps=2),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("path", ["flux", "schnell"])
def test_from_prompt_to_pixels(path: str, dtype: str) -> None:
    """Alone bit by bit, and beside others of other steps and guidance, which is an input and no row."""
    parts = tiny.loaded("flux", path, dtype)
    assert compare(parts, ORDERS)[0] == 1
