"""Text and numbers as bytes: short, in order, and never in a form that readers do not know."""

from __future__ import annotations

import pytest

from serve_app.delivery.formats.encoding import as_json, number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12, "12"),
        (0.5, "0.5"),
        (1000 / 12, "83.333333"),
        (0.00001, "0.00001"),
        (100, "100"),
        (0, "0"),
    ],
)
def test_a_number_is_as_short_as_it_goes(value: float, text: str) -> None:
    assert number(value) == text


def test_json_keeps_the_order_of_its_keys_and_letters_as_they_are() -> None:
    assert as_json({"b": 1, "a": "é"}).decode() == '{\n "b": 1,\n "a": "é"\n}\n'
