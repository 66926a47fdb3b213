"""Attention weights as people write them: what each bracket means, and what a wrong one does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.catalog.emphasis import HIGHEST, LOWEST, Piece, bounded, is_extreme, pieces_of


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("a red sword", [("a red sword", 1)]),
        ("a (red:1.3) sword", [("a ", 1), ("red", 1.3), (" sword", 1)]),
        ("a (red) sword", [("a ", 1), ("red", 1.1), (" sword", 1)]),
        ("((red)) [blue]", [("red", 1.21), (" ", 1), ("blue", 1 / 1.1)]),
        ("(a (red:1.5) [b])", [("a ", 1.1), ("red", 1.65), (" ", 1.1), ("b", 1)]),
        (r"a \(red:1.3\) sword", [("a (red:1.3) sword", 1)]),
        (r"(a \) b:1.2)", [("a ) b", 1.2)]),
        ("(red: 1.3 )", [("red", 1.3)]),
        ("(red:-0.5)", [("red", -0.5)]),
        ("(red:.5)", [("red", 0.5)]),
        ("a BREAK b", [("a", 1), (None, 1), ("b", 1)]),
        ("(a BREAK b:1.2)", [("a", 1.2), (None, 1.2), ("b", 1.2)]),
        ("BREAKFAST", [("BREAKFAST", 1)]),
        ("", [("", 1)]),
        ("()", [("", 1)]),
        ("at 10:30", [("at 10:30", 1)]),
    ],
)
def test_a_prompt_is_read_as_automatic1111_reads_it(
    prompt: str, pieces: list[tuple[str | None, float]]
) -> None:
    """Round brackets multiply by 1.1, square ones divide by it, a number says it outright; they nest."""
    found = pieces_of(prompt)
    assert [piece.text for piece in found] == [text for text, _ in pieces]
    assert [piece.weight for piece in found] == pytest.approx([weight for _, weight in pieces])


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("(a", [("a", 1.1)]),
        ("a)", [("a)", 1)]),
        ("[a", [("a", 1 / 1.1)]),
        ("(a]", [("a]", 1.1)]),
        ("[a:1.3)", [("a:1.3)", 1 / 1.1)]),
        ("a:1.3)", [("a:1.3)", 1)]),
    ],
)
def test_brackets_that_do_not_match_are_no_error(
    prompt: str, pieces: list[tuple[str, float]]
) -> None:
    """An open one counts to the end; one that closes nothing is a letter."""
    found = pieces_of(prompt)
    assert [p.text for p in found] == [text for text, _ in pieces]
    assert [p.weight for p in found] == pytest.approx([weight for _, weight in pieces])


def test_absurd_weights_are_held_within_bounds() -> None:
    """200 brackets make 1.1 to the power of 200; 999 is no weight."""
    for prompt, bound in (("(" * 200 + "x" + ")" * 200, HIGHEST), ("(x:999)", HIGHEST)):
        assert is_extreme(prompt)
        assert bounded(pieces_of(prompt)[0].weight) == bound
    assert bounded(pieces_of("(x:-3)")[0].weight) == LOWEST
    assert not is_extreme("((x:1.4)) [y]")


@given(st.text(alphabet="ab()[]\\:.12 BREAK", max_size=60))
def test_any_text_can_be_read(prompt: str) -> None:
    """Nothing of the words is lost: only marks are taken out."""
    pieces = pieces_of(prompt)
    assert pieces
    letters = "".join(piece.text or "" for piece in pieces)
    assert all(letters.count(letter) <= prompt.count(letter) for letter in "ab")
    if not set(prompt) & set("()[]\\") and "BREAK" not in prompt:
        assert pieces == [Piece(prompt)]
