"""What the starter says about prompts it was not taught; the shipped file, and small ones.

It does not judge pictures.
"""

from __future__ import annotations

import subprocess
import sys
import time
import timeit
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.starter.captions import Concept
from serve_app.starter.vocabulary import FILE, Vocabulary, VocabularyError

WEIGHTS = Path("serve_app/starter/weights").resolve()


@pytest.fixture(scope="module")
def shipped() -> Vocabulary:
    return Vocabulary.load(WEIGHTS)


def small() -> Vocabulary:
    """A few things, and nouns near them."""
    return Vocabulary(
        things=(
            Concept(("dagger", "sword", "rapier")),
            Concept(("mushroom", "toadstool")),
            Concept(("gem stone", "gem")),
            Concept(("ice",)),
            Concept(("t-rex",)),
            Concept(("water pistol",)),
        ),
        describing=frozenset({"icy", "ice", "rusty", "red", "on", "grass", "three", "8-bit"}),
        neighbours={"katana": 0, "fungus": 1, "emerald": 2, "laser gun": 5, "gun": 0, "berry": 1},
    )


def test_a_known_thing_needs_no_note() -> None:
    """Its other names, plurals and describing words beside it change nothing."""
    for prompt in (
        "a sword",
        "RAPIERS!",
        "icy sword",
        "the sword and a toadstool",
        "a running sword",
        "a sword and a katana",
        "a rusty-sword",
        "a red t-rex",
        "ice",
        "big red ice",
    ):
        found = small().familiarity(prompt)
        assert found.known, prompt
        assert (found.note(), found.instead) == ("", "")


@pytest.mark.parametrize(
    ("prompt", "unknown", "instead"),
    [
        ("a katana", ("katana",), "a dagger"),
        ("A rusty Katana", ("katana",), "A rusty dagger"),
        ("an emerald", ("emerald",), "a gem stone"),
        ("a weathered icy katana", ("weathered", "katana"), "an icy dagger"),
        ("three katanas on grass", ("katanas",), "three daggers on grass"),
        ("red berries", ("berries",), "red mushrooms"),
        ("an ice katana", ("katana",), "an ice dagger"),
        ("a laser gun", ("laser", "gun"), "a water pistol"),
        ("a laser-gun, glowing", ("laser", "gun", "glowing"), "a water pistol"),
        ("fungus katana", ("fungus", "katana"), "dagger"),
        ("katana fungus", ("katana", "fungus"), "mushroom"),
        (
            "a katana of the fallen samurai, on grass",
            ("katana", "fallen", "samurai"),
            "a dagger, on grass",
        ),
        ("a (katana:1.2), red", ("katana",), "a (dagger:1.2), red"),
        ("a (weird:1.3) 8-bit katana", ("weird", "katana"), "8-bit dagger"),
        ("a musroom", ("musroom",), "a mushroom"),
        ("xq, zt, katana, red", ("xq", "zt", "katana"), "dagger, red"),
        ("katana 🗡️ 剣", ("katana", "剣"), "dagger 🗡️"),
    ],
)
def test_the_nearest_thing_takes_the_place_of_an_unknown_noun(
    prompt: str, unknown: tuple[str, ...], instead: str
) -> None:
    """What says how it looks stays, other unknown words go. In English the last word of the first phrase
    says what is asked for."""
    found = small().familiarity(prompt)
    assert (found.unknown, found.instead) == (unknown, instead)


def test_the_note_says_what_is_drawn() -> None:
    """Or only names it, where the prompt is drawn as it is written."""
    found = small().familiarity("an icy katana")
    told = "This model was not taught “katana”."
    assert found.note(instead=True) == f"{told} It draws the nearest it knows: dagger."
    assert found.note() == f"{told} The nearest it knows: dagger."


def test_what_is_near_nothing_is_said_to_be_unknown_without_a_guess() -> None:
    """Words of no meaning, of other languages and writings, pictures, and no words at all."""
    for prompt in ("quark", "ein Schloss", "剣", "меч", "سيف", "xqzt", "xqzt " * 800):
        found = small().familiarity(prompt)
        assert (found.nearest, found.instead) == ("", "")
        assert "was not taught" in found.note()
    for prompt in ("", " , ", "🗡️🔥", "a", "red", "(:1.2)"):
        found = small().familiarity(prompt)
        assert (found.nearest, found.instead) == ("", "")
        assert "names nothing" in found.note()


def test_a_word_is_answered_fast_enough_for_a_batch() -> None:
    """Ten thousand orders of one word each in a tenth of a second on a quiet machine; ten times that here."""
    vocabulary = small()
    for prompt in ("an icy sword", "a red toadstool on grass"):
        taken = timeit.timeit(lambda prompt=prompt: vocabulary.familiarity(prompt), number=2000)
        assert taken / 2000 < 100e-6


def test_the_longest_prompt_is_answered_at_once(shipped: Vocabulary) -> None:
    """Of words that nothing is spelled like: few of them are compared."""
    prompt = " ".join(f"{a}{b}xqzt" for a in "abcdefghijklmnopqrst" for b in "abcdefghijklmnopqrst")
    started = time.perf_counter()
    assert not shipped.familiarity(prompt[:4000]).instead
    assert time.perf_counter() - started < 1


PARTS = st.sampled_from(
    ["katana", "emeralds", "icy", "a", "of", "the", "odd", "(", ":1.2)", ",", "-"]
)


@given(st.text(max_size=200) | st.lists(PARTS, max_size=12).map(" ".join))
@settings(deadline=None)
def test_every_text_gets_an_answer(prompt: str) -> None:
    """No prompt fails; labels are known ones, and what is drawn instead names one."""
    vocabulary = small()
    found = vocabulary.familiarity(prompt)
    assert found.nearest in {"", *(thing.names[0] for thing in vocabulary.things)}
    assert bool(found.note()) == (not found.known)
    assert bool(found.instead) == bool(found.nearest)
    if found.instead:
        assert vocabulary.familiarity(found.instead).note() == ""


def test_search_finds_whole_names_first_and_pages() -> None:
    """By any name; an empty search lists everything."""
    vocabulary = small()
    assert [t.names[0] for t in vocabulary.search()][:2] == ["dagger", "mushroom"]
    assert [t.names[0] for t in vocabulary.search("toadstool")] == ["mushroom"]
    assert [t.names[0] for t in vocabulary.search(offset=1, limit=1)] == ["mushroom"]
    assert vocabulary.search("castle") == []


def test_a_written_file_reads_the_same(tmp_path: Path) -> None:
    """And is always the same bytes, in whatever order its nouns were found."""
    before = small()
    before.save(tmp_path)
    assert Vocabulary.load(tmp_path) == before
    written = (tmp_path / FILE).read_bytes()
    replace(before, neighbours=dict(sorted(before.neighbours.items(), reverse=True))).save(tmp_path)
    assert (tmp_path / FILE).read_bytes() == written


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
    for word, label in (("cougar", "tiger"), ("flugelhorn", "trumpet"), ("switchblades", "dagger")):
        assert shipped.familiarity(f"a {word}").nearest == label
    assert "was not taught “ein”, “schloss”." in shipped.familiarity("ein Schloss").note()
    for said in ("happiness", "thursday", "algebra", "ein Fliegenpilz", "рыцарь"):
        assert not shipped.familiarity(said).instead, said


def test_it_loads_without_torch() -> None:
    """The process that takes orders has none."""
    code = (
        "import sys; from pathlib import Path; from serve_app.starter.vocabulary import Vocabulary; "
        f"Vocabulary.load(Path({str(WEIGHTS)!r})).familiarity('a laser gun'); "
        "assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
