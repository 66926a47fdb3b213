"""How the recipe finds the nearest taught thing of a noun: on a WordNet of a dozen words.

It does not judge the real one; `test_starter_vocabulary.py` looks at what came of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.starter.captions import Concept
from serve_app.starter.errors import RecipeError
from serve_app.starter.sources import wordnet_folder
from serve_app.starter.thesaurus import likeness, nearest_things, senses_of
from serve_app.starter.word_table import plain_nouns
from serve_app.starter.wordnet import WordNet

# Number, words, what it is a kind of.
SYNSETS = (
    (1, ["entity"], ()),
    (2, ["physical_entity"], (1,)),
    (3, ["weapon"], (2,)),
    (4, ["sword", "blade"], (3,)),
    (5, ["short_sword"], (4,)),
    (6, ["gun"], (3,)),
    (7, ["animal"], (2,)),
    (8, ["wolf"], (7,)),
    (9, ["dingo"], (7,)),
    (10, ["abstraction"], (1,)),
    (11, ["love"], (10,)),
    (12, ["blade", "rake"], (7,)),
)
THINGS = (Concept(("dagger", "sword")), Concept(("wolf",)))


@pytest.fixture
def net(tmp_path: Path) -> WordNet:
    """`blade` was counted nine times as a sword, and never as a rake."""
    nouns = ["  1 a line of the licence"]
    senses: list[str] = []
    seen: dict[str, int] = {}
    for number, words, kinds in SYNSETS:
        said = " ".join(f"{word} 0" for word in words)
        pointers = " ".join(f"@ {kind:08} n 0000" for kind in kinds)
        nouns.append(
            f"{number:08} 06 n {len(words):02x} {said} {len(kinds):03} {pointers} | a kind; of thing"
        )
        for word in words:
            seen[word] = seen.get(word, 0) + 1
            count = 9 if (word, number) == ("blade", 4) else 0
            senses.append(f"{word}%1:06:00:: {number:08} {seen[word]} {count}")
    nouns.append("00000013 15 n 01 London 0 001 @i 00000002 n 0000 | a town")
    senses.append("london%1:15:00:: 00000013 1 2")
    senses.append("run%2:38:00:: 00000014 1 2")
    (tmp_path / "data.noun").write_text("\n".join(nouns))
    (tmp_path / "index.sense").write_text("\n".join(senses))
    return WordNet.load(tmp_path)


def test_senses_are_those_that_can_be_drawn(net: WordNet) -> None:
    """The most frequent first. Love cannot, and London is one town, no kind of thing."""
    (sword, often), (rake, seldom) = net.senses("blade")
    assert (sword, rake) == ("00000004", "00000012")
    assert often == pytest.approx(10 / 10.5)
    assert seldom == pytest.approx(0.5 / 10.5)
    assert [net.senses(word) for word in ("love", "london", "run", "quark")] == [[], [], [], []]
    assert net.senses("short sword") == [("00000005", 1.0)]
    assert net.synsets["00000004"].gloss == "a kind"


def test_what_has_nothing_below_tells_most(net: WordNet) -> None:
    """And everything tells nothing."""
    assert net.information["00000001"] == 0
    assert net.information["00000005"] == 1
    assert 0 < net.information["00000003"] < net.information["00000004"] < 1
    assert likeness(net, "00000004", "00000004") == 1
    assert likeness(net, "00000004", "00000008") < likeness(net, "00000004", "00000006")


def test_a_noun_has_the_thing_as_neighbour_that_is_most_of_a_kind(net: WordNet) -> None:
    """The nearer the kind, the smaller the distance; what cannot be drawn has none."""
    meant = senses_of(net, THINGS)
    assert meant.synsets == ("00000004", "00000008")
    found = nearest_things(net, ["short sword", "gun", "dingo", "love"], meant, 2)
    assert {noun: thing for noun, (_, thing) in found.items()} == {
        "short sword": 0,
        "gun": 0,
        "dingo": 1,
    }
    assert found["short sword"][0] < found["gun"][0]


def test_a_frequent_sense_wins(net: WordNet) -> None:
    """A blade is a sword first, and a rake, which is an animal here, if nothing is like a sword."""
    meant = senses_of(net, THINGS)
    assert nearest_things(net, ["blade"], meant, 2)["blade"][1] == 0
    wolf = senses_of(net, THINGS[1:])
    near, far = (nearest_things(net, [w], wolf, 1)[w][0] for w in ("dingo", "blade"))
    assert near < far


def test_names_and_towns_are_no_nouns_of_the_table(net: WordNet) -> None:
    """Small letters, and words that are written with a space."""
    nouns = plain_nouns(net)
    assert "short sword" in nouns
    assert not {"London", "london"} & {*nouns}


def test_a_database_without_its_licence_or_nouns_is_refused(tmp_path: Path) -> None:
    """With the folder."""
    with pytest.raises(RecipeError, match="wordnet"):
        wordnet_folder(tmp_path)
    (tmp_path / "wordnet/package/dict").mkdir(parents=True)
    with pytest.raises(RecipeError, match="licence"):
        wordnet_folder(tmp_path)
    (tmp_path / "wordnet/package/LICENSE").write_text("WordNet Release 3.0")
    with pytest.raises(RecipeError, match="no nouns"):
        WordNet.load(wordnet_folder(tmp_path))
