"""What a model was taught to draw, and what is nearest to a prompt that names nothing of it.

It does not know networks or WordNet: the table of neighbours was written beside the weights by word_table.py.
Loads in some milliseconds and answers in microseconds, so that whoever takes an order can ask.
"""

from __future__ import annotations

import difflib
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from .captions import ADJECTIVES, GROUNDS, NUMBERS, SIZES, STYLE_PHRASES, Concept
from .inks import INKS
from .rewording import FUNCTION_WORDS, Neighbour, Word, reworded, words_of

FILE = "vocabulary.npz"  # in the directory of the weights
MOST_NAMED = 4  # unknown words in a note
LONGEST = 4  # words of a name
ALIKE = 0.78  # share of letters in common from which a word is taken for a slip of the pen
PLURALS = (("ies", "y"), ("ves", "f"), ("es", ""), ("s", ""))
MOST_SPELLED = 8  # words of a prompt whose spelling is compared


class VocabularyError(Exception):
    """The file beside the weights is missing or damaged; the text says which."""


@dataclass(frozen=True)
class Familiarity:
    """How much of a prompt the model was taught."""

    known: tuple[str, ...] = ()  # names found in the prompt
    unknown: tuple[str, ...] = ()  # words of the prompt that name nothing known
    nearest: str = ""  # label of the known thing nearest to the unknown ones
    instead: str = ""  # the prompt with that thing in their place

    def note(self, *, instead: bool = False) -> str:
        """Sentences for the person who ordered; empty when the prompt names a known thing. `instead`: that
        prompt is drawn."""
        if self.known:
            return ""
        if not self.unknown:
            return "The prompt names nothing that this model was taught to draw."
        words = ", ".join(f"“{word}”" for word in self.unknown[:MOST_NAMED])
        if len(self.unknown) > MOST_NAMED:
            words += f" and {len(self.unknown) - MOST_NAMED} words more"
        told = f"This model was not taught {words}."
        if not self.nearest:
            return told
        if instead:
            return f"{told} It draws the nearest it knows: {self.nearest}."
        return f"{told} The nearest it knows: {self.nearest}."


