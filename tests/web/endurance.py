"""What the page costs: its first paint, an hour before it, and scrolling with a hundred thousand jobs behind.

    python -m tests.web.endurance [--minutes 60] [--runs 5] [--only paint hour scroll]

Workload of the hour: each minute twelve jobs are ordered, started, told of in six steps with a preview, and
finished; in each somebody does one of five things: goes through pictures and marks them, filters, scrolls
down and back, opens the keys and a table of orders, finishes a picture and packs a sheet. The minutes
follow each other as fast as they can. Heap after a forced collection, elements and listeners, by Chromium's
own counters. Scrolling is by wheel over a store of a hundred thousand jobs, whose newest have pictures:
time between two frames of the page, and what moved that should not. No part of CI.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from tests.api.harness import Site, site
from tests.delivery.conftest import FLAGS, program
from tests.web.studio import Studio, picture
from tests.web.test_depth import deep_site
from tests.web.test_people import sign_in

DESKTOP = {"width": 1440, "height": 900}
JOBS_A_MINUTE = 12
PAINTS = """() => {
    const [paint] = performance.getEntriesByName("first-contentful-paint");
    return paint ? paint.startTime : 0;
}"""
REQUESTS = "performance.getEntriesByType('resource').length"
FRAMES = """() => {
    globalThis.frames60 = [];
    globalThis.moved = 0;
    let last = performance.now();
    const frame = (now) => {
        frames60.push(now - last);
        last = now;
        requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) moved += entry.value;
    }).observe({ type: "layout-shift" });
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--runs", type=int, default=5)
    parts = ["paint", "hour", "scroll"]
    parser.add_argument("--only", nargs="*", choices=parts, default=parts)
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program("chromium", "chromium"), args=FLAGS
        )
        if "paint" in options.only or "hour" in options.only:
            with tempfile.TemporaryDirectory() as directory, site(Path(directory)) as place:
                studio = Studio(place)
                for number in range(40):
                    studio.drawn(number % 8, prompt=f"before {number}")
                for run in range(options.runs if "paint" in options.only else 0):
                    print(f"first paint {run + 1}: {first_paint(browser, studio.url)}")
                if "hour" in options.only:
                    endure(browser, studio, options.minutes)
        if "scroll" in options.only:
            with tempfile.TemporaryDirectory() as directory, deep_site(Path(directory)) as deep:
                scroll(browser, *deep, Path(directory))
        browser.close()


def first_paint(browser: Browser, url: str) -> str:
    """With nothing in the browser's cache: until something is seen, the form can be used, and tiles stand."""
    page = browser.new_page()
    began = time.monotonic()
    page.goto(url, wait_until="commit")
    page.get_by_label("What to draw").wait_for()
    form = time.monotonic() - began
    requests = page.evaluate(REQUESTS)
    page.locator(".tile").first.wait_for()
    tiles = time.monotonic() - began
    seen = page.evaluate(PAINTS)
    page.close()
    return (
        f"seen {seen:.0f} ms, form {1000 * form:.0f} ms after {requests} requests, "
        f"tiles {1000 * tiles:.0f} ms"
    )


