"""Says a prompt with a known thing in the place of an unknown one.

It does not know which things are known: it is asked for the neighbour of some words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .captions import plural

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
LONGEST_NOUN = 3  # words of a noun of the thesaurus
# They join, even where a phrase that says how something looks has one of them ("made of gold").
JOINING = frozenset(
    (
        *("a", "an", "the", "of", "with", "and", "or", "in", "on", "at", "to", "from", "for", "by"),
        *("some", "any"),
    )
)
# Words that say no thing: how rather than what.
FUNCTION_WORDS = JOINING | frozenset(
    (
        *("its", "his", "her", "their", "very", "this", "that", "like", "no"),
        *("object", "image", "picture", "drawing", "view", "body", "isolated", "single", "full"),
        "break",  # of weighted prompts: it begins a window
    )
)
_EMPTY = re.compile(r"[(\[][\s,]*(?::[\d.]*)?\s*[)\]]")  # brackets around nothing
_COMMAS = re.compile(r"\s*,(?:\s*,)*")


@dataclass(frozen=True)
class Neighbour:
    """`many`: the words it stands for are in the plural."""

    label: str
    many: bool

    @property
    def said(self) -> str:
        return plural(self.label) if self.many else self.label


Neighbours = Callable[[str], Neighbour | None]


@dataclass(frozen=True)
class Word:
    """A word of a prompt, in lower case, and where it stands. `joins`: it says no thing (`of`); `unknown`:
    nothing known; else how something looks."""

    text: str
    start: int
    end: int
    joins: bool
    unknown: bool

    @classmethod
    def all(
        cls,
        prompt: str,
        is_whole: Callable[[str], bool],
        unknown: Iterable[str],
        describing: Iterable[str],
    ) -> list[Word]:
        """`is_whole`: is a word with hyphens one word?"""
        unknown, describing = frozenset(unknown), frozenset(describing)
        found: list[Word] = []
        for match in WORD.finditer(prompt):
            whole = is_whole(match[0].lower())
            parts = [match] if whole else re.compile(r"[^-]+").finditer(prompt, *match.span())
            for part in parts:
                text = part[0].lower()
                joins = text in JOINING or (text in FUNCTION_WORDS and text not in describing)
                found.append(cls(text, *part.span(), joins, text in unknown))
        return found


def words_of(text: str) -> list[str]:
    return WORD.findall(text.lower())


def reworded(
    prompt: str, words: Sequence[Word], neighbour_of: Neighbours
) -> tuple[str, str] | None:
    """(label of the neighbour, the prompt with it); nothing when no noun of the prompt has one.

    In English the last word of a phrase says what the thing is, and the first phrase what is asked for: `a
    rusty katana of the samurai`. Other unknown words are left out, with the `of the` before them.
    """
    phrases = _phrases(prompt, words)
    for phrase in phrases:
        if found := _noun(phrase, neighbour_of):
            first, last, neighbour = found
            kept = [word for some in phrases for word in _kept(some, first, last)]
            return neighbour.label, _said(prompt, words, kept, first, last, neighbour.said)
    return None


def _phrases(prompt: str, words: Sequence[Word]) -> list[list[Word]]:
    """Words that belong together: some that join, and those after them up to the next that joins or the
    next punctuation."""
    phrases: list[list[Word]] = [[*words[:1]]]
    for before, word in pairwise(words):
        apart = bool(prompt[before.end : word.start].strip(" -\t\n"))
        if (apart and any(not one.joins for one in phrases[-1])) or (
            word.joins and not before.joins
        ):
            phrases.append([])
        phrases[-1].append(word)
    return phrases


def _noun(phrase: Sequence[Word], neighbour_of: Neighbours) -> tuple[Word, Word, Neighbour] | None:
    """The last noun of the phrase that has a neighbour: its first word, its last, and that."""
    for end in range(len(phrase), 0, -1):
        for start in range(max(0, end - LONGEST_NOUN), end):
            some = phrase[start:end]
            if any(word.joins for word in some) or not some[-1].unknown:
                continue
            if found := neighbour_of(" ".join(word.text for word in some)):
                return some[0], some[-1], found
    return None


def _kept(phrase: Sequence[Word], first: Word, last: Word) -> list[Word]:
    """Of a phrase, what does not go: nothing, when all that it says is unknown."""
    kept = [
        word
        for word in phrase
        if word.joins or not word.unknown or first.start <= word.start <= last.start
    ]
    return kept if any(not word.joins for word in kept) else []


def _said(
    prompt: str, words: Sequence[Word], kept: Sequence[Word], first: Word, last: Word, said: str
) -> str:
    """What stands between the words stays: commas, brackets, weights."""
    texts = {word.start: prompt[word.start : word.end] for word in kept}
    texts = {at: text for at, text in texts.items() if not first.start < at <= last.start}
    texts[first.start] = said
    parts: list[str] = []
    at = 0
    for word, following in zip(words, [*words[1:], None], strict=True):
        inside = first.start < word.start <= last.start
        parts.append("" if inside else prompt[at : word.start])
        text = texts.get(word.start, "")
        if text.lower() in ("a", "an") and following is not None:
            stays = following.start in texts and following is not first
            text = text if stays else _article(text, _next(texts, word.start))
        parts.append(text)
        at = word.end
    parts.append(prompt[at:])
    return _tidy("".join(parts))


def _next(texts: Mapping[int, str], start: int) -> str:
    return next((texts[at] for at in sorted(texts) if at > start), "")


def _article(text: str, following: str) -> str:
    """`an emerald` becomes `a gem stone`."""
    article = "an" if following[:1].lower() in tuple("aeiou") else "a"
    return article.capitalize() if text[:1].isupper() else article


def _tidy(text: str) -> str:
    text = _EMPTY.sub("", text)
    text = _COMMAS.sub(",", " ".join(text.split()))
    return re.sub(r"([(\[]) ", r"\1", text).strip(" ,-")
