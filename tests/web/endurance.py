"""What an hour before the page costs: memory after thousands of jobs and looks around, and its first paint.

    python -m tests.web.endurance --jobs 2000

Workload: each job is ordered, started, told of in six steps with a preview, and finished; after each tenth
somebody opens a picture, goes on to the next, stars it, filters, and comes back. Heap after a forced
collection, elements and listeners, by Chromium's own counters. No part of CI.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from tests.api.harness import site
from tests.delivery.conftest import FLAGS, program
from tests.web.studio import Studio

PAINTS = """() => {
    const [paint] = performance.getEntriesByName("first-contentful-paint");
    return paint ? paint.startTime : 0;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2_000)
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as directory, site(Path(directory)) as place:
        studio = Studio(place)
        for number in range(40):
            studio.drawn(number % 8, prompt=f"before {number}")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=program("chromium", "chromium"), args=FLAGS
            )
            for attempt in range(5):
                print(f"first paint {attempt + 1}: {first_paint(browser, studio.url)}")
            endure(browser, studio, jobs)
            browser.close()


def first_paint(browser: Browser, url: str) -> str:
    """With nothing in the browser's cache: until something is seen, the form can be used, and tiles stand."""
    page = browser.new_page()
    began = time.monotonic()
    page.goto(url, wait_until="commit")
    page.get_by_label("What to draw").wait_for()
    form = time.monotonic() - began
    page.locator(".tile").first.wait_for()
    tiles = time.monotonic() - began
    seen = page.evaluate(PAINTS)
    page.close()
    return f"seen {seen:.0f} ms, form {1000 * form:.0f} ms, tiles {1000 * tiles:.0f} ms"


def endure(browser: Browser, studio: Studio, jobs: int) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(studio.url)
    page.locator(".tile").first.wait_for()
    counters = page.context.new_cdp_session(page)
    for number in range(jobs + 1):
        if number % max(1, jobs // 8) == 0:
            print(f"{number:6} jobs: {used(counters)}")
        job = studio.order(prompt=f"number {number}")
        studio.start(job)
        studio.preview(job)
        for step in range(1, 7):
            studio.step(job, step)
        studio.finish(job, number % 8)
        if number % 10 == 0:
            look_around(page)


def look_around(page: Page) -> None:
    page.locator(".tile").first.click()
    page.get_by_role("dialog").wait_for()
    for key in ("ArrowRight", "f", "b", "+", "Escape"):
        page.keyboard.press(key)
    page.evaluate("location.hash = '#/pictures?mark=star'")
    page.locator(".tile").first.wait_for()
    page.evaluate("location.hash = '#/order'")
    page.locator(".tile").first.wait_for()


def used(counters: CDPSession) -> str:
    counters.send("HeapProfiler.collectGarbage")
    heap = counters.send("Runtime.getHeapUsage")["usedSize"] / 1e6
    found = counters.send("Memory.getDOMCounters")
    return (
        f"{heap:.1f} MB of heap, {found['nodes']:,} nodes, {found['jsEventListeners']:,} listeners"
    )


if __name__ == "__main__":
    main()
