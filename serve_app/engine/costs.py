"""CostTable: how long a UNet call of n rows takes at each image size, and how many rows should share one.

Knows seconds and counts only. It is measured at warm-up and refined with every call of the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from serve_app.engine.request import Request

Size = tuple[int, int]  # width, height in pixels

PACE_RATE = 0.3  # share of a call's relative error by which all estimates of its size are corrected
SHAPE_RATE = 0.1  # share by which the estimate of its own row count is corrected on top of that
UNUSED_DECAY = 0.00002
"""Each call lowers the estimates of unused batch sizes slightly, so they get tried again."""
EXPECTED_PER_WAITING = 1.5  # rows to plan for per row in line: where requests wait, more arrive
OUTLIER = 3.0  # a call this many times slower than estimated was disturbed, and is ignored
OUTLIERS = 5  # after so many in a row the device has become slower, and they are believed


class CostTable:
    """`measured[n]` seconds per call of n rows at `native` size; other sizes scale with pixels."""

    def __init__(self, native: Size, measured: Mapping[int, float], *, decode: float = 0.0) -> None:
        if not measured or min(measured.values()) <= 0:
            raise ValueError("a cost table needs at least one positive measurement")
        self.native = native
        self._measured = sorted(measured)
        self._calls: dict[Size, dict[int, float]] = {native: _subadditive(measured)}
        self._decode: dict[Size, float] = {native: decode}
        self._outliers = 0  # in a row

    def seconds(self, size: Size, rows: int) -> float:
        """Predicted seconds of one call, interpolated linearly between the measured row counts.

        Larger counts are extrapolated. A size without measurements scales the native size by pixels.
        """
        known = self._calls.get(size)
        if known is None:
            return self.seconds(self.native, rows) * _pixels(size) / _pixels(self.native)
        if rows in known:
            return known[rows]
        counts = sorted(known)
        if len(counts) == 1 or rows < counts[0]:
            return known[counts[0]] * rows / counts[0]
        above = next((i for i, n in enumerate(counts) if n > rows), len(counts) - 1)
        low, high = counts[above - 1], counts[above]
        slope = (known[high] - known[low]) / (high - low)
        return max(known[low] + slope * (rows - low), known[counts[0]])

    def decode_seconds(self, size: Size, images: int = 1) -> float:
        """Predicted seconds of one VAE call that decodes `images` images."""
        known = self._decode.get(size)
        if known is None:
            known = self._decode[self.native] * _pixels(size) / _pixels(self.native)
        return known * images

    def solo_seconds(self, request: Request, width: int = 1) -> float:
        """Seconds that `width` requests like this one still need, sharing all calls, if nothing else runs."""
        guided = max(0, request.guided_evaluations - request.step)
        plain = request.evaluations - request.step - guided
        size = request.size
        return (
            guided * self.seconds(size, 2 * width)
            + plain * self.seconds(size, width)
            + self.decode_seconds(size, width)
        )

    def worth_sharing(
        self, size: Size, line: Sequence[int], limit: int, left: Sequence[int] | None = None
    ) -> int:
        """How many of the requests in line should share the next call: 1 or more, from the first on.

        `line`: rows that each needs. `left`: evaluations that each still has. `limit`: rows per call.

        A wide call makes the first request wait for the others, a narrow one makes the others wait
        for the first. If k rows are served at a time and a call takes c(k), m rows finish after
        (m + k) / 2 x c(k) / k seconds on average; the k with the smallest average is chosen. With one
        request, or when sharing saves nothing, that is the first request alone, so this is never slower
        than one at a time.

        While one call could hold the whole line, a row with more than twice the evaluations of the first
        request counts for less, in proportion: a short request should not wait for long ones. In a
        longer line every row counts the same, because the device's throughput then decides how late all
        of them are.
        """
        worth: list[float] = list(line)
        if left and sum(line) <= limit:
            worth = [min(1.0, 2 * left[0] / n) for n in left]
        expected = worth[0] + EXPECTED_PER_WAITING * sum(worth[1:])
        widths = [k for k in accumulate(line) if k <= limit] or [line[0]]
        cost = [
            (expected + w) * self.seconds(size, k) / w
            for k, w in zip(widths, accumulate(worth), strict=False)
        ]
        return 1 + cost.index(min(cost))

    def knee(self, size: Size, limit: int) -> int:
        """The fewest rows whose cost per row is within 5 % of the best up to `limit`."""
        per_row = {n: self.seconds(size, n) / n for n in range(1, limit + 1)}
        best = min(per_row.values())
        return next(n for n, seconds in per_row.items() if seconds <= 1.05 * best)

    def observe(self, size: Size, rows: int, seconds: float) -> None:
        """Learn from one call, which took `seconds`.

        All row counts of the size move together, because the device may have become faster or slower:
        if only the count that ran moved, the others would look expensive or cheap in comparison.
        """
        known = self._calls.setdefault(size, {n: self.seconds(size, n) for n in self._measured})
        known.setdefault(rows, self.seconds(size, rows))
        ratio = seconds / known[rows]
        self._outliers = 0 if ratio < OUTLIER else self._outliers + 1
        if ratio <= 0 or 0 < self._outliers < OUTLIERS:
            return
        for n in known:
            known[n] *= 1 + PACE_RATE * (ratio - 1) - UNUSED_DECAY * (n != rows)
        known[rows] += SHAPE_RATE * (seconds - known[rows])

    def observe_decode(self, size: Size, images: int, seconds: float) -> None:
        """Learn from one VAE call."""
        each = seconds / images
        known = self._decode.get(size)
        self._decode[size] = each if not known else known + PACE_RATE * (each - known)

    def as_dict(self) -> dict[str, dict[int, float]]:
        """Milliseconds by size and row count, for `stats`."""
        return {
            f"{width}x{height}": {n: round(s * 1000, 3) for n, s in sorted(known.items())}
            for (width, height), known in self._calls.items()
        }


def _subadditive(measured: Mapping[int, float]) -> dict[int, float]:
    """Bound each measurement by the cost of smaller calls that would do the same work.

    A call that was measured slower than its parts was disturbed.
    """
    bounded: dict[int, float] = {}
    for rows in sorted(measured):
        split = (rows / fewer * seconds for fewer, seconds in bounded.items())
        bounded[rows] = min(measured[rows], *split, float("inf"))
    return bounded


def _pixels(size: Size) -> int:
    return size[0] * size[1]
