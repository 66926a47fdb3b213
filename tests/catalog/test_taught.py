"""What an order is told of words that its model was not taught."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from serve_app.catalog.resolve import Order, order_again, resolve
from serve_app.catalog.taught import not_taught_notes, vocabulary_of
from serve_app.config import PROJECT_ROOT
from serve_app.errors import InvalidField, ModelError
from serve_app.params import GenerationParams
from serve_app.starter.captions import Concept
from serve_app.starter.vocabulary import FILE, Vocabulary
from tests.catalog.test_resolve import MODELS, STYLES, Bounds

SWORDS = Vocabulary(
    things=(Concept(("sword",)),), describing=frozenset({"icy"}), neighbours={"blade": 0}
)


def params_of(prompt: str, vocabulary: Vocabulary | None, **order: Any) -> GenerationParams:
    return resolve(
        Order(prompt=prompt, **order),
        styles=STYLES,
        models=MODELS,
        active="tiny",
        revision_of=str,
        limits=Bounds(),
        vocabularies={} if vocabulary is None else {"tiny": vocabulary},
    )


def notes_of(prompt: str, vocabulary: Vocabulary | None) -> list[str]:
    return not_taught_notes(params_of(prompt, vocabulary))


def test_an_order_of_something_unknown_is_drawn_as_the_nearest_and_told() -> None:
    """In the words of its style. The client's own stay in `subject`."""
    params = params_of("an icy blade", SWORDS, style_id="icon")
    known = params_of("an icy sword", SWORDS, style_id="icon")
    assert params.prompt == known.prompt
    assert (params.subject, known.subject) == ("an icy blade", "an icy sword")
    told = "not_taught: This model was not taught “blade”. It draws the nearest it knows: sword."
    assert not_taught_notes(params) == [told]


def test_words_that_join_end_a_phrase_even_where_some_describe_with_them() -> None:
    """As of the starter, whose pictures are also "made of gold" or "on a dark ground"."""
    taught = Vocabulary(
        things=SWORDS.things,
        describing=frozenset({"icy", "of", "a", "an", "on", "some"}),
        neighbours=SWORDS.neighbours,
    )
    params = params_of("an icy blade of the foobar", taught, style_id="icon")
    assert params.prompt == params_of("an icy sword", SWORDS, style_id="icon").prompt


def test_the_mark_that_begins_a_window_stays() -> None:
    taught = Vocabulary(
        things=SWORDS.things,
        describing=frozenset({"icy", "silver"}),
        neighbours={"blade": 0, "break": 0},
    )
    params = params_of("an icy blade BREAK silver", taught, style_id="icon")
    assert params.prompt.startswith("an icy sword BREAK silver")


def test_style_none_draws_the_prompt_as_it_is_written() -> None:
    """So that what `order_again` says of a finished picture gives the same one, and needs no note."""
    params = params_of("an icy blade", SWORDS, style_id="none")
    assert params.prompt == "an icy blade"
    told = "not_taught: This model was not taught “blade”. The nearest it knows: sword."
    assert not_taught_notes(params) == [told]
    drawn = params_of("an icy blade", SWORDS, style_id="icon")
    again = order_again(drawn, 0)
    repeated = params_of(again["prompt"], SWORDS, style_id=again["style_id"])
    assert (repeated.prompt, repeated.not_taught) == (drawn.prompt, "")


def test_a_prompt_too_long_is_refused_however_little_would_be_drawn() -> None:
    """Unknown words count."""
    with pytest.raises(InvalidField, match="characters"):
        params_of("blade " + "xqzt " * 400, SWORDS)


def test_an_order_of_something_known_is_told_nothing() -> None:
    """Nor is any order of a model whose weights do not say what it knows."""
    assert notes_of("an icy sword", SWORDS) == []
    assert notes_of("an icy blade", None) == []


def test_a_long_prompt_has_a_short_note() -> None:
    """It is stored with every picture."""
    (note,) = notes_of(" ".join(f"xq{letter}zt" for letter in "abcdefgh"), SWORDS)
    assert "“xqdzt” and 4 words more" in note


def test_only_weights_with_a_vocabulary_are_asked(tmp_path: Path) -> None:
    """A damaged one is refused when the service starts, with its path."""
    spec = MODELS["tiny"].model_copy(update={"name": "mine", "path": str(tmp_path), "hub": None})
    (tmp_path / "model_index.json").write_text("{}")
    assert vocabulary_of(spec, PROJECT_ROOT) is None
    shutil.copy(PROJECT_ROOT / "serve_app/starter/weights" / FILE, tmp_path)
    found = vocabulary_of(spec, PROJECT_ROOT)
    assert found is not None
    assert found.familiarity("a red potion").known
    (tmp_path / FILE).write_bytes(b"no archive")
    with pytest.raises(ModelError, match=rf"'mine'.*{FILE} cannot be read"):
        vocabulary_of(spec, PROJECT_ROOT)
