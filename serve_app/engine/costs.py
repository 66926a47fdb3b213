"""CostTable: what a UNet call of n rows costs per size, and how many rows are worth sharing one.

Knows seconds and counts only. Measured at warm-up, refined with every call while the engine runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from serve_app.engine.request import Request

Size = tuple[int, int]

PACE_RATE = 0.3  # how fast the whole table follows the device
SHAPE_RATE = 0.1  # how fast one count's place in it follows
CURIOSITY = 0.00002  # per call, counts that were not run look cheaper, until they are tried again
EXPECTED = 1.5  # rows to plan for per row that waits: where there is a line, more will come
OUTLIER = 3.0  # a call this many times slower than known was disturbed by something else
OUTLIERS = 5  # so many in a row are no disturbance: the device has become slower


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
        """Predicted seconds of one call; straight lines between (and beyond) the known counts."""
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
        known = self._decode.get(size)
        if known is None:
            known = self._decode[self.native] * _pixels(size) / _pixels(self.native)
        return known * images

    def solo_seconds(self, request: Request, width: int = 1) -> float:
        """What is left of `width` such requests in shared calls, if they had the device to themselves."""
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
        """How many of the requests in line should share the next call; at least the first.

        `line` rows each needs, `left` evaluations each still has. A wide call keeps the first request
        waiting for the others; a narrow one keeps the others waiting for the first. Served k rows at
        a time, m rows finish after (m + k) / 2 x c(k) / k on average, so take the k that makes this
        least. With no line, or nothing to gain from sharing, that is the first request alone: never
        slower than one at a time. While one call could hold the line, a request with little left does
        not wait for those with more than twice as much: they count for as much less. In a longer line
        every row counts the same, for then the device's rate decides how late everybody is.
        """
        worth: list[float] = list(line)
        if left and sum(line) <= limit:
            worth = [min(1.0, 2 * left[0] / n) for n in left]
        expected = worth[0] + EXPECTED * sum(worth[1:])
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
        """Learn from one call. A faster or slower device moves all counts of the size together:

        if only the count that was run moved, the others would look dear or cheap for no reason.
        And what was measured while something else disturbed the device must not stand for ever.
        """
        known = self._calls.setdefault(size, {n: self.seconds(size, n) for n in self._measured})
        known.setdefault(rows, self.seconds(size, rows))
        ratio = seconds / known[rows]
        self._outliers = 0 if ratio < OUTLIER else self._outliers + 1
        if ratio <= 0 or 0 < self._outliers < OUTLIERS:
            return
        for n in known:
            known[n] *= 1 + PACE_RATE * (ratio - 1) - CURIOSITY * (n != rows)
        known[rows] += SHAPE_RATE * (seconds - known[rows])

    def observe_decode(self, size: Size, images: int, seconds: float) -> None:
        each = seconds / images
        known = self._decode.get(size)
        self._decode[size] = each if not known else known + PACE_RATE * (each - known)

    def as_dict(self) -> dict[str, dict[int, float]]:
        """Milliseconds, for people."""
        return {
            f"{width}x{height}": {n: round(s * 1000, 3) for n, s in sorted(known.items())}
            for (width, height), known in self._calls.items()
        }


def _subadditive(measured: Mapping[int, float]) -> dict[int, float]:
    """One call never costs more than the smaller calls that would do the same."""
    bounded: dict[int, float] = {}
    for rows in sorted(measured):
        split = (rows / fewer * seconds for fewer, seconds in bounded.items())
        bounded[rows] = min(measured[rows], *split, float("inf"))
    return bounded


def _pixels(size: Size) -> int:
    return size[0] * size[1]
