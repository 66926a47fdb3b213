"""Finding: a job is found by beginnings of its words and by its marks, by its owner alone, until it goes."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import Any

import pytest

from serve_app.jobs.job import Job
from serve_app.jobs.store.finding import marks_of, matching, said_of
from serve_app.jobs.store.sqlite import SqliteStore
from serve_app.messages import JobFilter
from tests.factories import image_file, job, labels, params
from tests.jobs.harness import insert


def ordered(name: str, prompt: str, number: int, owner: str = "ann", **labelled: Any) -> Job:
    order = params(subject=prompt)
    made = job(labelled=labels(**labelled), job_id=name, owner=owner, number=number)
    images = tuple(image_file(index=index) for index in range(2))
    return made.evolve(params=order.model_dump(), images=images)


async def found(store: SqliteStore, wanted: JobFilter, owner: str = "ann") -> list[str]:
    page = await store.page(owner, wanted, limit=100, before=None, after=None)
    return [one.job_id for one in page.jobs]


def left(store: SqliteStore) -> list[int]:
    """Rows of the three tables."""
    with contextlib.closing(sqlite3.connect(store._database.path)) as db:
        tables = ("tags", "marks", "words")
        return [db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in tables]


PROMPTS = {
    "potion": "A Red Potion, round bottle",
    "sword": "red-hot sword_of_fire",
    "cream": "cr\u00e8me br\u00fbl\u00e9e on a plate",
    "knight": "\u0420\u044b\u0446\u0430\u0440\u044c 3d",
    "hostile": '"; DROP TABLE words; -- NEAR(a b) OR owner : x * ^ \0',
}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["red"], ["sword", "potion"]),
        (["bott", "red"], ["potion"]),
        (["otion"], []),
        (["hot"], ["sword"]),
        (["fire"], ["sword"]),
        (["creme", "brule"], ["cream"]),
        (["\u0440\u044b\u0446"], ["knight"]),
        (["3d"], ["knight"]),
        (["drop", "near", "or"], ["hostile"]),
        (["red", "plate"], []),
    ],
)
async def test_all_words_begin_words_of_the_prompt(
    store: SqliteStore, words: list[str], expected: list[str]
) -> None:
    for number, (name, prompt) in enumerate(PROMPTS.items(), 1):
        await insert(store, ordered(name, prompt, number))
    await insert(store, ordered("other", " ".join(PROMPTS.values()), 9, owner="bob"))
    assert await found(store, {"words": words}) == expected
    assert await found(store, {"words": words}, owner="cyd") == []


async def test_what_is_made_from_a_picture_is_found_by_its_words(store: SqliteStore) -> None:
    """Over generations, and also when those before are gone."""
    await insert(store, ordered("parent", "a stone golem", 1))
    for number, (name, parent) in enumerate([("child", "parent"), ("grandchild", "child")], 2):
        made = job(labelled=labels(derived_from=parent), job_id=name, number=number, owner="ann")
        await insert(store, made.evolve(params={"request": {"job_id": parent}}))
    sheet = job(job_id="sheet", number=9, owner="ann")
    await insert(store, sheet.evolve(params={"request": {"name": "golems"}}))
    assert await found(store, {"words": ["golem"]}) == ["sheet", "grandchild", "child", "parent"]
    parent = await store.get("parent")
    assert parent is not None
    await store.bury([parent], "deleted", time.time())
    assert await found(store, {"words": ["golem"]}) == ["sheet", "grandchild", "child"]


async def test_marks_are_of_one_and_the_same_image(store: SqliteStore) -> None:
    for number, name in enumerate(("best", "split", "plain"), 1):
        await insert(store, ordered(name, name, number))
    await store.relabel("best", {"marks": {"1": {"starred": True, "rating": 4}}})
    await store.relabel("split", {"marks": {"0": {"starred": True}, "1": {"rating": 5}}})
    assert await found(store, {"starred": True}) == ["split", "best"]
    assert await found(store, {"rating": 4}) == ["split", "best"]
    assert await found(store, {"rating": 5}) == ["split"]
    assert await found(store, {"starred": True, "rating": 4}) == ["best"]
    assert await found(store, {"starred": True, "words": ["best"]}) == ["best"]
    assert await found(store, {"rating": 2, "tag": "x"}) == []
    assert await found(store, {"rejected": False}) == ["plain", "split", "best"]
    await store.relabel("plain", {"marks": {"0": {"rejected": True}}})
    assert await found(store, {"rejected": False}) == ["plain", "split", "best"]
    await store.relabel("plain", {"marks": {"1": {"rejected": True}}})
    assert await found(store, {"rejected": False}) == ["split", "best"]
    assert await found(store, {"rejected": True}) == ["plain"]
    await store.relabel("best", {"marks": {"1": {"starred": False, "rating": 0}}})
    assert await found(store, {"starred": True}) == ["split"]
    best = await store.get("best")
    assert best is not None
    assert "marks" not in best.labels


async def test_a_job_that_goes_leaves_nothing_to_be_found(
    store: SqliteStore,
) -> None:
    """Whatever whoever deletes it believes of its labels."""
    old = ordered("a", "a stone", 1, tags=["before"])
    await insert(store, old)
    await store.relabel("a", {"tags": ["one", "two"], "marks": {"0": {"rating": 3}}})
    assert await found(store, {"tag": "two", "rating": 1}) == ["a"]
    assert left(store) == [2, 3, 1]
    await store.bury([old], "deleted", time.time())
    assert left(store) == [0, 0, 0]
    assert await store.relabel("a", {"tags": []}) is None


async def test_a_page_of_found_jobs_goes_on_where_it_ended(store: SqliteStore) -> None:
    for number in range(1, 8):
        await insert(store, ordered(f"{number}", "red" if number % 2 else "blue", number))
    first = await store.page("ann", {"words": ["red"]}, limit=2, before=None, after=None)
    assert [one.job_id for one in first.jobs] == ["7", "5"]
    rest = await store.page("ann", {"words": ["red"]}, limit=9, before=first.more, after=None)
    assert ([one.job_id for one in rest.jobs], rest.more) == (["3", "1"], None)
    up = await store.page("ann", {"words": ["red"]}, limit=2, before=None, after=1)
    assert ([one.job_id for one in up.jobs], up.more) == (["5", "3"], 5)


def test_a_rating_counts_as_every_lower_one() -> None:
    marked = labels(marks={"0": {"rating": 2}, "3": {"starred": True}})
    assert marks_of(marked) == {"rated 1", "rated 2", "starred"}
    assert marks_of(labels()) == set()


def test_an_owner_is_one_word_of_the_index() -> None:
    """None of another begins so, or reads as an operator."""
    assert matching("a-b", ["x"]) == 'owner : "o612d62" AND said : ("x" *)'
    assert said_of({"request": {"job_id": "j"}}) == ""
