"""What ControlNets read: edges where brightness changes, lines where it is darker than around."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serve_app.engine.controls import PREPARE, canny, lineart


def square(size: int = 40, inside: int = 255) -> np.ndarray[Any, np.dtype[np.uint8]]:
    picture = np.zeros((size, size, 3), np.uint8)
    picture[10:30, 10:30] = inside
    return picture


def test_edges_of_a_square_are_a_thin_closed_line() -> None:
    edges = canny(square())
    assert set(np.unique(edges)) == {0, 255}
    assert (edges == edges[..., :1]).all()
    line = edges[..., 0] > 0
    assert not line[12:28, 12:28].any()
    assert not line[:8].any()
    for row in line[14:26]:
        assert row.sum() == 2  # one pixel wide, on both sides
    assert line.sum() == pytest.approx(4 * 20, abs=6)


def test_equal_brightness_of_other_colours_has_an_edge() -> None:
    """Of the three colours the strongest counts."""
    picture = np.zeros((20, 20, 3), np.uint8)
    picture[:, :10, 0] = picture[:, 10:, 2] = 200
    assert (canny(picture)[2:-2, 8:12, 0] > 0).any(axis=1).all()


def test_a_weak_edge_counts_only_where_it_goes_on_from_a_strong_one() -> None:
    weak = square(inside=30)  # between both thresholds: 4 x 30, at corners 6 x 30
    assert not canny(weak).any()
    joined = weak.copy()
    joined[10:20, 10:30] = 255
    line = canny(joined)[..., 0] > 0
    assert line[25, 8:12].any()
    assert line[25, 28:32].any()


def test_noise_and_long_lines_take_no_time() -> None:
    """A weak spiral is followed to its end, however long it is."""
    picture = np.zeros((256, 256, 3), np.uint8)
    for i in range(4, 124, 8):
        picture[i : 256 - i, i : 256 - i] = 35
        picture[i + 4 : 252 - i, i + 4 : 252 - i] = 0
    picture[4, 4] = 255
    assert canny(picture)[4:250, 2:6].any()


def test_lines_are_where_it_is_darker_than_around() -> None:
    """White on black, and stretched: a faint drawing is as well seen as a strong one."""
    found: list[float] = []
    for ink in (0, 150):
        paper = np.full((64, 64, 3), 255, np.uint8)
        paper[30:33] = ink
        lines = lineart(paper)[..., 0]
        assert lines[31, 10:-10].min() > 100
        assert not lines[:8].any()
        found.append(float(lines[31].mean()))
    assert abs(found[0] - found[1]) < 30
    assert not lineart(np.full((16, 16, 3), 90, np.uint8)).any()


@pytest.mark.parametrize("name", PREPARE)
def test_each_keeps_the_size_and_changes_nothing_it_was_given(name: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    before = picture.copy()
    made = PREPARE[name](picture)
    assert (made.shape, made.dtype) == (picture.shape, np.uint8)
    assert np.array_equal(picture, before)
    assert name != "none" or np.array_equal(made, picture)
