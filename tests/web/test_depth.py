"""The gallery with a hundred thousand jobs behind it: it starts at once and holds few elements."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.api.harness import LocalTransport, Site, keys_of, make_app, site
from tests.web.conftest import Open
from tests.web.test_people import sign_in

pytestmark = pytest.mark.browser

JOBS = 100_000
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
    filled = ["--finished", str(JOBS), "--queued", "0", "--owners", "1"]
    fill = [sys.executable, "-m", "tests.benchmarks.fill_store", str(tmp_path / "state"), *filled]
    subprocess.run(fill, check=True, capture_output=True)
    (key,) = (header["X-API-Key"] for header in keys_of(tmp_path / "keys", "studio-0"))

    def make(transport: LocalTransport) -> Any:
        return make_app(transport, api_keys_file=tmp_path / "keys")

    with site(tmp_path, make) as found:
        yield found, key
    shutil.rmtree(tmp_path / "state")  # a quarter of a gigabyte


def scroll(page: Page, pixels: int) -> None:
    page.locator("[data-scroller]").evaluate("(bench, by) => bench.scrollBy(0, by)", pixels)


def loaded(page: Page) -> int:
    return page.evaluate(LOADED)


def test_a_hundred_thousand_jobs(deep: tuple[Site, str], visit: Open, tmp_path: Path) -> None:
    place, key = deep
    page = visit(place.url, forgive=MISSING)
    sign_in(page, key)
    expect(page.locator(".tile").first).to_be_visible()

    while loaded(page) < 1_500:
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
    oldest = page.locator(".tile").first
    expect(oldest).to_be_visible()
    job = oldest.get_attribute("data-job")
    assert 0.4 * JOBS < rank_of(tmp_path, job) < 0.6 * JOBS
    expect(oldest).to_have_accessible_name(re.compile(r"[a-z ]+, seed \d+"))


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
