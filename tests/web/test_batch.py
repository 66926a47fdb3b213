"""Many orders at once: a table whose mistakes stand in their rows, and a card that follows it."""

from __future__ import annotations

import io
import re
import zipfile
from functools import partial
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.cluster.service import wait_until
from tests.web.conftest import Open
from tests.web.studio import Studio, picture

pytestmark = pytest.mark.browser

PAINTED = """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
    .data.filter((value, at) => at % 4 === 3 && value > 127).length"""
"""Pixels of the mask."""
FORBIDDEN = """Object.defineProperty(window, "localStorage", {
    get() { throw new DOMException("forbidden", "SecurityError"); } })"""
about = partial(pytest.approx, abs=10)
"""A browser does not smooth edges twice alike."""
TABLE = 'prompt;style_id;steps\n"a red; potion";icon;99\na <b>blue</b> potion;nowhere;7\n'


def test_a_table_is_checked_ordered_followed_and_fetched(
    studio: Studio, visit: Open, tmp_path: Path
) -> None:
    page = visit(studio.url, forgive=("422",))
    page.get_by_role("button", name="Many at once").click()
    dialog = page.get_by_role("dialog", name="Many at once")
    (tmp_path / "potions.csv").write_text(TABLE)
    dialog.get_by_label("Open a file").set_input_files(tmp_path / "potions.csv")
    expect(dialog.get_by_role("status")).to_contain_text("mistake")
    expect(dialog.get_by_role("cell", name="a red; potion")).to_be_visible()
    expect(dialog.locator("td.wrong")).to_have_count(2)
    expect(dialog.locator("td.wrong").first).to_have_text("99")
    expect(dialog.locator("td.wrong").last).to_have_text("nowhere")
    expect(dialog.get_by_text(re.compile("steps: 99 is out of range.*50"))).to_be_visible()
    expect(dialog.get_by_role("button", name="Order", exact=True)).to_be_disabled()

    text = dialog.get_by_label("A table as CSV.")
    text.fill(TABLE.replace("nowhere", "icon").replace("99", "6"))
    dialog.get_by_role("button", name="Order 2 jobs").click()
    card = page.locator("[data-batch]")
    expect(card).to_contain_text("potions")
    expect(card).to_contain_text("0 of 2 done")
    jobs = httpx.get(f"{studio.url}/v1/jobs").json()["results"]
    assert [job["request"]["prompt"] for job in jobs] == ["a <b>blue</b> potion", "a red; potion"]
    for number, job in enumerate(jobs):
        studio.finish(job["job_id"], number)
    expect(card).to_contain_text("2 of 2 done")
    with page.expect_download() as coming:
        card.get_by_role("button", name="Download all files").click()
    coming.value.save_as(tmp_path / "got.zip")
    with zipfile.ZipFile(tmp_path / "got.zip") as archive:
        assert sum(name.endswith(".png") for name in archive.namelist()) == 2


def test_what_failed_of_a_batch_is_ordered_again(studio: Studio, visit: Open) -> None:
    page = visit(studio.url)
    orders = {"orders": [{"prompt": "holds"}, {"prompt": "fails"}], "name": "two"}
    batch = httpx.post(f"{studio.url}/v1/batches", json=orders).json()["batch_id"]
    fails, holds = httpx.get(f"{studio.url}/v1/jobs").json()["results"]
    card = page.locator("[data-batch]")
    expect(card).to_contain_text("0 of 2 done")
    studio.finish(holds["job_id"], 1)
    studio.start(fails["job_id"])
    studio.fail(fails["job_id"])
    expect(card).to_contain_text("1 failed")
    expect(card).to_contain_text("Row 2:")
    card.get_by_role("button", name="Order what failed again").click()
    expect(card).to_contain_text("1 of 2 done")

    def again() -> str:
        newest = httpx.get(f"{studio.url}/v1/jobs?batch_id={batch}").json()["results"][0]
        return newest["job_id"] if newest["job_id"] != fails["job_id"] else ""

    studio.finish(wait_until(again, 5), 2)
    expect(card).to_contain_text("2 of 2 done")


