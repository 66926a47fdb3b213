"""trim, pad, canvas: where the pixels go, and what follows them."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.finishing.frame import Anchor, Canvas, Pad, Trim, share_of
from serve_app.finishing.picture import EffectFailed, Picture


def dot(width: int = 8, height: int = 6, x: int = 5, y: int = 2) -> Picture:
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[y, x] = (9, 8, 7, 255)
    return Picture(pixels)


def test_trim_leaves_the_subject_and_its_padding() -> None:
    result = Trim(padding=1).apply(dot())
    assert (result.width, result.height) == (3, 3)
    assert result.pixels[1, 1].tolist() == [9, 8, 7, 255]


def test_trim_takes_the_pivot_along() -> None:
    picture = Picture(dot().pixels, pivot=(5.5, 3))
    assert Trim().apply(picture).pivot == (0.5, 1)


def test_trim_says_where_the_subject_was() -> None:
    numbers = Trim().apply(dot()).notes[-1].numbers
    assert (numbers["left"], numbers["top"]) == (5, 2)


def test_trim_leaves_an_empty_picture_as_it_is_and_says_so() -> None:
    empty = Picture(np.zeros((4, 4, 4), np.uint8))
    result = Trim().apply(empty)
    assert (result.width, result.notes[-1].code) == (4, "trim_empty")


def test_trim_can_ignore_faint_pixels() -> None:
    pixels = dot().pixels.copy()
    pixels[0, 0] = (0, 0, 0, 3)
    assert Trim(threshold=8).apply(Picture(pixels)).width == 1


def test_pad_adds_on_every_side() -> None:
    result = Pad(pixels=3).apply(dot())
    assert (result.width, result.height) == (14, 12)
    assert result.pixels[5, 8, 3] == 255


@pytest.mark.parametrize(
    ("anchor", "x", "y"),
    [("top_left", 0, 0), ("center", 1, 1), ("bottom", 1, 3), ("right", 3, 1), ("bottom_right", 3, 3)],
)  # fmt: skip
def test_canvas_puts_the_picture_at_the_anchor(anchor: Anchor, x: int, y: int) -> None:
    result = Canvas(width=4, height=4, anchor=anchor).apply(dot(1, 1, 0, 0))
    assert np.argwhere(result.alpha).tolist() == [[y, x]]


def test_canvas_cuts_what_does_not_fit_and_says_so() -> None:
    result = Canvas(width=4, height=4, anchor="top_right").apply(dot(x=7, y=0))
    assert (result.alpha[0, 3], result.notes[-1].code) == (255, "canvas_cut")


def test_every_anchor_is_a_corner_an_edge_or_the_center() -> None:
    assert share_of("left") == (0, 0.5)
    assert share_of("bottom_right") == (1, 1)


def test_growing_past_the_limit_is_refused_before_memory_is_taken() -> None:
    small = Picture(np.zeros((4, 4, 4), np.uint8), max_pixels=1000)
    with pytest.raises(EffectFailed, match="at most 1,000 pixels"):
        Canvas(width=8192, height=8192).apply(small)
