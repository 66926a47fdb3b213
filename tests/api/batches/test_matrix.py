"""A matrix becomes orders; one that would be too large is refused before it is one."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from serve_app.api.batches.matrix import orders_of
from serve_app.api.batches.orders import Matrix
from serve_app.errors import InvalidField


def made(*prompts: str, most: int = 10_000, **axes: Any) -> list[dict[str, Any]]:
    return orders_of(Matrix(prompts=[*prompts], **axes), most, 2000)


def prompts(*templates: str, **axes: Any) -> list[str]:
    return [order["prompt"] for order in made(*templates, **axes)]


def test_prompts_change_slowest_and_seeds_fastest() -> None:
    orders = made("a", "b", styles=["s", "t"], seeds=[1, 2])
    assert [(o["prompt"], o["style_id"], o["seed"]) for o in orders] == [
        *(("a", "s", 1), ("a", "s", 2), ("a", "t", 1), ("a", "t", 2)),
        *(("b", "s", 1), ("b", "s", 2), ("b", "t", 1), ("b", "t", 2)),
    ]
    assert "size" not in orders[0]


def test_a_wildcard_stands_for_each_of_its_words() -> None:
    assert prompts("a {red|blue} {potion|sword}") == [
        "a red potion",
        "a red sword",
        "a blue potion",
        "a blue sword",
    ]
    assert prompts("a {|big} key") == ["a key", "a big key"]


def test_a_list_has_a_name() -> None:
    found = prompts("a {metal} axe, {metal}", lists={"metal": ["iron", "gold"]})
    assert found == ["a iron axe, iron", "a iron axe, gold", "a gold axe, iron", "a gold axe, gold"]


def test_doubled_braces_are_braces() -> None:
    assert prompts("a {{b|c}} {x|y}") == ["a {b|c} x", "a {b|c} y"]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("a {red|blue", "brace at character 3"),
        ("a red} key", "brace at character 6"),
        ("a {red|{dark|light} blue}", "brace at character 3"),
        ("a {metal} key", "no list is called 'metal'"),
        ("a {} key", "no list is called ''"),
    ],
)
def test_a_wildcard_that_is_none_is_named(template: str, said: str) -> None:
    with pytest.raises(InvalidField, match=said) as told:
        made("fine", template)
    assert told.value.field == "matrix.prompts.1"


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(InvalidField, match="is empty"):
        made("{none}", lists={"none": []})


def test_a_billion_orders_are_refused_before_they_are_made() -> None:
    """Made, they would not fit into memory; this takes no time."""
    ten = "{0|1|2|3|4|5|6|7|8|9}"
    with pytest.raises(InvalidField, match="1000000000 orders, at most 10000"):
        made(ten * 8, seeds=[*range(10)])
    with pytest.raises(InvalidField, match="at most 10000"):
        made(ten * 400)
    assert len(made(ten * 3, seeds=[*range(10)])) == 10_000


def test_long_prompts_are_refused_before_they_are_written_out() -> None:
    """A body of 16 MB could otherwise become 100 GB."""
    words = "|".join(f"w{n:04}" for n in range(9_999))
    with pytest.raises(InvalidField) as told:
        made("a key", f"{{{words}}}" + "x" * 5_000)
    assert told.value.field == "matrix.prompts.1"
    assert "5005 characters, at most 2000" in told.value.detail
    with pytest.raises(InvalidField) as told:
        made("{long}", lists={"long": ["a", "b" * 2001]})
    assert told.value.field == "matrix.prompts.0"
    assert len(made("{long}", lists={"long": ["a", "b" * 2000]})) == 2


def test_what_nobody_can_count_is_refused_at_once() -> None:
    """Two to the power of ten thousand has more digits than Python writes."""
    with pytest.raises(InvalidField, match="1000000000000 or more orders"):
        made("{a|b}" * 13_000)
    with pytest.raises(ValidationError, match="at most 65536 characters"):
        made("{a|b}" * 14_000)