@dataclass(frozen=True)
class Vocabulary:
    """`things`: every concept with its names. `neighbours`: other nouns -> index of the nearest thing."""

    things: tuple[Concept, ...]
    describing: frozenset[str]  # words that say how a thing looks, and no thing
    neighbours: Mapping[str, int]

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Of the weights in `folder`. Raises VocabularyError."""
        path = folder / FILE
        try:
            # From memory: numpy leaves a damaged file open.
            with np.load(io.BytesIO(path.read_bytes())) as content:
                lines = content["things"].tobytes().decode().splitlines()
                nouns = content["nouns"].tobytes().decode().splitlines()
                nearest: list[int] = content["nearest"].tolist()
                describing = content["describing"].tobytes().decode().split()
            if nearest and max(nearest) >= len(lines):
                raise ValueError("a neighbour is no thing")
            return cls(
                tuple(Concept(tuple(line.split("|"))) for line in lines),
                frozenset(describing),
                dict(zip(nouns, nearest, strict=True)),
            )
        except FileNotFoundError as error:
            raise VocabularyError(f"{path} is missing") from error
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise VocabularyError(f"{path} cannot be read: {error}") from error

    def save(self, folder: Path) -> None:
        """The same vocabulary is always the same bytes."""
        nouns = sorted(self.neighbours)
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            things=_bytes("\n".join("|".join(thing.names) for thing in self.things)),
            describing=_bytes(" ".join(sorted(self.describing))),
            nouns=_bytes("\n".join(nouns)),
            nearest=np.array([self.neighbours[noun] for noun in nouns], np.uint16),
        )
        (folder / FILE).write_bytes(buffer.getvalue())

    @cached_property
    def _labels(self) -> dict[str, str]:
        """Name -> label of its thing; the first thing that claims a name has it."""
        found: dict[str, str] = {}
        for thing in self.things:
            for name in thing.names:
                found.setdefault(name, thing.names[0])
        return found

    @cached_property
    def _forms(self) -> dict[str, str]:
        """Name, plural or singular -> name. What is a name itself is no form of another one."""
        found = {name[:-1]: name for name in self._labels if name.endswith("s")}
        for ending in ("es", "s", ""):
            found |= {name + ending: name for name in self._labels}
        return found

    @cached_property
    def _longest(self) -> dict[str, int]:
        """Word -> how many words the longest name has that begins with it, LONGEST at most. Where no long
        name begins, none is looked for: a batch asks 10,000 times."""
        found: dict[str, int] = {}
        for name in self._labels:
            first, *rest = name.split(" ")
            if rest:
                found[first] = max(found.get(first, 1), min(LONGEST, 1 + len(rest)))
        return found

    def search(self, text: str = "", *, offset: int = 0, limit: int = 50) -> list[Concept]:
        """Things one of whose names holds `text`, whole names first, a page at a time."""
        wanted = " ".join(words_of(text))
        found = [t for t in self.things if any(wanted in name for name in t.names)]
        found.sort(key=lambda thing: wanted not in thing.names)
        return found[offset : offset + limit]

    def familiarity(self, prompt: str) -> Familiarity:
        words = self._split(words_of(prompt))
        known, left = self._named(words)
        unknown = tuple(
            w
            for w in left
            if w not in FUNCTION_WORDS and w not in self.describing and not w.isdigit()
        )
        # `ice` is a thing, but in `an ice katana` it says how.
        if known and not (unknown and self.describing.issuperset(known)):
            return Familiarity(known=tuple(known), unknown=unknown)
        found = self._reworded(prompt, {*unknown}) if unknown else None
        if known and found is None:
            return Familiarity(known=tuple(known), unknown=unknown)
        nearest, instead = found or ("", "")
        return Familiarity(unknown=unknown, nearest=nearest, instead=instead)

    def _reworded(self, prompt: str, unknown: set[str]) -> tuple[str, str] | None:
        """(nearest thing, the prompt with it), by meaning, or else by spelling."""
        words = Word.all(prompt, self._is_whole, unknown, self.describing)
        if found := reworded(prompt, words, self._neighbour):
            return found
        spelled = [word.text for word in words if word.text in unknown][:MOST_SPELLED]
        slips = {word: label for word in spelled if (label := self._alike(word))}
        return reworded(prompt, words, lambda said: _singular(slips.get(said))) if slips else None

    def _split(self, words: list[str]) -> list[str]:
        """`laser-gun` is two words, `t-rex` is one."""
        if not any("-" in word for word in words):
            return words
        return [
            part for word in words for part in ([word] if self._is_whole(word) else word.split("-"))
        ]

    def _is_whole(self, word: str) -> bool:
        """Is `word`, hyphens and all, a word of its own?"""
        return word in self._forms or word in self.describing or word in self.neighbours

    def _neighbour(self, said: str) -> Neighbour | None:
        """Of words that say a noun, in the singular or plural."""
        if (index := self.neighbours.get(said)) is not None:
            return Neighbour(self.things[index].names[0], many=False)
        for ending, instead in PLURALS:
            if said.endswith(ending):
                one = said.removesuffix(ending) + instead
                if (index := self.neighbours.get(one)) is not None:
                    return Neighbour(self.things[index].names[0], many=True)
        return None

    @cached_property
    def _alike(self) -> Callable[[str], str]:
        """Word -> label of the thing whose name is spelled like it, or nothing."""
        names: dict[str, list[str]] = {}
        for name in self._labels:
            names.setdefault(name[:1], []).append(name)

        @lru_cache(4096)
        def alike(word: str) -> str:
            near = [n for n in names.get(word[:1], ()) if abs(len(n) - len(word)) <= 2]
            found = difflib.get_close_matches(word, near, n=1, cutoff=ALIKE)
            return self._labels[found[0]] if found else ""

        return alike

    def _named(self, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """Names found in `words`, longest first from the left, and the words that are left."""
        known: list[str] = []
        left: list[str] = []
        start = 0
        while start < len(words):
            word = words[start]
            if word not in self._longest:  # hot: nearly every word
                name = self._forms.get(word, "")
                (known if name else left).append(name or word)
                start += 1
                continue
            for length in range(min(self._longest[word], len(words) - start), 0, -1):
                name = self._spelled(" ".join(words[start : start + length]))
                if name:
                    known.append(name)
                    start += length
                    break
            else:
                left.append(word)
                start += 1
        return known, left

    def _spelled(self, name: str) -> str:
        """The known name that `name` is, in the singular or plural; or nothing."""
        return self._forms.get(name, "")


def describing_words() -> frozenset[str]:
    """Words that say how a thing looks: colours, materials, styles, sizes, numbers, grounds."""
    phrases = [*ADJECTIVES, *(word for ink in INKS for word in ink.words)]
    for group in (STYLE_PHRASES, GROUNDS, SIZES, NUMBERS):
        phrases += [phrase for some in group.values() for phrase in some]
    return frozenset(word for phrase in phrases for word in words_of(phrase))


def _singular(label: str | None) -> Neighbour | None:
    return Neighbour(label, many=False) if label else None


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)
