"""Names of sprites: what is refused, and what `safe_name` makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.delivery.names import MAX_NAME, name_problem, natural_key, safe_name


@pytest.mark.parametrize("name", ["hero", "Hero_2-b", "0", "a" * MAX_NAME])
def test_a_plain_name_is_taken(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", "a\\b", "C:x", ".hidden", "-x", "_x", "a b", "a.png", "a\n", "🐉",
             "größe", "a" * 101, "x" * 300, "__proto__", "con", "NUL", "lpt1"],
)  # fmt: skip
def test_an_unsafe_name_is_refused(name: str) -> None:
    assert name_problem(name)


def test_the_refusal_says_what_is_allowed_and_what_would_do() -> None:
    problem = name_problem("../Größe 1")
    assert problem is not None
    assert "A-Z a-z 0-9" in problem
    assert "'Grosse_1'" in problem or "'Gro_e_1'" in problem


def test_a_long_name_is_not_repeated_in_full() -> None:
    assert len(name_problem("x" * 300) or "") < 300


@pytest.mark.parametrize(
    ("text", "name"),
    [("../../etc/passwd", "etc_passwd"), ("Épée d'or", "Epee_d_or"), ("🐉", "sprite"),
     ("con", "con_"), ("x" * 300, "x" * MAX_NAME)],
)  # fmt: skip
def test_a_safe_name_is_near_the_text(text: str, name: str) -> None:
    assert safe_name(text) == name


@given(st.text())
def test_a_safe_name_is_safe(text: str) -> None:
    assert name_problem(safe_name(text)) is None


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_]{0,20}[a-z0-9]", fullmatch=True))
def test_a_name_that_is_safe_stays(name: str) -> None:
    assert safe_name(name) == name or name_problem(name)


def test_numbers_sort_as_numbers() -> None:
    assert sorted(["walk_10", "walk_2", "hero"], key=natural_key) == ["hero", "walk_2", "walk_10"]


@given(st.lists(st.text(max_size=5), unique=True))
def test_any_names_have_one_natural_order(names: list[str]) -> None:
    backwards = names[::-1]
    assert sorted(names, key=natural_key) == sorted(backwards, key=natural_key)


def test_a_raised_two_is_no_number() -> None:
    assert natural_key("m²") == ([(-1, "m²")], "m²")
