"""finish: a list of effects applied to a picture, one after another.

Knows nothing of jobs, files or HTTP. Pure: equal pixels, effects and weights give equal bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from serve_app.finishing.base import NO_WEIGHTS, BaseEffect, ModelEffect, Weights
from serve_app.finishing.bleed import RADIUS, Bleed, bleed
from serve_app.finishing.effects import Effects, parse_effects
from serve_app.finishing.picture import EffectFailed, Note, Picture


@dataclass(frozen=True)
class Finished:
    """The picture, and what each effect had to say: one tuple of notes per effect, in their order."""

    picture: Picture
    notes: tuple[tuple[Note, ...], ...]


def finish(picture: Picture, effects: Sequence[object], weights: Weights = NO_WEIGHTS) -> Finished:
    """Raises InvalidField for a list that `parse_effects` would refuse, and EffectFailed, which names
    the effect's position. With no effects the picture stays as it is."""
    checked = parse_effects(effects)
    notes: list[tuple[Note, ...]] = []
    for i, effect in enumerate(checked):
        known = len(picture.notes)
        picture = _applied(picture, effect, i, weights)
        notes.append(picture.notes[known:])
    if checked:
        picture = _bled(picture, checked)
    return Finished(picture, tuple(notes))


def _applied(picture: Picture, effect: BaseEffect, position: int, weights: Weights) -> Picture:
    try:
        if isinstance(effect, ModelEffect):
            return effect.apply(picture, weights)
        return effect.apply(picture)
    except EffectFailed as error:
        raise EffectFailed(f"effect {position + 1}, {error.detail}") from error
    except MemoryError as error:
        raise EffectFailed(f"effect {position + 1} ran out of memory") from error


def _bled(picture: Picture, effects: Effects) -> Picture:
    """Colour goes on under transparent pixels, so that an engine that filters the picture shows no fringe."""
    radius = max([RADIUS, *(e.radius for e in effects if isinstance(e, Bleed))])
    return replace(picture, pixels=bleed(picture.pixels, radius))