def test_an_order_starts_from_a_picture(studio: Studio, visit: Open) -> None:
    drawn = studio.drawn(4, prompt="a stone")
    page = visit(studio.url)
    file = io.BytesIO()
    picture(5, 80).save(file, "PNG")
    brought = {"name": "sketch.png", "mimeType": "image/png", "buffer": file.getvalue()}
    page.get_by_label("Choose, or drop one here").set_input_files(brought)  # pyright: ignore[reportArgumentType]
    strength = page.get_by_label("Drawn anew")
    expect(strength).to_have_value("0.6")
    strength.press("ArrowRight")
    page.get_by_label("What to draw").fill("a better stone")
    page.get_by_label("What to draw").press("Control+Enter")
    expect(page.locator("job-queue li")).to_have_count(1)
    order = httpx.get(f"{studio.url}/v1/jobs?limit=1").json()["results"][0]["request"]
    assert order["strength"] == 0.65
    assert order["init_image"]["upload_id"]

    page.get_by_role("button", name="Paint what is drawn anew").click()
    painter = page.get_by_role("dialog", name="Paint what is drawn anew")
    canvas = painter.get_by_role("application")
    canvas.focus()
    page.keyboard.press("Space")
    for _ in range(12):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.1)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.9)
    page.mouse.up()
    painter.get_by_role("button", name="Erase").click()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.up()
    erased = canvas.evaluate(PAINTED)
    page.keyboard.press("Control+z")
    unerased = canvas.evaluate(PAINTED)
    for _ in range(3):
        page.keyboard.press("Control+z")
    assert canvas.evaluate(PAINTED) == 0
    expect(painter.get_by_role("button", name="Undo")).to_be_disabled()
    for _ in range(3):
        page.keyboard.press("Control+Shift+z")
    assert canvas.evaluate(PAINTED) == about(unerased)
    assert unerased > erased + 20
    painter.get_by_role("button", name="Start over").click()
    assert canvas.evaluate(PAINTED) == 0
    painter.get_by_role("button", name="Undo").click()
    assert canvas.evaluate(PAINTED) == about(unerased)
    painter.get_by_role("button", name="Undo").click()
    painter.get_by_role("button", name="Redo").click()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.up()
    assert canvas.evaluate(PAINTED) == about(erased)
    expect(painter.get_by_role("button", name="Redo")).to_be_disabled()
    with page.expect_response("**/v1/uploads") as sent:
        painter.get_by_role("button", name="Use it").click()
    upload = sent.value.json()["upload_id"]
    (stored,) = studio.site.world.files.root.rglob(f"*{upload}*")
    mask = Image.open(stored).convert("RGB")
    assert mask.size == (80, 80)
    looks = [mask.getpixel(at) for at in ((40, 40), (16, 40), (28, 40), (72, 20), (72, 40), (5, 5))]
    white, black = (255, 255, 255), (0, 0, 0)
    assert looks == [white, white, black, white, black, black]
    expect(page.get_by_role("img", name="Paint what is drawn anew")).to_be_visible()
    page.get_by_label("What to draw").press("Control+Enter")
    expect(page.locator("job-queue li")).to_have_count(2)
    order = httpx.get(f"{studio.url}/v1/jobs?limit=1").json()["results"][0]["request"]
    assert order["mask_image"]["upload_id"] != order["init_image"]["upload_id"]

    page.locator(".tile").first.click()
    page.get_by_role("button", name="Start from it").click()
    expect(page.get_by_role("img", name="Start from a picture")).to_be_visible()
    page.get_by_label("What to draw").press("Control+Enter")
    expect(page.locator("job-queue li")).to_have_count(3)
    order = httpx.get(f"{studio.url}/v1/jobs?limit=1").json()["results"][0]["request"]
    assert order["init_image"]["job_id"] == drawn
    assert order["mask_image"] is None
    page.get_by_role("button", name="Start from nothing").click()
    expect(page.get_by_label("Drawn anew")).to_have_count(0)


def test_one_pen_paints_and_needs_no_storage(studio: Studio, visit: Open) -> None:
    """Another button or a second finger paints nothing. Where storage is forbidden, it opens as well."""
    page = visit("about:blank")
    page.add_init_script(FORBIDDEN)
    page.goto(studio.url)
    file = io.BytesIO()
    picture(5, 80).save(file, "PNG")
    brought = {"name": "sketch.png", "mimeType": "image/png", "buffer": file.getvalue()}
    page.get_by_label("Choose, or drop one here").set_input_files(brought)  # pyright: ignore[reportArgumentType]
    page.get_by_role("button", name="Paint what is drawn anew").click()
    canvas = page.get_by_role("dialog").get_by_role("application")
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down(button="right")
    page.mouse.move(box["x"], box["y"])
    page.mouse.up(button="right")
    second = {"pointerId": 7, "pointerType": "touch", "isPrimary": False, "button": 0}
    canvas.dispatch_event("pointerdown", second)
    assert canvas.evaluate(PAINTED) == 0
    page.mouse.down()
    painted = canvas.evaluate(PAINTED)
    assert painted > 0
    canvas.dispatch_event("pointermove", {**second, "isPrimary": True, "button": -1})
    assert canvas.evaluate(PAINTED) == painted
    page.mouse.up()
