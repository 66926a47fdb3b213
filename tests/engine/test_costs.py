"""The cost table: what it predicts, how it learns, and how many requests it lets share a call."""

from __future__ import annotations

import pytest

from serve_app.engine.costs import CostTable
from serve_app.engine.request import Request
from tests.factories import params

SIZE = (32, 32)


# ---- predictions ----


def test_between_measured_counts_costs_are_interpolated() -> None:
    """Beyond the largest one the last slope goes on; below the smallest they are proportional."""
    costs = CostTable(SIZE, {2: 1.0, 4: 2.0, 8: 3.0})
    assert [costs.seconds(SIZE, n) for n in (1, 3, 6, 12)] == [0.5, 1.5, 2.5, 4.0]


def test_a_measurement_above_the_cost_of_smaller_calls_is_corrected() -> None:
    """Two calls of 2 rows do the work of 4 in 2 s, so a call of 4 that took 9 s was disturbed."""
    costs = CostTable(SIZE, {1: 1.0, 2: 1.0, 4: 9.0})
    assert costs.seconds(SIZE, 4) == 2.0


@pytest.mark.parametrize("measured", [{}, {1: 0.0}, {1: 1.0, 2: -1.0}])
def test_a_table_needs_positive_measurements(measured: dict[int, float]) -> None:
    """Zero seconds would make every comparison of costs meaningless."""
    with pytest.raises(ValueError, match="positive"):
        CostTable(SIZE, measured)


def test_solo_seconds_count_what_is_left() -> None:
    """Guided evaluations take two rows, the rest one; decoding comes last."""
    costs = CostTable(SIZE, {1: 1.0, 2: 1.5, 4: 2.0}, decode=0.25)
    request = Request(params(steps=4, guidance_stop=0.5), 0, 0, guided=True)
    assert costs.solo_seconds(request) == 2 * 1.5 + 2 * 1.0 + 0.25
    assert costs.solo_seconds(request, width=2) == 2 * 2.0 + 2 * 1.5 + 0.5
    request.step = 3
    assert costs.solo_seconds(request) == 1.0 + 0.25


def test_the_knee_is_where_more_rows_save_little() -> None:
    """The fewest rows within 5 % of the best cost per row, up to the limit."""
    costs = CostTable(SIZE, {1: 1.0, 2: 1.2, 4: 2.0, 8: 3.9})
    assert costs.knee(SIZE, 8) == 4
    assert costs.knee(SIZE, 2) == 2


def test_costs_are_shown_in_milliseconds() -> None:
    """By size and row count."""
    assert CostTable(SIZE, {1: 0.5, 2: 0.75}).as_dict() == {"32x32": {1: 500.0, 2: 750.0}}


# ---- sharing ----


def test_narrow_calls_for_a_short_line_wide_calls_for_a_long_one() -> None:
    """Where sharing is at most 1.2 times as fast, two requests take turns and many share."""
    costs = CostTable(SIZE, {1: 1.0, 2: 1.7, 4: 3.0, 8: 5.7})
    assert costs.worth_sharing(SIZE, [2, 2], 16) == 1
    assert costs.worth_sharing(SIZE, [2] * 16, 16) >= 2


def test_a_short_request_does_not_wait_for_long_ones_unless_the_line_is_long() -> None:
    """Four evaluations beside thirty: alone while few wait, shared when the line exceeds one call."""
    costs = CostTable(SIZE, {1: 35.0, 2: 49.0, 4: 71.0, 8: 113.0, 16: 204.0})
    assert costs.worth_sharing(SIZE, [1, 2, 2], 16, [4, 30, 30]) == 1
    assert costs.worth_sharing(SIZE, [1, 1, 1, 1, 2], 16, [4, 4, 4, 4, 30]) == 4
    assert costs.worth_sharing(SIZE, [1] + [2] * 6, 16, [4] + [30] * 6) == 1
    assert costs.worth_sharing(SIZE, [1] + [2] * 8, 16, [4] + [30] * 8) > 1


def test_where_sharing_saves_nothing_requests_take_turns() -> None:
    """With c(n) = n x c(1) every call holds one request, however many wait."""
    costs = CostTable(SIZE, {1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0})
    for waiting in (1, 4, 32):
        assert costs.worth_sharing(SIZE, [2] * waiting, 16) == 1


def test_the_limit_bounds_a_call_but_never_its_first_request() -> None:
    """A limit below the rows of one request still lets it run."""
    costs = CostTable(SIZE, {1: 1.0, 64: 1.001})
    assert costs.worth_sharing(SIZE, [2, 2, 1, 2], 5) == 3
    assert costs.worth_sharing(SIZE, [2, 1], 1) == 1


# ---- learning ----


def test_one_disturbed_call_changes_nothing_and_a_steady_change_moves_every_count() -> None:
    """A device that is slower for one row count is slower for the others too."""
    costs = CostTable(SIZE, {1: 1.0, 2: 1.5})
    costs.observe(SIZE, 1, 10.0)
    assert costs.seconds(SIZE, 1) == 1.0
    for _ in range(50):
        costs.observe(SIZE, 1, 2.0)
    assert costs.seconds(SIZE, 1) == pytest.approx(2.0, abs=0.01)
    assert costs.seconds(SIZE, 2) > 1.7


def test_a_device_that_stays_much_slower_is_believed() -> None:
    """A few outliers in a row are no disturbance any more."""
    costs = CostTable(SIZE, {1: 1.0, 2: 1.5})
    for _ in range(60):
        costs.observe(SIZE, 1, 10.0)
    assert costs.seconds(SIZE, 1) == pytest.approx(10.0, rel=0.05)


def test_a_bad_measurement_at_warm_up_is_corrected() -> None:
    """Unused counts are tried again after a while, so sharing starts where it is worth it."""
    costs = CostTable(SIZE, {1: 1.0, 2: 1.3, 4: 40.0})
    line = [2] * 8
    assert costs.worth_sharing(SIZE, line, 4) == 1
    for _ in range(8000):
        rows = 2 * costs.worth_sharing(SIZE, line, 4)
        costs.observe(SIZE, rows, {2: 1.3, 4: 1.8}[rows])
    assert costs.worth_sharing(SIZE, line, 4) == 2


def test_an_unmeasured_size_starts_from_the_native_one() -> None:
    """Costs scale with pixels until the size has been measured."""
    costs = CostTable(SIZE, {1: 1.0, 2: 1.5})
    wide = (64, 32)
    assert costs.seconds(wide, 2) == pytest.approx(3.0)
    for _ in range(100):
        costs.observe(wide, 1, 4.0)
    assert costs.seconds(wide, 1) == pytest.approx(4.0, abs=0.01)
    assert costs.seconds(SIZE, 1) == 1.0


def test_decoding_is_learned_apart() -> None:
    """Per image and size; an unmeasured size scales with pixels."""
    costs = CostTable(SIZE, {1: 1.0}, decode=1.0)
    assert costs.decode_seconds((64, 32), 3) == 6.0
    costs.observe_decode((64, 32), 2, 8.0)
    assert costs.decode_seconds((64, 32)) == 4.0
    costs.observe_decode((64, 32), 1, 5.0)
    assert costs.decode_seconds((64, 32)) == pytest.approx(4.3)
    assert costs.decode_seconds(SIZE) == 1.0
