"""Colours as eyes compare them: published values of OKLab, nearest colours, and palettes."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.finishing.colors import elbow, nearest_color, oklab, quantized, unique_colors


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((255, 255, 255), (1.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (0.628, 0.225, 0.126)),  # as CSS Color 4 gives them
        ((0, 255, 0), (0.866, -0.234, 0.180)),
        ((0, 0, 255), (0.452, -0.032, -0.312)),
    ],
)
def test_oklab_has_the_published_values(
    rgb: tuple[int, int, int], lab: tuple[float, float, float]
) -> None:
    assert oklab(np.array([rgb], np.uint8))[0] == pytest.approx(lab, abs=0.001)


def test_the_nearest_colour_is_found_and_the_first_wins_a_tie() -> None:
    palette = oklab(np.array([[0, 0, 0], [250, 0, 0], [0, 0, 0]], np.uint8))
    index, distance = nearest_color(oklab(np.array([[255, 0, 0], [9, 9, 9]], np.uint8)), palette)
    assert list(index) == [1, 0]
    assert distance[0] < 0.001


def test_few_colours_are_kept_exactly() -> None:
    rgb = np.array([[1, 2, 3], [200, 100, 50], [1, 2, 3]], np.uint8)
    palette, error = quantized(rgb, 2)
    assert (palette.tolist(), error) == ([[1, 2, 3], [200, 100, 50]], 0.0)


def test_groups_of_colours_become_one_each() -> None:
    """Three clouds of 200 colours: their means, whatever the number of pixels in each."""
    draw = np.random.default_rng(0)
    means = np.array([[30, 30, 30], [120, 200, 40], [220, 60, 180]])
    clouds = [m + draw.integers(-4, 5, (200 * (i + 1), 3)) for i, m in enumerate(means)]
    palette, error = quantized(np.concatenate(clouds).astype(np.uint8), 3)
    assert np.abs(palette.astype(int) - means).max() <= 1
    assert error < 0.02


def test_as_many_colours_are_taken_as_the_eye_needs() -> None:
    """A grey ramp needs more than 4; with two colours two are enough."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    palette, error = elbow(ramp)
    assert 4 < len(palette) <= 64
    assert error <= 0.025
    assert len(elbow(ramp[[0, 255]])[0]) == 2


def test_colours_are_counted() -> None:
    rgb = np.array([[9, 0, 0], [0, 0, 9], [9, 0, 0]], np.uint8)
    colors, number, counts = unique_colors(rgb)
    assert (colors.tolist(), number.tolist(), counts.tolist()) == (
        [[0, 0, 9], [9, 0, 0]],
        [1, 0, 1],
        [1, 2],
    )
