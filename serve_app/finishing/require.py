"""require: what a picture has to be; `judge` says every score and which of them fail.

Knows nothing of redraws or jobs: whoever ordered decides what a failure means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from serve_app.dhash import dhash
from serve_app.finishing.colors import unique_colors
from serve_app.finishing.picture import Floats, Picture
from serve_app.finishing.seam import PASS, seam_scores

DUPLICATE = 6  # bits of 64 in which the shapes of two duplicates differ at most
_SAME_COLORS = 0.25  # distance of colour histograms, 0 to 1, up to which they are the same
_BLANK_SPREAD = 2.0  # levels of 255
_BLANK_SHARE = 0.99
_GREY = 128


class Share(BaseModel):
    """A range of shares."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    min: float = Field(default=0, ge=0, le=1)
    max: float = Field(default=1, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Share:
        if self.min > self.max:
            raise ValueError("min is larger than max")
        return self


class Require(BaseModel):
    """Gates on a finished picture; a picture that fails one is drawn again if redraws are left."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    coverage: Share | None = Field(
        default=None, description="Share of pixels that the subject covers, after a cutout."
    )
    clear_border: bool = Field(default=False, description="No subject in the outermost pixels.")
    seam: float | None = Field(
        default=None, gt=0, le=10, description=f"Highest seam score, x and y; {PASS} is unseen."
    )
    not_blank: bool = Field(default=False, description="More than one colour, or a subject.")
    unique: bool = Field(
        default=False, description="No duplicate of an earlier picture of the job."
    )
    colors: int | None = Field(default=None, ge=1, le=65536, description="Most different colours.")


@dataclass(frozen=True)
class Fingerprint:
    """What is compared to find duplicates: shape, the mirrored shape, and how often which colour."""

    shape: int
    mirrored: int
    colors: Floats


@dataclass(frozen=True)
class Verdict:
    """`scores` holds every number that a gate looked at; `failures` the failed gate's name and why."""

    scores: Mapping[str, float]
    failures: Mapping[str, str]

    @property
    def passed(self) -> bool:
        return not self.failures


def judge(picture: Picture, require: Require, earlier: Sequence[Fingerprint] = ()) -> Verdict:
    """`earlier`: of the pictures that this one must differ from."""
    scores: dict[str, float] = {}
    failures: dict[str, str] = {}
    if require.coverage is not None:
        share = scores["coverage"] = picture.coverage
        if not require.coverage.min <= share <= require.coverage.max:
            failures["coverage"] = (
                f"The subject covers {share:.1%}; {require.coverage.min:.1%} to"
                f" {require.coverage.max:.1%} is required."
            )
    if require.clear_border:
        leak = scores["border"] = _border(picture)
        if leak > 0:
            failures["clear_border"] = f"{leak:.1%} of the outermost pixels are not clear."
    if require.seam is not None:
        seams = seam_scores(picture.pixels)
        scores["seam_x"], scores["seam_y"] = seams["x"], seams["y"]
        worst = max(seams["x"], seams["y"])
        if worst > require.seam:
            failures["seam"] = f"The seam scores {worst:.2f}; at most {require.seam:g} is allowed."
    if require.not_blank:
        spread, share = scores["spread"], scores["one_color"] = _blankness(picture)
        if spread < _BLANK_SPREAD or share >= _BLANK_SHARE:
            failures["not_blank"] = f"{share:.1%} of the picture is of one colour."
    if require.colors is not None:
        count = scores["colors"] = _count_colors(picture)
        if count > require.colors:
            failures["colors"] = f"It has {count} colours; at most {require.colors} are allowed."
    if require.unique:
        least = scores["nearest"] = _nearest(fingerprint(picture), earlier)
        if least <= DUPLICATE:
            failures["unique"] = f"Another picture differs in {least:.0f} of 64 bits only."
    rounded = {name: round(float(score), 4) for name, score in scores.items()}
    return Verdict(rounded, failures)


def fingerprint(picture: Picture) -> Fingerprint:
    """dHash of 64 bits of the picture on grey: junk colours under alpha 0 would move it."""
    flat = _on_grey(picture)
    image = Image.fromarray(flat)
    visible = picture.alpha > 127
    histogram = np.bincount(_coarse(flat[visible]), minlength=64).astype(np.float32)
    return Fingerprint(
        dhash(image),
        dhash(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        histogram / max(1.0, float(histogram.sum())),
    )


def distance(a: Fingerprint, b: Fingerprint) -> int:
    """Bits in which the shapes differ, mirrored or not, 0 to 64; 64 where the colours differ."""
    if float(np.abs(a.colors - b.colors).sum()) / 2 > _SAME_COLORS:
        return 64
    return min((a.shape ^ b.shape).bit_count(), (a.mirrored ^ b.shape).bit_count())


def _nearest(print_: Fingerprint, earlier: Sequence[Fingerprint]) -> int:
    return min((distance(print_, other) for other in earlier), default=64)


def _on_grey(picture: Picture) -> NDArray[np.uint8]:
    alpha = picture.alpha[..., None].astype(np.float32) / 255
    return np.round(picture.rgb * alpha + _GREY * (1 - alpha)).astype(np.uint8)


def _coarse(rgb: NDArray[np.uint8]) -> NDArray[np.int64]:
    """n x 3 -> one of 64 colours, two bits a channel."""
    high = rgb.astype(np.int64) >> 6
    return high[:, 0] * 16 + high[:, 1] * 4 + high[:, 2]


def _border(picture: Picture) -> float:
    alpha = picture.alpha
    rim = np.concatenate([alpha[0], alpha[-1], alpha[1:-1, 0], alpha[1:-1, -1]])
    return float((rim > 0).mean())


def _blankness(picture: Picture) -> tuple[float, float]:
    """The spread of levels, and the share of the commonest colour, both on grey."""
    flat = _on_grey(picture)
    _, _, counts = unique_colors(flat.reshape(-1, 3))
    return float(flat.std(axis=(0, 1)).max()), float(counts.max() / counts.sum())


def _count_colors(picture: Picture) -> int:
    return len(unique_colors(picture.rgb[picture.alpha > 0])[0])
