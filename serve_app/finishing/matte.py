"""Alpha and true colours along the edge of a subject whose backdrop is known.

Knows nothing of how the backdrop was found. An edge pixel I is a mix: I = alpha F + (1 - alpha) B. B is
the backdrop; F, the subject's own colour, is looked for among the pixels near by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.finishing.backdrop import Backdrop
from serve_app.finishing.masks import Components, components, dilate, disc, nearest, positions
from serve_app.finishing.picture import Floats, Mask, Pixels

RADIUS = 4  # pixels within which an edge pixel finds its own colour; hair lines have no wider core
_OPAQUE = 0.97
_STOP = 0.95  # an edge does not go on behind a pixel this opaque
_SHADING = 0.9  # contrast that grows by less than a tenth a pixel is shading, not an edge
_ALIKE = 6.0  # RGB distance of two neighbours of one colour
_SHALLOW = 2.0  # pixels from the outside within which even the best colour may be a mix
_MISFIT = 3.0  # how much one unit off the line B-F costs against one unit of distance from B
FAINT = 30.0  # RGB distance from the backdrop below which a mix cannot be measured
_HOLE, _SPECK = 64, 48  # pixels, in a picture of 512 x 512
_EXACT = 2.0  # RGB distance up to which a pixel is a clean ground's own
_SOFT = 3  # pixels that an edge without noise may reach into the ground
_GAP = 2  # pixels: what is twice as wide and one more is no gap
_ROOM = 1024  # pixels, in a picture of 512 x 512
_RIM = (3.0, 5)  # pixels from a hole where its edge must have ended
_CLEAR = 0.85  # share of that where it must differ clearly: what rises slower is shading


@dataclass(frozen=True)
class Ground:
    """What is not the subject. `holes`: those parts of it that lie inside; `spared`: what has the backdrop's
    colour and was left to the subject."""

    outside: Mask
    holes: Mask
    spared: Mask


def background(distance: Floats, backdrop: Backdrop, holes: bool) -> Ground:
    """What is connected to the border, and holes: parts inside of exactly the backdrop's colour, with an edge
    around them. A light part that shades into its surroundings is the subject's.

    First what is the backdrop beyond doubt, then a few pixels more: soft edges are wider than that, but a
    light subject on a clean ground differs from it by a few levels only, and must not be eaten. Through a gap
    of a few pixels in an outline the ground gets into a large room only if that would be a hole.
    """
    scale = min(1.0, min(distance.shape) ** 2 / 512**2)
    near = distance < backdrop.threshold
    sure = distance <= min(backdrop.threshold, max(_EXACT, 4 * backdrop.sigma))
    core = components(~_grown(~sure, _GAP))
    rooms = components(_grown(core.where(~core.touching_border()), _GAP) & sure)
    shut = (rooms.sizes >= _ROOM * scale) & ~rooms.touching_border()
    if holes and shut.any():
        shut &= ~_are_holes(rooms, shut, sure, distance, backdrop)
    spared = rooms.where(shut)
    parts = components(sure & ~spared)
    outer = parts.touching_border()
    inner = ~outer & (parts.sizes >= max(9, _HOLE * scale)) & holes
    if inner.any():
        inner &= _are_holes(parts, inner, sure, distance, backdrop)
    found = parts.where(outer | inner)
    for _ in range(_SOFT):
        found |= dilate(found) & near
    found |= _specks(~found, distance, backdrop.threshold, max(8, _SPECK * scale))
    return Ground(found, parts.where(inner), spared & ~found)


def _grown(mask: Mask, by: int) -> Mask:
    for _ in range(by):
        mask = dilate(mask, diagonal=True)
    return mask


def _are_holes(
    parts: Components,
    which: NDArray[np.bool_],
    sure: Mask,
    distance: Floats,
    backdrop: Backdrop,
) -> NDArray[np.bool_]:
    """Of these parts: each is exactly of the backdrop's colour, and what lies around it a few pixels off
    differs clearly."""
    count = len(parts.sizes)
    y, x = positions(parts.where(which))
    margin = 2 * _RIM[1]
    box = (
        slice(max(0, int(y.min()) - margin), int(y.max()) + margin + 1),
        slice(max(0, int(x.min()) - margin), int(x.max()) + margin + 1),
    )
    labels, distance = parts.labels[box], distance[box]
    inside = labels >= 0
    total = np.bincount(labels[inside], weights=distance[inside], minlength=count)
    exact = total / np.maximum(parts.sizes, 1) <= max(3.0, 1.5 * backdrop.sigma)
    away, index = nearest(inside, _RIM[1])
    rim = (away >= _RIM[0]) & np.isfinite(away) & ~sure[box]
    of = labels.reshape(-1)[index[rim]]
    clear = np.bincount(of, weights=distance[rim] >= FAINT, minlength=count)
    return exact & (clear >= _CLEAR * np.bincount(of, minlength=count))


def _specks(subject: Mask, distance: Floats, threshold: float, most: float) -> Mask:
    """Small parts that hardly differ from the backdrop: its noise, not sparks."""
    parts = components(subject)
    small = parts.where(parts.sizes <= most)
    strong = np.zeros(len(parts.sizes), bool)
    strong[parts.labels[small & (distance > 3 * threshold)]] = True
    return small & ~parts.where(strong)


def extract(rgb: NDArray[np.uint8], backdrop: Backdrop, outside: Mask) -> tuple[Pixels, float]:
    """Straight-alpha pixels: alpha 0 in `outside`, mixes along its rim, the rest as it was. And the
    share of the outline that hardly differs from the backdrop, where the cut may have gone astray."""
    depth, _ = nearest(outside, RADIUS + 1)
    y, x = np.nonzero(np.isfinite(depth) & ~outside)
    seen = rgb[y, x].astype(np.float32)
    behind = backdrop.at(y, x)
    own, shallow = _own_color(rgb, depth, y, x, seen - behind, backdrop)
    line = own - behind
    alpha = np.clip(_dot(seen - behind, line) / np.maximum(_dot(line, line), 1), 0, 1)
    if backdrop.is_tinted:
        # A line thinner than a pixel has no pure colour near by: its tint says how much is ground.
        most = 1 - np.maximum(0, backdrop.tint(seen)) / backdrop.tint(behind)
        alpha = np.where(shallow, np.minimum(alpha, np.clip(most, 0, 1)), alpha)
    # Little contrast tells little of alpha: the fainter an edge, the harder it is cut.
    contrast = np.sqrt(_dot(line, line))
    alpha = np.maximum(alpha, np.clip(2 - contrast / FAINT, 0, 1))
    alpha[alpha > _OPAQUE] = 1
    # What hardly differs from the backdrop shows nothing by having neighbours like it.
    strong = np.sqrt(_dot(seen - behind, seen - behind)) >= 2 * FAINT
    alpha[strong & _goes_on_inside(rgb, depth, y, x, max(_ALIKE, 1.5 * backdrop.sigma))] = 1
    alpha = _from_outside_in(outside, y, x, alpha)
    pixels = np.empty((*rgb.shape[:2], 4), np.uint8)
    pixels[..., :3] = rgb
    pixels[..., 3] = np.where(outside, 0, 255)
    color = unmix(seen, alpha, own, behind)
    if backdrop.is_tinted:
        allowed = np.where(shallow, 0, np.maximum(0, backdrop.tint(own)))
        color = backdrop.without_tint(color, allowed)
    pixels[y, x, :3] = np.where(alpha[:, None] == 1, seen, np.round(color))
    pixels[y, x, 3] = np.round(alpha * 255)
    outline = dilate(outside)[y, x]
    return pixels, float((contrast[outline] < FAINT).mean()) if outline.any() else 0.0


def unmix(
    seen: Floats,
    alpha: Floats,
    own: Floats,
    behind: Floats,
) -> Floats:
    """n x 3: the mix without the backdrop. Where little is left of the subject, its noise would grow
    by 1 / alpha, and the colour found near by is the better guess."""
    share = alpha[:, None]
    exact = np.clip((seen - (1 - share) * behind) / np.maximum(share, 0.05), 0, 255)
    trust = np.clip(1.5 * share, 0, 1)
    return trust * exact + (1 - trust) * own


def _own_color(
    rgb: NDArray[np.uint8],
    depth: Floats,
    y: NDArray[np.int64],
    x: NDArray[np.int64],
    offset: Floats,
    backdrop: Backdrop,
) -> tuple[Floats, Mask]:
    """For each rim pixel the pixel near by that is farthest from the backdrop and that, mixed with the
    backdrop, gives this one: a darker outline beside a light area does not explain the light area. And
    whether even that one lies so near to the outside that it may be a mix itself."""
    height, width = depth.shape
    rim = np.zeros(depth.shape, bool)
    rim[y, x] = True
    near = np.flatnonzero(_grown(rim, RADIUS) & (depth > 0))
    place = np.full(depth.size, -1, np.int32)  # in `near`
    place[near] = np.arange(len(near), dtype=np.int32)
    lines = rgb.reshape(-1, 3)[near] - backdrop.at(*np.divmod(near, width))
    lengths = _dot(lines, lines)
    away = np.append(
        np.sqrt(lengths), np.float32(-np.inf)
    )  # what is outside is nobody's own colour
    best = np.full(len(y), -np.inf, np.float32)
    source = np.zeros(len(y), np.int64)
    for dy, dx in disc(RADIUS):
        there = place[np.clip(y + dy, 0, height - 1) * width + np.clip(x + dx, 0, width - 1)]
        worth = away[there] * _SHADING ** float(np.hypot(dy, dx))
        hopeful = np.flatnonzero(worth > best)  # a misfit only lessens the worth
        there, rest = there[hopeful], offset[hopeful]
        line = lines[there]
        share = np.clip(_dot(rest, line) / np.maximum(lengths[there], 1), 0, 1)
        off_line = rest - share[:, None] * line
        misfit = np.maximum(0, np.sqrt(_dot(off_line, off_line)) - 2 * backdrop.sigma)
        score = worth[hopeful] - _MISFIT * misfit
        better = score > best[hopeful]
        best[hopeful[better]] = score[better]
        source[hopeful[better]] = near[there[better]]
    own = rgb.reshape(-1, 3)[source].astype(np.float32)
    return own, depth.reshape(-1)[source] <= _SHALLOW


def _goes_on_inside(
    rgb: NDArray[np.uint8],
    depth: Floats,
    y: NDArray[np.int64],
    x: NDArray[np.int64],
    alike: float,
) -> Mask:
    """Which rim pixels have a neighbour farther in of the same colour: across a mix the colour changes,
    so these are the subject's own, such as a grey pixel of pixel art beside a black one."""
    height, width = depth.shape
    found = np.zeros(len(y), bool)
    seen = rgb[y, x].astype(np.float32)
    for dy, dx in disc(1.5)[1:]:
        there = (np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1))
        difference = rgb[there] - seen
        same = _dot(difference, difference) <= alike * alike
        found |= same & (depth[there] >= depth[y, x] + 0.9)
    return found


def _from_outside_in(
    outside: Mask, y: NDArray[np.int64], x: NDArray[np.int64], alpha: Floats
) -> Floats:
    """A pixel is a mix only if a path of mixes leads to it from outside; else it is the subject's."""
    open_ = outside.copy()
    open_[y, x] = alpha < _STOP
    reached = outside
    for _ in range(RADIUS + 1):
        reached = reached | (dilate(reached, diagonal=True) & open_)
    rim = dilate(reached, diagonal=True)
    return np.where(rim[y, x], alpha, 1)


def _dot(a: Floats, b: Floats) -> Floats:
    return np.einsum("ij,ij->i", a, b)
