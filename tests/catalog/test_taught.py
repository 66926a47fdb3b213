"""What an order is told of words that its model was not taught."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from serve_app.catalog.resolve import Order, resolve
from serve_app.catalog.taught import not_taught_notes, vocabulary_of
from serve_app.config import PROJECT_ROOT
from serve_app.errors import ModelError
from serve_app.starter.captions import Concept
from serve_app.starter.vocabulary import FILE, Vocabulary
from tests.catalog.test_resolve import MODELS, STYLES, Bounds

SWORDS = Vocabulary(
    things=(Concept(("sword",)),),
    describing=frozenset({"icy"}),
    words=("blade",),
    word_vectors=np.array([[1.0, 0.1]], np.float32),
    name_vectors=np.array([[1.0, 0.0]], np.float32),
)


def notes_of(prompt: str, vocabulary: Vocabulary | None) -> list[str]:
    params = resolve(
        Order(prompt=prompt),
        styles=STYLES,
        models=MODELS,
        active="tiny",
        revision_of=str,
        limits=Bounds(),
        vocabularies={} if vocabulary is None else {"tiny": vocabulary},
    )
    return not_taught_notes(params)


def test_an_order_of_something_unknown_is_told_what_is_nearest() -> None:
    """By the words of the client, not those of a style."""
    told = "not_taught: This model was not taught “blade”. The nearest it knows: sword."
    assert notes_of("an icy blade", SWORDS) == [told]


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