def endure(browser: Browser, studio: Studio, minutes: int) -> None:
    page = browser.new_page(viewport=DESKTOP)  # pyright: ignore[reportArgumentType]
    page.goto(studio.url)
    page.locator(".tile").first.wait_for()
    counters = page.context.new_cdp_session(page)
    habits = [look_around, filter_by, scroll_about, open_and_close, finish_and_pack]
    for minute in range(minutes + 1):
        if minute in (0, minutes // 4, minutes // 2, minutes * 3 // 4, minutes):
            page.locator("job-queue li").first.wait_for(state="detached", timeout=30_000)
            print(f"minute {minute:3}: {used(counters)}, {page.evaluate(KEPT)}")
        for number in range(JOBS_A_MINUTE):
            job = studio.order(prompt=f"number {minute}.{number}")
            studio.start(job)
            studio.preview(job)
            for step in range(1, 7):
                studio.step(job, step)
            studio.finish(job, number % 8)
        habits[minute % len(habits)](page)
    page.close()


KEPT = """() => {
    const { list } = document.querySelector("picture-gallery");
    return `${list.items.length + list.fresh.length} pictures in the list`;
}"""


def look_around(page: Page) -> None:
    page.locator(".tile").first.click()
    page.locator(".facts").wait_for()
    for key in ("ArrowRight", "f", "4", "b", "+", "ArrowRight", "Escape"):
        page.keyboard.press(key)
    page.locator("dialog").wait_for(state="detached")


def filter_by(page: Page) -> None:
    for filters in ("mark=star", "find=number", "style=icon"):
        page.evaluate(f"location.hash = '#/pictures?{filters}'")
        page.locator(".tile").first.wait_for()
    page.evaluate("location.hash = '#/order'")
    page.locator(".tile").first.wait_for()


def scroll_about(page: Page) -> None:
    for to in (4_000, 20_000, 0):
        page.locator("[data-scroller]").evaluate("(bench, to) => bench.scrollTo(0, to)", to)
        page.locator(".tile").nth(20).wait_for(state="attached")


def open_and_close(page: Page) -> None:
    page.locator("body").press("?")
    page.locator("dialog.keys").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Many at once").click()
    page.locator("dialog.batch").wait_for()
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")


def finish_and_pack(page: Page) -> None:
    for number in range(3):
        page.locator(".tile").nth(number).click(modifiers=["Control"])
    for name in ("Compare", "Finish", "Sheet"):
        page.get_by_role("button", name=name, exact=True).click()
        page.locator("dialog").wait_for()
        page.keyboard.press("Escape")
        page.locator("dialog").wait_for(state="detached")
    page.keyboard.press("Escape")


def used(counters: CDPSession) -> str:
    counters.send("HeapProfiler.collectGarbage")
    heap = counters.send("Runtime.getHeapUsage")["usedSize"] / 1e6
    found = counters.send("Memory.getDOMCounters")
    return (
        f"{heap:.2f} MB of heap, {found['nodes']:,} nodes, {found['jsEventListeners']:,} listeners"
    )


def scroll(browser: Browser, place: Site, key: str, directory: Path) -> None:
    page = browser.new_page(viewport=DESKTOP)  # pyright: ignore[reportArgumentType]
    draw_newest(place, key, directory)
    page.goto(place.url)
    sign_in(page, key)
    page.locator(".tile").first.wait_for()
    for name, notch in (("slowly", 40), ("fast", 240)):
        page.locator("[data-scroller]").evaluate("bench => bench.scrollTo(0, 0)")
        page.mouse.move(900, 500)
        page.evaluate(FRAMES)
        began = time.monotonic()
        for _ in range(300):
            page.mouse.wheel(0, notch)
        seconds = time.monotonic() - began
        frames = sorted(page.evaluate("frames60.slice(5)"))
        reached = page.evaluate("document.querySelector('[data-scroller]').scrollTop")
        dropped = sum(round(one / (1000 / 60)) - 1 for one in frames if one > 25)
        print(
            f"{name}: {reached:.0f} px in {seconds:.1f} s, {len(frames)} frames, "
            f"p50 {statistics.median(frames):.1f} ms, p95 {frames[int(0.95 * len(frames))]:.1f} ms, "
            f"longest {frames[-1]:.0f} ms, {dropped} dropped, shift {page.evaluate('moved'):.4f}"
        )
    page.close()


def draw_newest(place: Site, key: str, directory: Path, pages: int = 12) -> None:
    """Pictures of the newest jobs: the store was filled, the folder of pictures was not."""
    drawn = directory / "drawn.png"
    picture(3, 128).save(drawn)
    for url in newest(place, key, pages):
        path = place.world.files.root / url.split("/output/")[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            os.link(drawn, path)


def newest(place: Site, key: str, pages: int) -> Iterator[str]:
    path = "/v1/jobs?limit=100&status=SUCCESS"
    for _ in range(pages):
        page = httpx.get(place.url + path, headers={"X-API-Key": key}).json()
        for job in page["results"]:
            yield from job["result_urls"]
        path = page["next"]


if __name__ == "__main__":
    main()
