"""FLUX.2 klein, distilled or not, is drawn like its pipeline."""

from __future__ import annotations

import pytest

from tests.engine.model.dit import tiny
from tests.engine.model.dit.harness import compare, order

ORDERS = [
    order(guidance_scale=4.0),
    order(prompt="a blue shield", steps=4, seed=3, guidance_scale=7.3),
    order(guidance_scale=1.0, seed=4, steps=2),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("path", ["flux2", "klein"])
def test_from_prompt_to_pixels(path: str, dtype: str) -> None:
    """Alone bit by bit, branch by branch; beside others packed. A distilled one has no second branch."""
    parts = tiny.loaded("flux2", path, dtype)
    assert compare(parts, ORDERS)[0] == 1
