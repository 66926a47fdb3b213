"""What is done with selected pictures: compared, finished, packed, downloaded."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.cluster.service import wait_until
from tests.web.conftest import Open
from tests.web.studio import Studio

pytestmark = pytest.mark.browser


PLAYED = """canvas => new Promise((done) => {
    const pixels = () => canvas.getContext("2d").getImageData(0, 0, 128, 128).data.join();
    let [changes, last, end] = [0, pixels(), performance.now() + 1000];
    const look = () => {
        const now = pixels();
        if (now !== last) changes++;
        last = now;
        if (performance.now() > end) done(changes);
        else requestAnimationFrame(look);
    };
    look();
})"""
"""How often what is shown has changed in a second."""


def select(page: Page, count: int) -> None:
    """The first pictures of the gallery."""
    tiles = page.locator(".tile")
    expect(tiles.nth(count - 1)).to_be_visible()
    for number in range(count):
        tiles.nth(number).click(modifiers=["Control"])
    expect(page.get_by_role("toolbar")).to_contain_text(f"{count} selected")


def tried(studio: Studio, wanted: Callable[[dict[str, Any]], bool]) -> str:
    """The id of the job that tries an order of this kind, once it is there."""

    def found() -> str:
        trials = httpx.get(f"{studio.url}/v1/jobs?tag=trial").json()["results"]
        return next((job["job_id"] for job in trials if wanted(job["request"])), "")

    return wait_until(found, 5, "the trial")


def test_pictures_are_compared_at_one_place(studio: Studio, visit: Open) -> None:
    studio.drawn(1, 2, 3, prompt="a stone")
    page = visit(studio.url)
    select(page, 3)
    page.keyboard.press("c")
    frames = page.get_by_role("dialog").locator(".frame")
    expect(frames).to_have_count(3)
    page.get_by_role("button", name="+").last.click()
    page.get_by_role("button", name="+").last.click()
    frames.first.evaluate("frame => frame.scrollTo(90, 60)")
    for number in (1, 2):
        where = frames.nth(number)
        wait_until(
            lambda where=where: where.evaluate("f => [f.scrollLeft, f.scrollTop]") == [90, 60], 5
        )
    page.get_by_role("button", name="Star: a stone").nth(1).click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(".tile").nth(1)).to_have_accessible_name(re.compile("Starred"))


def test_effects_are_tried_and_then_done_with_all(studio: Studio, visit: Open) -> None:
    first, second = studio.drawn(1, 2, prompt="two"), studio.drawn(3, prompt="one")
    page = visit(studio.url, forgive=("422",))
    select(page, 3)
    page.get_by_role("button", name="Finish").click()
    dialog = page.get_by_role("dialog", name="Finish 3 pictures")
    padding = dialog.get_by_label("Padding")
    padding.fill("9999")
    padding.press("Tab")
    expect(padding).to_have_accessible_description(re.compile("512"))
    padding.fill("40")
    padding.press("Tab")
    expect(dialog.get_by_text("Working")).to_be_visible()
    trial = tried(studio, lambda order: order["effects"][1]["padding"] == 40)
    expect(page.locator("job-queue li")).to_have_count(0)
    studio.work(trial)
    after = dialog.get_by_role("img", name="After")
    expect(after).to_be_visible()
    box, frame = after.bounding_box(), dialog.locator(".frame").bounding_box()
    assert box is not None
    assert frame is not None
    assert box["height"] > 0.5 * frame["height"], "as large as before, or as large as fits"
    slider = dialog.get_by_role("slider", name="Before and after")
    slider.focus()
    slider.press("Home")
    expect(dialog.locator(".after")).to_have_css("clip-path", "inset(0px 0px 0px 0%)")

    dialog.get_by_role("button", name="Finish all 3").click()
    expect(page.get_by_text("2 jobs ordered.")).to_be_visible()
    wait_until(lambda: httpx.get(f"{studio.url}/v1/jobs/{trial}").status_code == 410, 5)
    derived = httpx.get(f"{studio.url}/v1/jobs?limit=2").json()["results"]
    assert {job["derived_from"] for job in derived} == {first, second}
    ordered = {job["derived_from"]: job["request"] for job in derived}
    assert ordered[first]["indices"] == [0, 1]
    assert [effect["op"] for effect in ordered[first]["effects"]] == ["cutout", "trim"]
    assert ordered[second]["effects"][1]["padding"] == 40


def test_a_sheet_is_packed_and_shown(studio: Studio, visit: Open) -> None:
    drawn = studio.drawn(1, 2, 3)
    page = visit(studio.url, forgive=("422",))
    select(page, 3)
    page.get_by_role("button", name="Sheet").click()
    dialog = page.get_by_role("dialog", name="A sheet of 3 pictures")
    name = dialog.get_by_label("Name")
    name.fill("no good name")
    name.press("Tab")
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(dialog.get_by_role("button", name="Keep the sheet")).to_be_disabled()
    name.fill("stones")
    dialog.get_by_label("Padding").fill("6")
    dialog.get_by_label("Godot").check()
    dialog.get_by_label("Clip").fill("roll")
    dialog.get_by_label("Clip").press("Tab")
    expect(dialog.get_by_text("Packing")).to_be_visible()
    items = [{"job_id": drawn, "index": index, "name": f"roll_{index}"} for index in range(3)]
    wanted = {
        "name": "stones",
        "formats": ["texturepacker_hash", "godot"],
        "padding": 6,
        "clips": [{"name": "roll", "frames": ["roll_0", "roll_1", "roll_2"], "fps": 8}],
        "items": items,
        "tags": ["trial"],
    }
    sheet = tried(studio, lambda order: order == wanted)
    studio.work(sheet)
    expect(dialog.get_by_role("img", name="The packed sheet")).to_be_visible()
    expect(dialog.locator(".box")).to_have_count(3)
    plays = "canvas => canvas.getContext('2d').getImageData(0, 0, 128, 128).data.some(Boolean)"
    wait_until(lambda: dialog.locator("canvas").evaluate(plays), 5, "the clip plays")
    seen = dialog.locator("canvas").evaluate(PLAYED)
    assert seen == pytest.approx(8, abs=2.5), "pictures of the clip in a second"
    archive = dialog.get_by_role("link", name="Download all files").get_attribute("href")
    files = zipfile.ZipFile(io.BytesIO(httpx.get(f"{studio.url}{archive}").content)).namelist()
    assert {"stones.png", "stones.json"} < set(files)

    dialog.get_by_role("button", name="Keep the sheet").click()
    expect(page.get_by_text("The sheet is among the pictures.")).to_be_visible()
    expect(page.locator(f'.tile[data-job="{sheet}"]')).to_have_count(1)
    (kept,) = [
        job
        for job in httpx.get(f"{studio.url}/v1/jobs").json()["results"]
        if job["kind"] == "sheet"
    ]
    assert (kept["job_id"], kept["tags"]) == (sheet, [])


def test_a_selection_is_downloaded_as_a_zip(studio: Studio, visit: Open, tmp_path: Path) -> None:
    job = studio.drawn(1, 2, 3)
    page = visit(studio.url)
    select(page, 3)
    with page.expect_download() as coming:
        page.get_by_role("button", name="Download").click()
    coming.value.save_as(tmp_path / "got.zip")
    urls = httpx.get(f"{studio.url}/v1/jobs/{job}").json()["result_urls"]
    with zipfile.ZipFile(tmp_path / "got.zip") as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(url.rpartition("/")[2] for url in urls)
        for url in urls:
            content = archive.read(url.rpartition("/")[2])
            assert content == httpx.get(studio.url + url).content
            assert Image.open(io.BytesIO(content)).size == (64, 64)


def test_what_counts_if_nothing_is_chosen_is_shown(studio: Studio, visit: Open) -> None:
    """The description tells defaults of bodies in words."""
    studio.drawn(1)
    page = visit(studio.url)
    select(page, 1)
    page.get_by_role("button", name="Sheet").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Padding")).to_have_attribute("placeholder", "2")
    expect(dialog.get_by_label("Trim").locator("option:checked")).to_have_text("Yes")
    expect(dialog.get_by_label("Filter").locator("option:checked")).to_have_text("Linear")
