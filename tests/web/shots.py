"""Takes the pictures of the page that the documents show: a real service draws them.

    python -m tests.web.shots

Knows where to click; that things work, the tests know.
"""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.cluster.service import Service, wait_until
from tests.delivery.conftest import FLAGS, program

FOLDER = Path(__file__).parent / "shots"
QUALITY = 78
SIZES = {"desktop": (1440, 900), "wide": (2560, 1340), "phone": (390, 844)}
ORDERS = [
    ("an apple", "flat"), ("a wolf", "silhouette"), ("a golden key", "icon"), ("a wizard", "pixel_character"),
    ("a friendly robot", "flat"), ("a castle", "prop"), ("a wooden shield", "item"), ("a sword", "weapon"),
    ("a rocket", "vehicle"), ("a ghost", "flat"), ("a brick wall", "tile"), ("a mushroom", "food"),
    ("a red potion", "icon"), ("a crown", "icon"), ("a cat", "flat"), ("a bomb", "icon"),
    ("a knight", "pixel_character"), ("a treasure chest", "item"), ("a ring", "icon"), ("a book", "flat"),
]  # fmt: skip


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        service = Service(Path(directory))
        try:
            service.start()
            url = f"http://127.0.0.1:{service.port}"
            for number, (prompt, style) in enumerate(ORDERS):
                order = {
                    "prompt": prompt,
                    "style_id": style,
                    "seed": number + 1,
                    "n": 1 + number % 2,
                }
                httpx.post(f"{url}/v1/generate", json={**order, "tags": ["level-3"]})
            while httpx.get(f"{url}/v1/jobs?status=PENDING&status=STARTED&limit=1").json()[
                "results"
            ]:
                time.sleep(0.5)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=program("chromium", "chromium"), args=FLAGS
                )
                take_all(browser, url)
                browser.close()
        finally:
            service.stop()


def take_all(browser: Browser, url: str) -> None:
    page = opened(browser, url, "desktop", "light")
    for number, (prompt, style) in enumerate(
        [("a dragon", "creature"), ("a red potion", "icon"), ("an axe", "weapon")]
    ):
        order = {"prompt": prompt, "style_id": style, "seed": 40 + number, "n": 4, "steps": 60}
        httpx.post(f"{url}/v1/generate", json=order)
    page.get_by_label("What to draw").fill("a red potion in a round bottle")
    page.get_by_role("radio", name="Icon", exact=True).check(force=True)
    page.locator(".forming").nth(1).wait_for(timeout=60_000)
    page.wait_for_timeout(2_500)
    keep(page, "desktop")
    page = opened(browser, f"{url}/#/queue", "phone", "dark")
    page.locator(".forming").first.wait_for(timeout=60_000)
    keep(page, "phone-queue-dark")
    page = opened(browser, f"{url}/#/pictures", "phone", "light")
    keep(page, "phone-pictures")
    page = opened(browser, url, "wide", "dark")
    keep(page, "wide-dark")

    page = opened(browser, url, "desktop", "dark")
    page.locator(".tile", has_text="a golden key").first.click()
    page.locator(".facts").wait_for()
    page.wait_for_timeout(500)
    keep(page, "picture-dark")
    page = selected(browser, url, "light", ["a wizard", "a knight", "a castle", "a cat"])
    page.keyboard.press("c")
    page.wait_for_timeout(700)
    keep(page, "compare")
    page = selected(browser, url, "light", ["a castle", "an apple", "a cat"])
    page.get_by_role("button", name="Finish").click()
    page.get_by_label("Add an effect").last.select_option("outline")
    page.get_by_role("button", name="Try on the first").click()
    page.locator(".finish .after img").wait_for(timeout=60_000)
    page.wait_for_timeout(700)
    keep(page, "finish")
    page = selected(
        browser,
        url,
        "dark",
        ["a sword", "a wooden shield", "a red potion", "a crown", "a ring", "a bomb"],
    )
    page.get_by_role("button", name="Sheet").click()
    page.get_by_role("button", name="Pack").click()
    page.locator(".packing canvas").wait_for(timeout=60_000)
    page.wait_for_timeout(700)
    keep(page, "sheet-dark")


def opened(browser: Browser, url: str, size: str, scheme: str) -> Page:
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # pyright: ignore[reportArgumentType]
    )
    page = context.new_page()
    page.goto(url)
    page.wait_for_timeout(1_200)
    return page


def selected(browser: Browser, url: str, scheme: str, prompts: list[str]) -> Page:
    page = opened(browser, url, "desktop", scheme)
    for prompt in prompts:
        page.locator(".tile", has_text=prompt).first.click(modifiers=["Control"])
    return page


def keep(page: Page, name: str) -> None:
    loaded = "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    wait_until(lambda: page.evaluate(loaded), 60, name)
    with Image.open(io.BytesIO(page.screenshot())) as shot:
        shot.convert("RGB").save(FOLDER / f"{name}.webp", quality=QUALITY, method=6)
    page.context.close()


if __name__ == "__main__":
    main()
