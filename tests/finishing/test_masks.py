"""Masks: components, growing and nearest pixels, against definitions written out."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from serve_app.finishing.masks import components, dilate, disc, nearest
from serve_app.finishing.picture import Mask

MASKS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def filled(mask: Mask, y: int, x: int) -> Mask:
    """Everything connected to (y, x), by walking."""
    seen = np.zeros_like(mask)
    todo = [(y, x)]
    while todo:
        y, x = todo.pop()
        if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and not seen[y, x]:
            seen[y, x] = True
            todo += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    return seen


@settings(deadline=None)
@given(MASKS)
def test_a_component_is_what_can_be_walked_to(mask: Mask) -> None:
    parts = components(mask)
    assert (parts.labels == -1).tolist() == (~mask).tolist()
    for y, x in np.argwhere(mask):
        walked = filled(mask, y, x)
        assert np.array_equal(parts.labels == parts.labels[y, x], walked)
        assert parts.sizes[parts.labels[y, x]] == walked.sum()


@settings(deadline=None)
@given(MASKS)
def test_a_component_touches_the_border_if_one_of_its_pixels_does(mask: Mask) -> None:
    parts = components(mask)
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1] = True
    for label, touches in enumerate(parts.touching_border()):
        assert touches == ((parts.labels == label) & ~inner).any()


def test_a_long_winding_mask_is_one_component() -> None:
    """A comb upside down: hundreds of runs that meet in the last row only."""
    mask = np.zeros((300, 301), bool)
    mask[:, ::2] = True
    mask[-1] = True
    assert components(mask).sizes.tolist() == [mask.sum()]


@settings(deadline=None)
@given(MASKS, st.integers(1, 5))
def test_nearest_finds_the_nearest_pixel_within_the_radius(mask: Mask, radius: int) -> None:
    distance, index = nearest(mask, radius)
    there = np.argwhere(mask)
    for y, x in np.ndindex(mask.shape):
        squares = ((there - (y, x)) ** 2).sum(axis=1)
        if len(there) and squares.min() <= radius**2:
            assert distance[y, x] == np.float32(np.sqrt(squares.min()))
            assert mask.flat[index[y, x]]
            found = divmod(int(index[y, x]), mask.shape[1])
            assert ((np.array(found) - (y, x)) ** 2).sum() == squares.min()
        else:
            assert np.isinf(distance[y, x])
            assert index[y, x] == -1


def test_dilate_grows_to_four_neighbours_or_eight() -> None:
    dot = np.zeros((5, 5), bool)
    dot[2, 2] = True
    assert dilate(dot).sum() == 5
    assert dilate(dot, diagonal=True).sum() == 9


def test_a_disc_lists_its_offsets_nearest_first() -> None:
    assert disc(1) == [(0, 0), (-1, 0), (0, -1), (0, 1), (1, 0)]
