"""One picture over another: the formula of Porter and Duff, with straight alpha."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.finishing.layers import over

RED, BLUE = (255, 0, 0), (0, 0, 255)


def pixel(color: tuple[int, int, int], alpha: int) -> np.ndarray:
    return np.array([[[*color, alpha]]], np.uint8)


@pytest.mark.parametrize(
    ("top", "bottom", "result"),
    [
        (pixel(RED, 255), pixel(BLUE, 255), (255, 0, 0, 255)),
        (pixel(RED, 0), pixel(BLUE, 100), (0, 0, 255, 100)),
        (pixel(RED, 100), pixel(BLUE, 0), (255, 0, 0, 100)),
        (pixel(RED, 51), pixel(BLUE, 255), (51, 0, 204, 255)),  # a fifth of red
        (pixel(RED, 128), pixel(BLUE, 128), (170, 0, 85, 192)),  # colours weighed by what shows
        (pixel(RED, 0), pixel(BLUE, 0), (0, 0, 0, 0)),
    ],
)
def test_colours_and_alpha_are_mixed(
    top: np.ndarray, bottom: np.ndarray, result: tuple[int, ...]
) -> None:
    assert tuple(over(top, bottom)[0, 0]) == result
