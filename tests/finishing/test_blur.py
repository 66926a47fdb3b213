"""A Gaussian blur of numbers: its shape, its sum and its edges."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.finishing.blur import blurred


def test_a_point_becomes_a_bell_of_that_width() -> None:
    """The sum stays, both axes are alike, and the standard deviation is what was asked for."""
    point = np.zeros((41, 41), np.float32)
    point[20, 20] = 1
    bell = blurred(point, 3.0)
    assert bell.sum() == pytest.approx(1, abs=1e-5)
    assert np.allclose(bell, bell.T)
    away = np.arange(-20, 21)
    assert np.sqrt((bell.sum(axis=0) * away**2).sum()) == pytest.approx(3.0, rel=0.03)


def test_each_channel_is_blurred_by_itself_and_an_even_field_stays_even() -> None:
    """Edges go on as they end, so nothing darkens there."""
    even = np.broadcast_to(np.array([0.2, 0.7], np.float32), (9, 5, 2))
    assert np.allclose(blurred(even, 2.0), even)


def test_no_width_changes_nothing() -> None:
    values = np.random.default_rng(0).random((4, 6), np.float32)
    assert blurred(values, 0) is values
