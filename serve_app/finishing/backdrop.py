"""The one colour, or the smooth change of colour, that a subject stands on, read from the border.

Knows nothing of alpha or of the subject.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.finishing.picture import Floats, Mask

BORDER = 4  # pixels read along each side
FLAT, SMOOTH = 6.0, 14.0  # median distance to the model up to which it is believed
MOST = 0.6  # share of the border that has to fit
_TINTED = 64  # levels between its highest and lowest channel
_SAMPLES = 20_000


@dataclass(frozen=True)
class Backdrop:
    """`coefficients` of a polynomial in x and y, both -1..1: 1 x 3 for one colour, 6 x 3 for a smooth
    ground up to x², xy, y², 15 x 3 up to the fourth degree.

    `sigma` is the median RGB distance of the border to it, `share` the share of the border that lies
    within `threshold`.
    """

    coefficients: Floats
    size: tuple[int, int]
    sigma: float
    share: float

    @property
    def threshold(self) -> float:
        """RGB distance up to which a pixel is background."""
        return max(8.0, 4 * self.sigma)

    @property
    def believable(self) -> bool:
        return self.sigma <= (FLAT if self.is_flat else SMOOTH) and self.share >= MOST

    @property
    def is_flat(self) -> bool:
        return len(self.coefficients) == 1

    @property
    def color(self) -> tuple[int, int, int]:
        """In the middle of the picture."""
        red, green, blue = np.clip(np.round(self.coefficients[0]), 0, 255).astype(int).tolist()
        return (red, green, blue)

    @property
    def is_tinted(self) -> bool:
        """A coloured key, which a subject's own colours avoid; not white, grey or black."""
        return max(self.color) - min(self.color) >= _TINTED

    def tint(self, colors: Floats) -> Floats:
        """How much of the key's hue is in each of n colours: for green, green above red and blue."""
        high, low = self._channels
        return colors[:, high].min(axis=1) - colors[:, low].max(axis=1)

    def without_tint(self, colors: Floats, allowed: Floats) -> Floats:
        """The same colours with no more of the hue than allowed."""
        result = colors.copy()
        result[:, self._channels[0]] -= np.maximum(0, self.tint(colors) - allowed)[:, None]
        return result

    @property
    def _channels(self) -> tuple[list[int], list[int]]:
        """Those that are high in the key and those that are low."""
        middle = (max(self.color) + min(self.color)) / 2
        high = [c for c in range(3) if self.color[c] > middle]
        return high, [c for c in range(3) if c not in high]

    def at(self, y: NDArray[np.int64], x: NDArray[np.int64]) -> Floats:
        """n x 3 colours."""
        if self.is_flat:
            return np.broadcast_to(self.coefficients[0], (len(y), 3))
        return _product(_terms(y, x, self.size, len(self.coefficients)), self.coefficients)

    def distance(self, rgb: NDArray[np.uint8]) -> Floats:
        """RGB distance of every pixel, H x W."""
        square = np.zeros(self.size, np.float32)
        for channel in range(3):
            difference = rgb[..., channel] - self._plane(channel)
            square += difference * difference
        return np.sqrt(square)

    def _plane(self, channel: int) -> Floats:
        """One channel of every pixel: for each power of y a row of what it is multiplied with."""
        factors = self.coefficients[:, channel]
        if self.is_flat:
            return factors
        y = np.linspace(-1, 1, self.size[0], dtype=np.float32)
        x = np.linspace(-1, 1, self.size[1], dtype=np.float32)
        plane = np.zeros(self.size, np.float32)
        powers = _powers(len(factors))
        for power in range(powers[-1][1] + 1):
            row = np.zeros_like(x)
            for (i, j), factor in zip(powers, factors, strict=True):
                if j == power:
                    row += factor * x**i
            plane += y[:, None] ** power * row
        return plane


def find_backdrop(rgb: NDArray[np.uint8]) -> Backdrop:
    """One colour if the border has one, else a smooth surface; ask `believable` whether it is either."""
    rim = np.zeros(rgb.shape[:2], bool)
    rim[:BORDER] = rim[-BORDER:] = rim[:, :BORDER] = rim[:, -BORDER:] = True
    y, x = _sample(rim)
    seen = rgb[y, x].astype(np.float32)
    flat = _judged(np.median(seen, axis=0)[None].astype(np.float32), rgb.shape, y, x, seen)
    return flat if flat.believable else _fit(rgb, y, x, 2)


def refit(backdrop: Backdrop, rgb: NDArray[np.uint8], background: Mask) -> Backdrop:
    """A smooth backdrop again, in more detail, from all that turned out to belong to it; a flat one
    stays."""
    if backdrop.is_flat or not background.any():
        return backdrop
    return _fit(rgb, *_sample(background), 4)


def _fit(
    rgb: NDArray[np.uint8], y: NDArray[np.int64], x: NDArray[np.int64], degree: int
) -> Backdrop:
    """Least squares, five times, each without what the one before fits worst: the subject."""
    seen = rgb[y, x].astype(np.float32)
    terms = _terms(y, x, rgb.shape[:2], (degree + 1) * (degree + 2) // 2)
    kept = np.ones(len(y), bool)
    coefficients = np.zeros((terms.shape[1], 3), np.float32)
    for _ in range(5):
        coefficients = _least_squares(terms[kept], seen[kept])
        error = _norm(_product(terms, coefficients) - seen)
        kept = error <= max(4.0, 2.5 * float(np.median(error)))
    return _judged(coefficients, rgb.shape, y, x, seen)


def _least_squares(terms: Floats, seen: Floats) -> Floats:
    """By the normal equations in 64 bits: a product of this size in BLAS may differ with its threads."""
    a = terms.astype(np.float64)
    left, right = np.einsum("ni,nj->ij", a, a), np.einsum("ni,nj->ij", a, seen)
    return np.linalg.lstsq(left, right, rcond=None)[0].astype(np.float32)


def _product(terms: Floats, coefficients: Floats) -> Floats:
    return np.einsum("ni,ij->nj", terms, coefficients)


def _judged(
    coefficients: Floats,
    shape: tuple[int, ...],
    y: NDArray[np.int64],
    x: NDArray[np.int64],
    seen: Floats,
) -> Backdrop:
    model = Backdrop(coefficients, (shape[0], shape[1]), 0.0, 0.0)
    error = _norm(model.at(y, x) - seen)
    sigma = float(np.median(error))
    share = float((error <= max(8.0, 4 * sigma)).mean())
    return Backdrop(coefficients, model.size, sigma, share)


def _terms(y: NDArray[np.int64], x: NDArray[np.int64], size: tuple[int, int], count: int) -> Floats:
    v = (2 * y / max(1, size[0] - 1) - 1).astype(np.float32)
    u = (2 * x / max(1, size[1] - 1) - 1).astype(np.float32)
    return np.stack([u**i * v**j for i, j in _powers(count)], axis=1)


def _powers(count: int) -> list[tuple[int, int]]:
    """Of x and y in each of 1, 6 or 15 terms, by degree."""
    return [(degree - j, j) for degree in range(5) for j in range(degree + 1)][:count]


def _sample(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions in the mask, evenly thinned."""
    y, x = np.nonzero(mask)
    step = max(1, len(y) // _SAMPLES)
    return y[::step], x[::step]


def _norm(difference: Floats) -> Floats:
    return np.sqrt((difference * difference).sum(axis=1))
