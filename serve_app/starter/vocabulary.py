"""What a model was taught to draw, how far a prompt is from that, and which known things are nearest.

It does not know networks: word vectors were written beside the weights by word_vectors.py. Loads in
some milliseconds and answers in less than one, so that whoever takes an order can ask.
"""

from __future__ import annotations

import difflib
import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .captions import ADJECTIVES, GROUNDS, NUMBERS, SIZES, STYLE_PHRASES, Concept
from .inks import INKS

FILE = "vocabulary.npz"  # in the directory of the weights
NEAREST = 3
MOST_NAMED = 4  # unknown words in a note
# Distance up to which a thing is worth naming; beyond, most of them have nothing in common.
NEAR = 0.35
LONGEST = 4  # words of a name
# Words that say no thing: how rather than what.
FUNCTION_WORDS = frozenset(
    (
        *("a", "an", "the", "of", "with", "and", "or", "in", "on", "at", "to", "from", "for", "by"),
        *("its", "his", "her", "their", "very", "some", "any", "this", "that", "like", "no"),
        *("object", "image", "picture", "drawing", "view", "body", "isolated", "single", "full"),
    )
)


class VocabularyError(Exception):
    """The file beside the weights is missing or damaged; the text says which."""


@dataclass(frozen=True)
class Familiarity:
    """How much of a prompt the model was taught."""

    distance: float  # 0: names a known thing; 1: like nothing known
    known: tuple[str, ...]  # names found in the prompt
    unknown: tuple[str, ...]  # words of the prompt that name nothing known
    nearest: tuple[str, ...]  # labels of known things near the unknown words, nearest first

    def note(self) -> str:
        """A sentence for the person who ordered; empty when the prompt names a known thing."""
        if self.known:
            return ""
        if not self.unknown:
            return "The prompt names nothing that this model was taught to draw."
        words = ", ".join(f"“{word}”" for word in self.unknown[:MOST_NAMED])
        if len(self.unknown) > MOST_NAMED:
            words += f" and {len(self.unknown) - MOST_NAMED} words more"
        near = f" The nearest it knows: {', '.join(self.nearest)}." if self.nearest else ""
        return f"This model was not taught {words}.{near}"


@dataclass(frozen=True)
class Vocabulary:
    """`things`: every concept with its names. `vectors` of words and names have length 1."""

    things: tuple[Concept, ...]
    describing: frozenset[str]  # words that say how a thing looks, and no thing
    words: tuple[str, ...]
    word_vectors: np.ndarray  # (words, D), float32
    name_vectors: np.ndarray  # (names of all things in order, D), float32

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Of the weights in `folder`. Raises VocabularyError."""
        path = folder / FILE
        try:
            # From memory: numpy leaves a damaged file open.
            with np.load(io.BytesIO(path.read_bytes())) as content:
                lines = content["things"].tobytes().decode().splitlines()
                things = tuple(Concept(tuple(line.split("|"))) for line in lines)
                return cls(
                    things,
                    frozenset(content["describing"].tobytes().decode().split()),
                    tuple(content["words"].tobytes().decode().split()),
                    _unit(content["word_vectors"]),
                    _unit(content["name_vectors"]),
                )
        except FileNotFoundError as error:
            raise VocabularyError(f"{path} is missing") from error
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise VocabularyError(f"{path} cannot be read: {error}") from error

    def save(self, folder: Path) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            things=_bytes("\n".join("|".join(thing.names) for thing in self.things)),
            describing=_bytes(" ".join(sorted(self.describing))),
            words=_bytes(" ".join(self.words)),
            word_vectors=_small(self.word_vectors),
            name_vectors=_small(self.name_vectors),
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

    @cached_property
    def _owner(self) -> list[str]:
        return [thing.names[0] for thing in self.things for _ in thing.names]

    @cached_property
    def _word_rows(self) -> dict[str, int]:
        return {word: row for row, word in enumerate(self.words)}

    def search(self, text: str = "", *, offset: int = 0, limit: int = 50) -> list[Concept]:
        """Things one of whose names holds `text`, whole names first, a page at a time."""
        wanted = " ".join(_words(text))
        found = [t for t in self.things if any(wanted in name for name in t.names)]
        found.sort(key=lambda thing: wanted not in thing.names)
        return found[offset : offset + limit]

    def familiarity(self, prompt: str) -> Familiarity:
        words = _words(prompt)
        known, left = self._named(words)
        unknown = tuple(
            w
            for w in left
            if w not in FUNCTION_WORDS and w not in self.describing and not w.isdigit()
        )
        if not known and not unknown:
            return Familiarity(1.0, (), (), ())
        if known:
            return Familiarity(0.0, tuple(known), unknown, ())
        # In English the last word says what the thing is, and those before it what kind.
        near = next((found for word in reversed(unknown) if (found := self._near(word))), [])
        close = [label for distance, label in near if distance <= NEAR]
        labels = tuple(dict.fromkeys(close))[:NEAREST]
        return Familiarity(round(near[0][0], 3) if near else 1.0, (), unknown, labels)

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

    def _near(self, word: str) -> list[tuple[float, str]]:
        """(distance, label) of the things nearest in meaning, or in spelling for a word that the
        table does not hold."""
        row = self._word_rows.get(word, self._word_rows.get(word.removesuffix("s")))
        if row is None:
            alike = difflib.get_close_matches(word, self._labels, n=1, cutoff=0.78)
            return [(0.2, self._labels[alike[0]])] if alike else []
        apart = 1 - self.name_vectors @ self.word_vectors[row]
        return [(float(apart[r]), self._owner[r]) for r in apart.argsort()[: 4 * NEAREST]]


def describing_words() -> frozenset[str]:
    """Words that say how a thing looks: colours, materials, styles, sizes, numbers, grounds."""
    phrases = [*ADJECTIVES, *(word for ink in INKS for word in ink.words)]
    for group in (STYLE_PHRASES, GROUNDS, SIZES, NUMBERS):
        phrases += [phrase for some in group.values() for phrase in some]
    return frozenset(word for phrase in phrases for word in _words(phrase))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text.lower())


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def _small(vectors: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(vectors * 127), -127, 127).astype(np.int8)


def _unit(vectors: np.ndarray) -> np.ndarray:
    values = vectors.astype(np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
