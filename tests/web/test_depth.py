"""The gallery with a hundred thousand jobs behind it: it starts at once and holds few elements."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.api.harness import LocalTransport, Site, keys_of, make_app, site
from tests.web.conftest import Open
from tests.web.test_people import sign_in

pytestmark = pytest.mark.browser

JOBS = 100_000
WRITTEN = 5_000
"""So many are made up. The others are the same, some time before."""
MOST_ELEMENTS = 3_000
MISSING = ("404", "401")
"""The store was filled, the folder of pictures was not."""

LOADED = "document.querySelector('picture-gallery').list.items.length"
DRAW = """() => {
    const bench = document.querySelector("[data-scroller]");
    const gallery = document.querySelector("picture-gallery");
    const times = [];
    for (let at = 0; at < 60; at++) {
        bench.scrollTop = (at * bench.scrollHeight) / 60;
        const begun = performance.now();
        gallery.draw();
        times.push(performance.now() - begun);
    }
    return times.sort((a, b) => a - b)[30];
}"""


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[tuple[Site, str]]:
    with deep_site(tmp_path) as found:
        yield found
    shutil.rmtree(tmp_path / "state")  # a quarter of a gigabyte


@contextlib.contextmanager
def deep_site(directory: Path) -> Generator[tuple[Site, str]]:
    """A service over a filled store, and the key of its owner."""
    filled = ["--finished", str(WRITTEN), "--queued", "0", "--owners", "1"]
    fill = [sys.executable, "-m", "tests.benchmarks.fill_store", str(directory / "state"), *filled]
    subprocess.run(fill, check=True, capture_output=True)
    multiply(directory / "state/jobs.db")
    (key,) = (header["X-API-Key"] for header in keys_of(directory / "keys", "studio-0"))

    def make(transport: LocalTransport) -> Any:
        return make_app(transport, api_keys_file=directory / "keys")

    with site(directory, make) as found:
        yield found, key


def multiply(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA synchronous = OFF")
        columns = [row[1] for row in db.execute("PRAGMA table_info(jobs)")]
        ((first, last),) = db.execute("SELECT min(number), max(number) FROM jobs")
        for copy in range(1, JOBS // WRITTEN):
            earlier = copy * (last - first + 1)
            ids = [f"number - {earlier}", f"printf('%08x', {copy}) || substr(job_id, 9)"]
            others = columns[2:]
            values = [
                f"{name} - {earlier / 1e6}" if name.endswith("_at") else name for name in others
            ]
            db.execute(
                f"INSERT INTO jobs SELECT {', '.join([*ids, *values])} FROM jobs WHERE number >= {first}"
            )
            db.execute(
                f"INSERT INTO tags SELECT owner, tag, number - {earlier} FROM tags WHERE number >= {first}"
            )
            db.execute(
                f"INSERT INTO words (rowid, owner, said) SELECT rowid - {earlier}, owner, said FROM words"
                f" WHERE rowid >= {first}"
            )


def scroll(page: Page, pixels: int) -> None:
    page.locator("[data-scroller]").evaluate("(bench, by) => bench.scrollBy(0, by)", pixels)


def loaded(page: Page) -> int:
    return page.evaluate(LOADED)


def test_a_hundred_thousand_jobs(deep: tuple[Site, str], visit: Open, tmp_path: Path) -> None:
    place, key = deep
    page = visit(place.url, forgive=MISSING)
    sign_in(page, key)
    expect(page.locator(".tile").first).to_be_visible()

    while loaded(page) < 600:
        before = loaded(page)
        scroll(page, 1_000_000)
        page.wait_for_function(
            "was => document.querySelector('picture-gallery').list.items.length > was",
            arg=before,
            timeout=60_000,
        )
    assert page.locator(".tile").count() < 120
    assert page.locator("*").count() < MOST_ELEMENTS
    print(f"median of a redraw: {page.evaluate(DRAW):.1f} ms")

    page.goto(f"{place.url}/#/pictures?until={day_of(tmp_path, JOBS // 2)}")
    page.wait_for_function(
        "() => { const { list } = document.querySelector('picture-gallery');"
        " return list.filters.until && list.items.length; }"
    )
    job = page.evaluate("document.querySelector('picture-gallery').list.items[0].job")
    oldest = page.locator(f'.tile[data-job="{job}"]').first
    expect(oldest).to_be_visible()
    assert 0.4 * JOBS < rank_of(tmp_path, job) < 0.6 * JOBS
    expect(oldest).to_have_accessible_name(re.compile(r"[a-z ]+, seed \d+"))

    rare = rarest_words(tmp_path)
    page.goto(f"{place.url}/#/pictures?find={rare}")
    expect(page.get_by_text("That is all.")).to_be_visible()
    names = page.locator(".tile").evaluate_all("all => all.map((one) => one.ariaLabel)")
    assert names
    assert all(set(rare.split()) <= set(re.findall(r"\w+", name)) for name in names)


def rarest_words(directory: Path) -> str:
    """Four words that few prompts have together."""
    with contextlib.closing(sqlite3.connect(directory / "state/jobs.db")) as db:
        query = "SELECT said FROM words JOIN jobs ON number = words.rowid AND status = 'SUCCESS' LIMIT 1"
        ((said,),) = db.execute(query)
    return " ".join(list(dict.fromkeys(re.findall(r"\w{4,}", said)))[:9])


def day_of(directory: Path, place: int) -> str:
    """Of the job at this place, counted from the oldest."""
    with sqlite3.connect(directory / "state/jobs.db") as db:
        query = (
            "SELECT date(number / 1000000, 'unixepoch') FROM jobs ORDER BY number LIMIT 1 OFFSET ?"
        )
        ((day,),) = db.execute(query, (place,))
    return day


def rank_of(directory: Path, job: str | None) -> int:
    with sqlite3.connect(directory / "state/jobs.db") as db:
        query = (
            "SELECT count(*) FROM jobs WHERE number < (SELECT number FROM jobs WHERE job_id = ?)"
        )
        ((rank,),) = db.execute(query, (job,))
    return rank
