"""Prompt syntax of other programs: what is found in a prompt, and what the notes say of it."""

from __future__ import annotations

import pytest

from serve_app.catalog.syntax import syntax_in, syntax_notes
from tests.factories import params


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("(masterpiece:1.2) a fox", ["(masterpiece:1.2)"]),
        ("((best)) a [[dull]] fox", ["((best))", "[[dull]]"]),
        ("<lora:pixel art-v2:0.8> <hypernet:x:1>", ["<lora:pixel art-v2:0.8>", "<hypernet:x:1>"]),
        ("a fox BREAK a hen AND a cat", ["BREAK", "AND"]),
        ("[a|b] and [day:night:0.5]", ["[a|b]", "[day:night:0.5]"]),
        ("{red|blue} fox", ["{red|blue}"]),
        ("(oil paint)++ fox++ and (hen)1.3", ["(oil paint)++", "fox++", "(hen)1.3"]),
        ("anime++, hue--", ["anime++", "hue--"]),
        ("embedding:bad_hands", ["embedding:bad_hands"]),
        ("(a:1.2) (a:1.2)", ["(a:1.2)"]),
        ("(a, b (c), d:1.3)", ["(a, b (c), d:1.3)"]),
        ("a fox (red, with a hat), AND1 well-known BREAKFAST at 10:30", []),
        ("a sign <3 that says: [exit] {now}, 2+2, C++", []),
        ("ein Drache -- groß", []),
    ],
)
def test_what_other_programs_would_not_take_for_words(prompt: str, found: list[str]) -> None:
    """Each part once. Plain brackets, times and punctuation are words."""
    assert syntax_in(prompt) == found


def test_the_notes_name_the_parts_and_the_model() -> None:
    """Of both prompts; a long list says how long it is."""
    many = " ".join(f"(a{i}:1.2)" for i in range(6))
    order = params(prompt="<lora:x:0.8> BREAK", negative_prompt=many, model="starter")
    why = (
        "drawn as words, since starter reads no weights, LoRAs or other syntax; `prompt_syntax: weighted` "
        "reads weights and BREAK"
    )
    assert syntax_notes(order) == [
        f"prompt_syntax: <lora:x:0.8> BREAK: {why}",
        f"negative_prompt_syntax: (a0:1.2) (a1:1.2) (a2:1.2) (a3:1.2) and 2 more: {why}",
    ]
    assert syntax_notes(params(prompt="a fox (red)")) == []


def test_where_weights_are_read_only_the_rest_is_noted() -> None:
    """And a weight that was brought back into bounds."""
    order = params(
        prompt="((a)) (b:1.3) [c] BREAK <lora:x:0.8> [d|e] [f:g:0.5] {h|i} AND embedding:j",
        negative_prompt="(k:99)",
        prompt_syntax="weighted",
    )
    first, second = syntax_notes(order)
    assert first == (
        "prompt_syntax: <lora:x:0.8> [d|e] [f:g:0.5] {h|i} and 2 more: drawn as words; weights and BREAK are "
        "read, and nothing else"
    )
    assert second == "negative_prompt_weights: held within 0 and 4"
    assert syntax_notes(params(prompt="((a)) (b:1.3) BREAK c", prompt_syntax="weighted")) == []
