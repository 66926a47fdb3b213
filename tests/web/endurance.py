"""What the page costs: its first paint, an hour before it, and scrolling with a hundred thousand jobs behind.

    python -m tests.web.endurance [--minutes 60] [--runs 5] [--only paint hour scroll]

Workload of the hour: each minute twelve jobs are ordered, started, told of in six steps with a preview, and
finished; in each somebody does one of five things: goes through pictures and marks them, filters, scrolls
down and back, opens the keys and a table of orders, finishes a picture and packs a sheet. The minutes
follow each other as fast as they can. Heap after a forced collection, elements and listeners, by Chromium's
own counters. Scrolling goes so many pixels a frame over a store of a hundred thousand jobs, whose newest
have pictures: time between two frames of the page, and what moved that should not. No part of CI.
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
FRAMES = 300
SCROLL = """([pixels, frameCount]) => new Promise((done) => {
    const bench = document.querySelector("[data-scroller]");
    const frames = [];
    let [moved, last] = [0, performance.now()];
    const shifts = new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) moved += entry.value;
    });
    shifts.observe({ type: "layout-shift" });
    bench.scrollTo(0, 0);
    const frame = (now) => {
        frames.push(now - last);
        last = now;
        bench.scrollBy(0, pixels);
        if (frames.length < frameCount) requestAnimationFrame(frame);
        else done({ frames: frames.slice(5), moved, top: bench.scrollTop });
    };
    requestAnimationFrame(frame);
})"""


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
        job = ""
        for number in range(JOBS_A_MINUTE):
            job = studio.order(prompt=f"number {minute}.{number}")
            studio.start(job)
            studio.preview(job)
            for step in range(1, 7):
                studio.step(job, step)
            studio.finish(job, number % 8)
        page.locator(f'.tile[data-job="{job}"]').wait_for()
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
    page.locator(".tile").first.focus()
    for key in ("Space", "Shift+ArrowRight", "Shift+ArrowRight"):
        page.keyboard.press(key)
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
    counters = page.context.new_cdp_session(page)
    counters.send("Performance.enable", {"timeDomain": "threadTicks"})
    for pixels in (0, 6, 24, 96):
        before = worked(counters)
        seen = page.evaluate(SCROLL, [pixels, FRAMES])
        work = 1000 * (worked(counters) - before) / FRAMES
        frames = sorted(seen["frames"])
        dropped = sum(round(one * 60 / 1000) - 1 for one in frames if one > 25)
        print(
            f"{pixels} px a frame, to {seen['top']:.0f}: {len(frames)} frames, "
            f"p50 {statistics.median(frames):.1f} ms, p95 {frames[int(0.95 * len(frames))]:.1f} ms, "
            f"longest {frames[-1]:.0f} ms, {dropped} dropped, {work:.1f} ms of CPU each, "
            f"shift {seen['moved']:.4f}"
        )
    page.close()


def worked(counters: CDPSession) -> float:
    """Seconds of CPU of the page's main thread."""
    metrics = counters.send("Performance.getMetrics")["metrics"]
    return next(one["value"] for one in metrics if one["name"] == "TaskDuration")


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
