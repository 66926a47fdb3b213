"""MaxRects: nothing overlaps, nothing is lost, little is wasted."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import rectpack
from hypothesis import given
from hypothesis import strategies as st

from serve_app.delivery.maxrects import Bin, Size, _without, pack

SIZES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=40)


def area(bins: list[Bin]) -> int:
    return sum(one.width * one.height for one in bins)


@given(SIZES, st.integers(0, 5), st.booleans())
def test_each_rectangle_has_its_place_with_a_gap_to_all_others(
    sizes: list[Size], gap: int, power_of_two: bool
) -> None:
    bins = pack(sizes, 64, gap, power_of_two)
    assert sorted(i for one in bins for i in one.places) == list(range(len(sizes)))
    for one in bins:
        taken = [(x, y, x + sizes[i][0], y + sizes[i][1]) for i, (x, y) in one.places.items()]
        assert all(
            left >= 0 and top >= 0 and right <= one.width and bottom <= one.height
            for left, top, right, bottom in taken
        )
        assert all(
            a[2] + gap <= b[0] or b[2] + gap <= a[0] or a[3] + gap <= b[1] or b[3] + gap <= a[1]
            for n, a in enumerate(taken)
            for b in taken[:n]
        )


@given(SIZES, st.booleans())
def test_no_page_is_larger_than_allowed(sizes: list[Size], power_of_two: bool) -> None:
    bins = pack(sizes, 64, 2, power_of_two)
    assert all(max(one.width, one.height) <= 64 for one in bins)


@given(SIZES)
def test_a_page_of_a_power_of_two_is_one(sizes: list[Size]) -> None:
    for one in pack(sizes, 64, 1, power_of_two=True):
        assert one.width.bit_count() == one.height.bit_count() == 1


@given(st.lists(st.tuples(*[st.integers(0, 15)] * 4), max_size=8))
def test_free_rectangles_cover_all_that_is_free_and_none_lies_within_another(
    taken: list[tuple[int, int, int, int]],
) -> None:
    free = np.array([[0, 0, 16, 16]], dtype=np.int64)
    wanted = np.ones((16, 16), bool)
    for x, y, w, h in taken:
        free = _without(free, x, y, x + w + 1, y + h + 1)
        wanted[y : y + h + 1, x : x + w + 1] = False
    seen = np.zeros((16, 16), bool)
    for left, top, right, bottom in free:
        seen[top:bottom, left:right] = True
    assert np.array_equal(seen, wanted)
    assert not any(
        (one[:2] >= other[:2]).all() and (one[2:] <= other[2:]).all()
        for i, one in enumerate(free)
        for j, other in enumerate(free)
        if i != j
    )


@given(SIZES, st.integers(0, 5))
def test_equal_sizes_in_give_equal_pages_out(sizes: list[Size], gap: int) -> None:
    assert pack(sizes, 64, gap, False) == pack(sizes, 64, gap, False)


def test_a_rectangle_of_the_largest_size_fills_a_page() -> None:
    assert pack([(64, 64)], 64, 5, False) == [Bin(64, 64, {0: (0, 0)})]


def test_a_page_is_no_strip() -> None:
    [page] = pack([(20 + i, 30) for i in range(40)], 4096, 0, False)
    assert max(page.width, page.height) < 2.5 * min(page.width, page.height)


def test_what_one_page_holds_is_not_spread_over_two() -> None:
    assert len(pack([(32, 32)] * 4, 64, 0, False)) == 1


def test_pages_are_no_more_than_rectpack_needs() -> None:
    r = random.Random(7)
    sizes = [(r.randint(8, 64), r.randint(8, 64)) for _ in range(120)]
    oracle: Any = rectpack.newPacker(rotation=False)
    for size in sizes:
        oracle.add_rect(*size)
    oracle.add_bin(128, 128, count=99)
    oracle.pack()
    assert len(pack(sizes, 128, 0, False)) <= len(oracle)


@pytest.mark.parametrize("seed", range(4))
def test_a_page_is_no_larger_than_the_smallest_square_that_rectpack_finds(seed: int) -> None:
    r = random.Random(seed)
    sizes = [(r.randint(8, 96), r.randint(8, 96)) for _ in range(60)]
    assert area(pack(sizes, 4096, 0, False)) <= smallest_square(sizes) ** 2


def smallest_square(sizes: list[Size]) -> int:
    """Side, over rectpack's MaxRects rules; steps of one pixel up from what the area needs."""
    rules: list[Any] = [rectpack.MaxRectsBaf, rectpack.MaxRectsBssf, rectpack.MaxRectsBl]
    side = int(sum(width * height for width, height in sizes) ** 0.5)
    while True:
        for rule in rules:
            oracle: Any = rectpack.newPacker(rotation=False, pack_algo=rule)
            for size in sizes:
                oracle.add_rect(*size)
            oracle.add_bin(side, side)
            oracle.pack()
            if len(oracle.rect_list()) == len(sizes):
                return side
        side += 1
