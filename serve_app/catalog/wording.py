"""Wording: what of an order depends on its words and its seed alone.

Orders of a batch often differ in nothing else: then `reworded` makes one of another, at a tenth of the cost
of `resolve`. Knows nothing of sizes, steps or effects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from serve_app.catalog.embeddings import named_in
from serve_app.catalog.models import PROMPT, Models, ModelSpec
from serve_app.catalog.styles import NONE, Style, Styles
from serve_app.errors import InvalidField
from serve_app.params import MAX_SEED, EmbeddingUse, Finishing, GenerationParams
from serve_app.starter.vocabulary import Familiarity, Vocabulary

NO_VOCABULARIES: Mapping[str, Vocabulary] = {}


class Worded(TypedDict):
    """Fields of GenerationParams."""

    prompt: str
    negative_prompt: str
    subject: str
    subject_negative: str
    embeddings: tuple[EmbeddingUse, ...]
    not_taught: str


def worded(
    prompt: str,
    negative_prompt: str,
    *,
    style: Style,
    spec: ModelSpec,
    weighted: bool,
    models: Models,
    vocabularies: Mapping[str, Vocabulary],
    most: int,
) -> Worded:
    """`weighted`: brackets are weights, and embeddings are named. `most`: characters of a prompt. Raises
    InvalidField.

    Where the model was not taught what is asked for, a style draws the nearest that it was; style `none`
    draws the prompt as it is written, so that `order_again` gives the same picture."""
    styled, negative = _styled(prompt, negative_prompt, style, spec)
    _check(prompt, styled, negative, style, most)
    vocabulary = vocabularies.get(spec.name)
    found = vocabulary.familiarity(prompt) if vocabulary else Familiarity(known=("anything",))
    instead = found.instead if style.id != NONE.id else ""
    if instead:
        styled, _ = _styled(instead, negative_prompt, style, spec)
        _check(prompt, styled, negative, style, most)
    return Worded(
        prompt=styled,
        negative_prompt=negative,
        subject=prompt,
        subject_negative=negative_prompt,
        embeddings=_embeddings(styled, negative, spec, models) if weighted else (),
        not_taught=found.note(instead=bool(instead)),
    )


def reworded(
    params: GenerationParams,
    prompt: str,
    negative_prompt: str,
    seed: int | None,
    *,
    styles: Styles,
    models: Models,
    vocabularies: Mapping[str, Vocabulary],
    most: int,
    draw: Callable[[int], int],
) -> dict[str, Any]:
    """What `params` become in an order that differs in these words and in this seed only: fields of
    GenerationParams. Raises InvalidField, as `resolve` would."""
    words = worded(
        prompt,
        negative_prompt,
        style=styles[params.style_id],
        spec=models[params.model],
        weighted=params.prompt_syntax == "weighted",
        models=models,
        vocabularies=vocabularies,
        most=most,
    )
    return {**words, "seed": seed_of(seed, params.n, params.finishing, draw)}


def seed_of(
    seed: int | None, n: int, finishing: Finishing | None, draw: Callable[[int], int]
) -> int:
    """Of `n` images and all their redraws. `draw(k)`: a random number below k."""
    drawn = n * (1 + (finishing.redraws if finishing else 0))
    last = MAX_SEED - (drawn - 1)
    if seed is None or seed == -1:
        return draw(last + 1)
    if not 0 <= seed <= last:
        text = f"the last image's seed, seed + n - 1, must not exceed {MAX_SEED}"
        if drawn > n:
            text = f"the last seed of all redraws, seed + {drawn} - 1, must not exceed {MAX_SEED}"
        raise InvalidField("seed", text, [f"-1 to {last}"])
    return seed


def _styled(prompt: str, negative: str, style: Style, spec: ModelSpec) -> tuple[str, str]:
    """Final prompt and negative prompt. Style `none` adds nothing to those of the order, not even the model's
    template, so that `order_again` gives the same prompts."""
    if style.id == NONE.id:
        return prompt, negative
    styled = style.template_for(spec.name).replace(PROMPT, prompt)
    negatives = [negative, style.negative_for(spec.name), spec.negative_prompt]
    unique = dict.fromkeys(text for text in negatives if text)
    return spec.prompt_template.replace(PROMPT, styled), ", ".join(unique)


def _check(prompt: str, styled: str, negative: str, style: Style, most: int) -> None:
    """The final prompts must not be too long, because `order_again` sends them as a client's."""
    if not prompt.strip():
        raise InvalidField("prompt", "must not be empty")
    for field, text in ("prompt", styled), ("negative_prompt", negative):
        if len(text) > most:
            whose = "" if style.id == NONE.id else " with the style's words"
            long = f"{len(text)} characters{whose}, at most {most} are allowed"
            raise InvalidField(field, long)


def _embeddings(
    prompt: str, negative: str, spec: ModelSpec, models: Models
) -> tuple[EmbeddingUse, ...]:
    fit = {name: one for name, one in models.embeddings.items() if one.family == spec.family}
    named = named_in((prompt, negative), fit)
    return tuple(EmbeddingUse(name=one.name, revision=one.revision) for one in named)
