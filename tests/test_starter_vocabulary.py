"""What the starter says about prompts it was not taught; the shipped file, and small ones.

It does not judge pictures.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.starter.captions import Concept
from serve_app.starter.vocabulary import FILE, NEAREST, Vocabulary, VocabularyError

WEIGHTS = Path("serve_app/starter/weights").resolve()


@pytest.fixture(scope="module")
def shipped() -> Vocabulary:
    return Vocabulary.load(WEIGHTS)


def small() -> Vocabulary:
    """Two things and three words on a plane: a blade lies near the sword, a quark near nothing."""
    return Vocabulary(
        things=(Concept(("sword", "rapier")), Concept(("mushroom", "toadstool"))),
        describing=frozenset({"icy"}),
        words=("blade", "fungus", "quark"),
        word_vectors=np.array([[0.99, 0.1], [0.1, 0.99], [-0.7, -0.7]], np.float32),
        name_vectors=np.array([[1, 0], [0.95, 0.05], [0, 1], [0.05, 0.95]], np.float32),
    )


def test_a_known_thing_needs_no_note() -> None:
    """Its other names, plurals and describing words beside it change nothing."""
    for prompt in (
        "a sword",
        "RAPIERS!",
        "icy sword",
        "the sword and a toadstool",
        "a running sword",
    ):
        found = small().familiarity(prompt)
        assert found.known
        assert found.note() == ""
        assert found.distance == 0


def test_an_unknown_thing_is_named_with_the_nearest_known() -> None:
    """By meaning where the table has the word."""
    found = small().familiarity("an icy blade")
    assert found.unknown == ("blade",)
    assert found.nearest == ("sword",)
    assert found.note() == "This model was not taught “blade”. The nearest it knows: sword."


def test_a_weight_is_no_word() -> None:
    """Prompts may hold weights in brackets."""
    assert small().familiarity("an (icy blade:1.2)").unknown == ("blade",)


def test_the_last_word_says_what_the_thing_is() -> None:
    """A fungus blade is a blade."""
    assert small().familiarity("fungus blade").nearest == ("sword",)
    assert small().familiarity("blade fungus").nearest == ("mushroom",)


def test_a_slip_of_the_pen_is_recognised() -> None:
    """A word that the table does not hold is compared by its letters."""
    assert small().familiarity("a musroom").nearest == ("mushroom",)


def test_what_is_near_nothing_is_said_to_be_unknown_without_a_guess() -> None:
    """Words of no meaning, of another language, and no words at all."""
    for prompt in ("quark", "ein Schloss", "剣", "xqzt"):
        found = small().familiarity(prompt)
        assert found.nearest == ()
        assert "was not taught" in found.note()
    assert "names nothing" in small().familiarity(" , ").note()


@given(st.text(max_size=200))
@settings(deadline=None)
def test_every_text_gets_an_answer(prompt: str) -> None:
    """No prompt fails; distances lie between 0 and 1 or so, and labels are known ones."""
    vocabulary = small()
    found = vocabulary.familiarity(prompt)
    assert 0 <= found.distance <= 2
    assert len(found.nearest) <= NEAREST
    assert set(found.nearest) <= {"sword", "mushroom"}
    assert bool(found.note()) == (not found.known)


def test_search_finds_whole_names_first_and_pages() -> None:
    """By any name; an empty search lists everything."""
    vocabulary = small()
    assert [t.names[0] for t in vocabulary.search()] == ["sword", "mushroom"]
    assert [t.names[0] for t in vocabulary.search("toadstool")] == ["mushroom"]
    assert [t.names[0] for t in vocabulary.search(offset=1, limit=5)] == ["mushroom"]
    assert vocabulary.search("castle") == []


def test_a_written_file_reads_the_same(tmp_path: Path) -> None:
    """But for the rounding of vectors to eight bits."""
    before = small()
    before.save(tmp_path)
    after = Vocabulary.load(tmp_path)
    assert (after.things, after.words, after.describing) == (
        before.things,
        before.words,
        before.describing,
    )
    assert after.familiarity("icy blade").nearest == before.familiarity("icy blade").nearest


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    """Each with its path."""
    with pytest.raises(VocabularyError, match="is missing"):
        Vocabulary.load(tmp_path)
    small().save(tmp_path)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(VocabularyError, match="cannot be read"):
        Vocabulary.load(tmp_path)


def test_the_shipped_vocabulary_knows_its_model(shipped: Vocabulary) -> None:
    """Its concepts, whatever else has a rendered picture, and sensible neighbours for common words."""
    assert len(shipped.things) == 870
    assert shipped.familiarity("a kangaroo").note() == ""
    assert shipped.familiarity("a red potion").note() == ""
    for word, label in (("katana", "dagger"), ("grenade", "bomb"), ("stallion", "horse")):
        assert shipped.familiarity(f"a {word}").nearest[0] == label
    assert "was not taught “ein”, “schloss”" in shipped.familiarity("ein Schloss").note()


def test_it_loads_without_torch() -> None:
    """The process that takes orders has none."""
    code = (
        "import sys; from pathlib import Path; from serve_app.starter.vocabulary import Vocabulary; "
        f"Vocabulary.load(Path({str(WEIGHTS)!r})).familiarity('a laser gun'); "
        "assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
