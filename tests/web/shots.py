"""Takes the pictures of the page that the documents show: a real service draws them.

    python -m tests.web.shots
    python -m tests.web.shots --every FOLDER    # nine views at three widths, to be looked at

Knows where to click; that things work, the tests know.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
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


HANDS = ["a wizard", "a knight", "a castle", "a cat"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--every", type=Path, metavar="FOLDER")
    parser.add_argument("--views", nargs="*", choices=VIEWS, default=list(VIEWS))
    options = parser.parse_args()
    every: Path | None = options.every
    with tempfile.TemporaryDirectory() as directory:
        service = Service(Path(directory))
        try:
            service.start()
            url = f"http://127.0.0.1:{service.port}"
            draw_studio(url)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=program("chromium", "chromium"), args=FLAGS
                )
                if every is None:
                    for name, (view, size, scheme) in DOCUMENTED.items():
                        take(browser, url, view, size, scheme, FOLDER / f"{name}.webp")
                else:
                    every.mkdir(parents=True, exist_ok=True)
                    for view in options.views:
                        for size, scheme in (
                            ("phone", "dark"),
                            ("desktop", "light"),
                            ("wide", "dark"),
                        ):
                            take(browser, url, view, size, scheme, every / f"{view}-{size}.webp")
                browser.close()
        finally:
            service.stop()


def draw_studio(url: str) -> None:
    """What was drawn before anybody looks."""
    for number, (prompt, style) in enumerate(ORDERS):
        order = {"prompt": prompt, "style_id": style, "seed": number + 1, "n": 1 + number % 2}
        httpx.post(f"{url}/v1/generate", json={**order, "tags": ["level-3"]})
    while True:
        live = httpx.get(f"{url}/v1/jobs?status=PENDING&status=STARTED&limit=1").json()["results"]
        if not live:
            break
        time.sleep(0.5)
    for job in httpx.get(f"{url}/v1/jobs").json()["results"][::3]:
        marked = {"index": 0, "starred": True, "rating": 4}
        httpx.patch(f"{url}/v1/jobs/{job['job_id']}", json={"images": [marked]})


def work(url: str) -> None:
    """Something is drawn while the picture is taken."""
    for number, (prompt, style) in enumerate(
        [("a dragon", "creature"), ("a red potion", "icon"), ("an axe", "weapon")]
    ):
        order = {"prompt": prompt, "style_id": style, "seed": 40 + number, "n": 4, "steps": 60}
        httpx.post(f"{url}/v1/generate", json=order)


def ordering(page: Page, url: str) -> None:
    work(url)
    page.get_by_label("What to draw").fill("a red potion in a round bottle")
    page.get_by_role("radio", name="Icon", exact=True).check(force=True)
    page.locator(".forming").nth(1).wait_for(state="attached", timeout=60_000)
    page.wait_for_timeout(2_500)


def watching(page: Page, url: str) -> None:
    work(url)
    page.goto(f"{url}/#/queue")
    page.locator(".forming").first.wait_for(timeout=60_000)


def choosing(page: Page, url: str) -> None:
    page.goto(f"{url}/#/pictures")


def looking(page: Page, url: str) -> None:
    page.goto(f"{url}/#/pictures?find=golden%20key")
    page.locator(".tile", has_text="a golden key").first.click()
    page.locator(".facts").wait_for()


def comparing(page: Page, url: str) -> None:
    select(page, url, HANDS)
    page.get_by_role("button", name="Compare").click()


def finishing(page: Page, url: str) -> None:
    select(page, url, ["a castle", "an apple", "a cat"])
    page.get_by_role("button", name="Finish").click()
    page.get_by_label("Add an effect").last.select_option("outline")
    page.locator(".finish [role=status]", has_text="Working").wait_for()
    page.locator(".finish [role=status]:empty").wait_for(state="attached", timeout=60_000)


def packing(page: Page, url: str) -> None:
    select(page, url, ["a sword", "a wooden shield", "a red potion", "a crown", "a ring", "a bomb"])
    page.get_by_role("button", name="Sheet").click()
    page.locator(".packing canvas").wait_for(timeout=60_000)


def ordering_many(page: Page, url: str) -> None:
    page.goto(f"{url}/#/order?do=batch")
    page.locator(".batch td").first.wait_for()
    page.get_by_role("button", name="Order 2 jobs").wait_for()


def painting(page: Page, url: str) -> None:
    looking(page, url)
    page.get_by_role("button", name="Start from it").click()
    page.get_by_role("button", name="Paint what is drawn anew").click()
    box = page.get_by_role("application").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.3)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5, steps=5)
    page.mouse.up()


def select(page: Page, url: str, prompts: list[str]) -> None:
    for prompt in prompts:
        page.goto(f"{url}/#/pictures?find={prompt}")
        page.locator(".tile", has_text=prompt).first.click(modifiers=["Control"])
    choosing(page, url)


VIEWS: dict[str, Callable[[Page, str], None]] = {
    "order": ordering,
    "queue": watching,
    "pictures": choosing,
    "picture": looking,
    "compare": comparing,
    "finish": finishing,
    "sheet": packing,
    "batch": ordering_many,
    "mask": painting,
}
DOCUMENTED = {
    "desktop": ("order", "desktop", "light"),
    "phone-queue-dark": ("queue", "phone", "dark"),
    "picture-dark": ("picture", "desktop", "dark"),
    "compare": ("compare", "desktop", "light"),
    "finish": ("finish", "desktop", "light"),
}


def take(browser: Browser, url: str, view: str, size: str, scheme: str, path: Path) -> None:
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # pyright: ignore[reportArgumentType]
    )
    page = context.new_page()
    page.goto(url)
    page.wait_for_timeout(1_200)
    VIEWS[view](page, url)
    page.wait_for_timeout(700)
    loaded = "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    wait_until(lambda: page.evaluate(loaded), 60, path.stem)
    with Image.open(io.BytesIO(page.screenshot())) as shot:
        shot.convert("RGB").save(path, quality=QUALITY, method=6)
    context.close()
    for job in httpx.get(f"{url}/v1/jobs?status=PENDING&status=STARTED").json()["results"]:
        httpx.post(url + job["urls"]["cancel"])


if __name__ == "__main__":
    main()
