"""Orders of a batch are checked all together; their keys and seeds depend on nothing but themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from serve_app.api.batches.checked import MOST_ERRORS, checked
from serve_app.catalog.resolve import resolve
from serve_app.catalog.styles import Styles
from serve_app.catalog.wording import reworded
from serve_app.config import Settings
from serve_app.errors import InvalidField, InvalidRows
from serve_app.messages import BatchRow
from serve_app.params import MAX_SEED, GenerationParams
from tests.api.harness import MODELS, STYLES
from tests.catalog.test_taught import SWORDS

TAUGHT, LIMITS = {"tiny": SWORDS}, Settings()


def rows(
    *orders: Any,
    defaults: dict[str, Any] | None = None,
    styles: Styles = STYLES,
    revision_of: Callable[[str], str] = lambda name: f"{name}-weights",
    **where: Any,
) -> list[BatchRow]:
    resolved = partial(
        resolve,
        styles=styles,
        models=MODELS,
        active="tiny",
        revision_of=revision_of,
        limits=LIMITS,
        vocabularies=TAUGHT,
    )
    worded_anew = partial(
        reworded,
        styles=styles,
        models=MODELS,
        vocabularies=TAUGHT,
        most=LIMITS.max_prompt_chars,
    )
    given = {"style_id": "icon"} if defaults is None else defaults
    return checked(orders, given, resolved, worded_anew, client="ann", batch_id="b", **where).rows


def seeds(found: list[BatchRow]) -> list[int]:
    return [row["summary"]["seed"] for row in found]


def keys(found: list[BatchRow]) -> list[bytes]:
    return [row["key"] for row in found]


def wrong(*orders: Any, **more: Any) -> InvalidRows:
    with pytest.raises(InvalidRows) as told:
        rows(*orders, **more)
    return told.value


def test_the_same_file_asks_for_the_same_pictures() -> None:
    """Drawn seeds, too, whatever stands beside an order and in whatever place."""
    potion, sword = {"prompt": "a potion"}, {"prompt": "a sword", "seed": 7}
    first, second = rows(potion, sword), rows(sword, {"prompt": "a key"}, potion)
    assert keys(first) == [keys(second)[2], keys(second)[0]]
    assert seeds(first) == [seeds(second)[2], 7]
    assert json.loads(first[0]["params"])["seed"] == seeds(first)[0]


def test_a_drawn_seed_is_put_into_nothing_but_the_seed() -> None:
    words = 'a "seed":0, potion'
    (row,) = rows({"prompt": words, "negative_prompt": words, "metadata": {"seed": 0}})
    params = json.loads(row["params"])
    assert (params["subject"], params["seed"]) == (words, row["summary"]["seed"])
    assert words in params["prompt"]
    assert words in params["negative_prompt"]
    assert row["labels"]["metadata"] == {"seed": 0}


def test_equal_orders_of_one_file_have_keys_and_seeds_of_their_own() -> None:
    found = rows(*[{"prompt": "a potion"}] * 5)
    assert len(set(keys(found))) == len(set(seeds(found))) == 5


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a blue potion"},
        {"seed": 7},
        {"steps": 9},
        {"size": "64x128"},
        {"effects": [{"op": "trim"}]},
        {"negative_prompt": "text"},
        {"n": 2},
    ],
)
def test_whatever_is_drawn_is_in_the_key(change: dict[str, Any]) -> None:
    assert keys(rows({"prompt": "a potion"})) != keys(rows({"prompt": "a potion", **change}))


def test_so_are_the_style_and_the_weights() -> None:
    before = keys(rows({"prompt": "a potion"}))
    icon = STYLES["icon"].model_copy(update={"template": "{prompt}, other words"})
    assert keys(rows({"prompt": "a potion"}, styles=Styles({"icon": icon}))) != before
    assert keys(rows({"prompt": "a potion"}, revision_of=lambda _: "newer")) != before


@pytest.mark.parametrize(
    "beside", [{"name": "hero"}, {"tags": ["a"]}, {"priority": "low"}, {"metadata": {"slot": 7}}]
)
def test_what_no_picture_depends_on_is_not(beside: dict[str, Any]) -> None:
    assert keys(rows({"prompt": "a"})) == keys(rows({"prompt": "a", **beside}))


def test_defaults_hold_where_an_order_says_nothing() -> None:
    defaults = {"style_id": "icon", "steps": 9, "tags": ["all"], "size": "64x128"}
    first, second = rows(
        {"prompt": "a"},
        {"prompt": "b", "steps": 3, "tags": ["own"], "width": 64, "height": 64},
        defaults=defaults,
    )
    params = [json.loads(row["params"]) for row in (first, second)]
    assert [p["steps"] for p in params] == [9, 3]
    assert [p["height"] for p in params] == [128, 64]
    assert (first["labels"]["tags"], second["labels"]["tags"]) == (["all"], ["own"])


KINDS: list[dict[str, Any]] = [
    {},
    {"style_id": "none"},
    {"n": 2, "size": "64x128"},
    {"steps": 9, "guidance_scale": 1, "scheduler": "euler"},
    {"prompt_syntax": "weighted", "clip_skip": 2},
    {
        "effects": [{"op": "trim", "padding": 2}],
        "require": {"coverage": {"min": 0.1}},
        "redraws": 3,
    },
    {"priority": "high", "tags": ["a", "a"], "metadata": {"slot": 1}},
    {"metadata": {"slot": True}, "name": "hero"},
]
WORDS: list[dict[str, Any]] = [
    {"prompt": "a sword"},
    {"prompt": '\ta \u0085sword\n, \u00e4lter "seed":0,', "negative_prompt": " text\x00 "},
    {"prompt": "a spatula", "seed": 7},
    {"prompt": "a sword", "seed": None},
    {"prompt": "(a sword:1.2) BREAK [x]", "negative_prompt": "blurry", "seed": 3.0},
]


def test_orders_that_share_their_kind_are_sealed_as_any_order_is() -> None:
    """To the byte, since a key is a hash of it."""
    for row in rows(*[{**kind, **words} for words in WORDS for kind in KINDS]):
        sealed = GenerationParams.model_validate_json(row["params"])
        assert sealed.model_dump_json() == row["params"]
        assert sealed.seed == row["summary"]["seed"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", WORDS)
def test_what_stands_before_an_order_changes_nothing_of_it(
    kind: dict[str, Any], words: dict[str, Any]
) -> None:
    before, order = {**kind, "prompt": "another thing", "seed": 5}, {**kind, **words}
    (_, second), (alone,) = rows(before, order), rows(order)
    for row in (second, alone):
        del row["job_id"]  # pyright: ignore[reportGeneralTypeIssues]
    assert repr(second) == repr(alone)


@pytest.mark.parametrize(
    "bad",
    [
        {"prompt": "a" * 5000},
        {"prompt": " \n"},
        {"prompt": 7},
        {"prompt": "\ud800"},
        {"prompt": "a", "negative_prompt": "b" * 5000},
        {"prompt": "a", "seed": MAX_SEED},
        {"prompt": "a", "seed": True},
        {"prompt": "a", "name": ""},
        {"prompt": "a", "tags": "b"},
        {"prompt": "a", "n": True},
        {"prompt": "a", "n": "2"},
        {},
    ],
)
def test_an_order_that_is_wrong_is_told_alike_alone_and_after_good_ones(
    bad: dict[str, Any],
) -> None:
    """`n: true` equals `n: 1` for Python, and is none."""
    kind: dict[str, Any] = {"n": 2} if bad.get("seed") == MAX_SEED else {}
    good = [{"prompt": "a", "n": 1}, {"prompt": "b", "n": 2}, {"prompt": "c"}]
    (alone,), (after,) = wrong(kind | bad).errors, wrong(*good, kind | bad).errors
    assert (alone.row, after.row) == (1, 4)
    assert (alone.field, alone.detail, alone.allowed) == (after.field, after.detail, after.allowed)


def test_a_default_that_is_wrong_for_every_order_is_found_once() -> None:
    """Each order is told of all the same, and of its own words where they are wrong."""
    asked: list[str] = []

    def counted(order: Any, **more: Any) -> GenerationParams:
        asked.append(order.prompt)
        return resolve(
            order,
            styles=STYLES,
            models=MODELS,
            active="tiny",
            revision_of=str,
            limits=LIMITS,
            **more,
        )

    orders = [{"prompt": f"p{n}"} for n in range(9)] + [{"prompt": "a" * 5000}]
    with pytest.raises(InvalidRows) as told:
        checked(
            orders,
            {"require": {"coverage": {str(n): n for n in range(1000)}}},
            counted,
            partial(reworded, styles=STYLES, models=MODELS, vocabularies={}, most=2000),
            client="ann",
            batch_id="b",
        )
    fields = [error.field for error in told.value.errors]
    assert [field.partition(".")[0] for field in fields] == ["require"] * 9 + ["prompt"]
    assert asked == ["p0", "a" * 5000]


@pytest.mark.parametrize(
    ("field", "value"),
    [("effects", [{"op": "trim"}] * 17), ("require", {str(n): 1 for n in range(40)})],
)
def test_defaults_that_are_too_many_are_told_once(field: str, value: Any) -> None:
    (error,) = wrong(*[{"prompt": "a"}] * 50, defaults={field: value}).errors
    assert (error.row, error.field) == (None, f"defaults.{field}")


def test_every_error_is_told_with_its_row_and_field() -> None:
    told = wrong(
        {"prompt": "fine"},
        {"prompt": "", "seed": -7},
        {"prompt": "a", "style_id": "no"},
        "no object",
        {"prompt": "a", "colour": "red"},
        {"seed": 1},
        {"prompt": "a", "dry_run": True},
        where=lambda row: f" (line {row + 1})",
        pointer=lambda row: f"#/orders/{row - 1}",
    )
    found = [(error.row, error.field, error.pointer) for error in told.errors]
    assert found == [
        (2, "prompt", "#/orders/1/prompt"),
        (2, "seed", "#/orders/1/seed"),
        (3, "style_id", "#/orders/2/style_id"),
        (4, "body", "#/orders/3"),
        (5, "colour", "#/orders/4/colour"),
        (6, "prompt", "#/orders/5/prompt"),
        (7, "dry_run", "#/orders/6/dry_run"),
    ]
    assert told.errors[2].allowed == ["icon", "none", "portrait"]
    assert all(
        error.detail.endswith(f"(line {error.row + 1})") for error in told.errors if error.row
    )


def test_a_wrong_one_in_ten_thousand_is_found() -> None:
    orders: list[Any] = [{"prompt": f"potion {n}"} for n in range(10_000)]
    orders[7123] = {"prompt": "a", "steps": 999}
    (error,) = wrong(*orders).errors
    assert (error.row, error.field, error.allowed) == (7124, "steps", ["2 to 50"])


def test_of_many_errors_the_first_are_told_and_all_are_counted() -> None:
    told = wrong(*[{"prompt": ""}] * 500)
    assert len(told.errors) == MOST_ERRORS
    assert "497 more" in told.detail


@pytest.mark.parametrize(
    ("defaults", "field"),
    [({"steps": "many"}, "defaults.steps"), ({"colour": 1}, "defaults.colour")],
)
def test_wrong_defaults_are_told_once(defaults: dict[str, Any], field: str) -> None:
    (error,) = wrong(*[{"prompt": "a"}] * 50, defaults=defaults).errors
    assert (error.row, error.field) == (None, field)


def test_defaults_that_contradict_themselves_are_told() -> None:
    with pytest.raises(InvalidField) as told:
        rows({"prompt": "a"}, defaults={"size": "64x64", "width": 64})
    assert told.value.field == "defaults.size"
