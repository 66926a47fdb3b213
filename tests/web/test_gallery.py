"""Choosing among pictures: by key and by mouse, with a hundred thousand jobs behind, and nothing jumps."""

from __future__ import annotations

import csv
import re
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from serve_app.catalog.models import Models
from tests.api.harness import MODELS, OTHER, make_app, site
from tests.cluster.service import wait_until
from tests.web.conftest import Open
from tests.web.studio import Studio

pytestmark = pytest.mark.browser


def tiles(page: Page) -> Any:
    return page.locator(".tile")


def top_of(page: Page, number: str | None) -> float:
    """Of the tile at this place, in pixels."""
    box = page.locator(f'.tile[data-place="{number}"]').bounding_box()
    assert box is not None
    return box["y"]


def selected(page: Page) -> list[str]:
    return page.locator('[role="option"][aria-selected="true"]').evaluate_all(
        "all => all.map((one) => one.dataset.place)"
    )


def test_keys_move_select_mark_and_delete(studio: Studio, visit: Open) -> None:
    jobs = [studio.drawn(number, prompt=f"number {number}") for number in range(6)]
    page = visit(studio.url)
    expect(tiles(page)).to_have_count(6)
    tiles(page).first.focus()
    page.keyboard.press("ArrowRight")
    expect(tiles(page).nth(1)).to_be_focused()
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.get_by_role("toolbar")).to_contain_text("2 selected")
    assert selected(page) == ["1", "2"]
    page.keyboard.press("f")
    expect(tiles(page).nth(1)).to_have_accessible_name(re.compile("Starred"))
    expect(tiles(page).nth(2)).to_have_accessible_name(re.compile("Starred"))
    page.keyboard.press("4")
    expect(tiles(page).nth(2)).to_have_accessible_name(re.compile("4 stars"))
    page.keyboard.press("Escape")
    expect(page.get_by_role("toolbar")).to_have_count(0)

    page.keyboard.press("End")
    expect(tiles(page).nth(5)).to_be_focused()
    page.keyboard.press("x")
    expect(tiles(page).nth(5)).to_have_accessible_name(re.compile("Reject"))
    page.keyboard.press("Delete")
    expect(tiles(page)).to_have_count(5)
    page.get_by_role("button", name="Undo").click()
    expect(tiles(page)).to_have_count(6)
    assert httpx.get(f"{studio.url}/v1/jobs/{jobs[0]}").status_code == 200

    page.goto(f"{studio.url}/#/pictures?mark=4")
    expect(tiles(page)).to_have_count(2)
    other = visit(f"{studio.url}/#/pictures?mark=star")
    expect(tiles(other)).to_have_count(2)
    expect(tiles(other).first).to_have_accessible_name(re.compile("Starred, 4 stars"))


def test_marks_of_others_are_seen_as_they_are_made(studio: Studio, visit: Open) -> None:
    job = studio.drawn(1, 2, prompt="two stones")
    page = visit(studio.url)
    expect(tiles(page)).to_have_count(2)
    url = f"{studio.url}/v1/jobs/{job}"
    httpx.patch(url, json={"images": [{"index": 1, "rating": 3}]}).raise_for_status()
    expect(tiles(page).nth(1)).to_have_accessible_name(re.compile("3 stars"))
    expect(tiles(page).nth(0)).not_to_have_accessible_name(re.compile("star"))
    page.get_by_text("Filters", exact=True).click()
    page.get_by_label("Marks").select_option(label="3 and better")
    expect(tiles(page)).to_have_count(1)
    tiles(page).first.click()
    viewer = page.get_by_role("dialog")
    tags = viewer.get_by_role("textbox", name="Tags")
    tags.fill("level-3, stones")
    tags.press("Enter")
    expect(viewer.get_by_role("button", name="stones", exact=True)).to_be_visible()
    assert httpx.get(url).json()["tags"] == ["level-3", "stones"]


def test_a_mark_that_is_refused_is_taken_back(studio: Studio, visit: Open) -> None:
    job = studio.drawn(1)
    page = visit(studio.url, forgive=("410", "Failed to load resource", "net::ERR"))
    expect(tiles(page)).to_have_count(1)
    page.context.set_offline(True)
    httpx.delete(f"{studio.url}/v1/jobs/{job}").raise_for_status()
    tiles(page).first.focus()
    page.context.set_offline(False)
    page.keyboard.press("f")
    expect(page.get_by_text("This job was deleted.")).to_be_visible()
    expect(tiles(page).first).not_to_have_accessible_name(re.compile("Starred"))


def test_filters_stand_in_the_link(studio: Studio, visit: Open) -> None:
    studio.drawn(1, prompt="a red potion", tags=["level-3"])
    studio.drawn(2, prompt="a blue sword", tags=["level-4"])
    page = visit(studio.url)
    find = page.get_by_role("searchbox", name="Find words")
    find.fill("SWOR blue")
    find.press("Enter")
    expect(tiles(page)).to_have_count(1)
    assert "find=SWOR" in page.url
    page.get_by_role("button", name="Clear filters").click()
    expect(tiles(page)).to_have_count(2)
    page.get_by_text("Filters", exact=True).click()
    page.get_by_role("textbox", name="Tag", exact=True).fill("level-3")
    page.get_by_role("textbox", name="Tag", exact=True).press("Enter")
    expect(tiles(page)).to_have_count(1)
    expect(tiles(page).first).to_have_accessible_name(re.compile("a red potion"))
    page.reload()
    expect(tiles(page)).to_have_count(1)


def test_a_model_is_filtered_by_and_the_ledger_kept(tmp_path: Path, visit: Open) -> None:
    models = Models({**MODELS, "other": OTHER}, "tiny")
    make = partial(make_app, models=models, served=["tiny", "other"])
    with site(tmp_path, make) as place:
        studio = Studio(place)
        mine = studio.drawn(1, prompt="of the one", tags=["level-3"])
        studio.drawn(2, prompt="of the other", model="other")
        page = visit(f"{place.url}/#/pictures")
        expect(tiles(page)).to_have_count(2)
        page.get_by_text("Filters", exact=True).click()
        page.locator(".filter-menu").get_by_label("Model").select_option("other")
        expect(tiles(page)).to_have_count(1)
        expect(tiles(page).first).to_have_accessible_name(re.compile("of the other"))
        studio.drawn(3, prompt="another of the one")
        expect(page.get_by_text("new picture")).to_have_count(0)
        page.locator(".filter-menu").get_by_label("Model").select_option("")
        page.get_by_role("textbox", name="Tag", exact=True).fill("level-3")
        page.get_by_role("textbox", name="Tag", exact=True).press("Enter")
        expect(tiles(page)).to_have_count(1)
        with page.expect_download() as coming:
            page.get_by_role("button", name="Ledger").click()
        coming.value.save_as(tmp_path / "ledger.csv")
        with (tmp_path / "ledger.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("job_id")]
        assert {row["job_id"] for row in rows} == {mine}
        page.close()  # before its service goes, of which it would complain


def test_a_picture_with_a_note_says_so(studio: Studio, visit: Open) -> None:
    """In the line as it ends, on its tile, and beside its recipe."""
    page = visit(studio.url)
    job = studio.order(prompt="a zorblax")
    expect(page.locator("job-queue li")).to_have_count(1)
    studio.finish(job, 1, notes=("not_taught: the model was not taught zorblax", "draft: half"))
    expect(page.locator("job-queue li")).to_contain_text("The model was not taught zorblax")
    expect(tiles(page).first).to_have_accessible_name(re.compile("With a note"))
    tiles(page).first.click()
    recipe = page.get_by_label("Recipe")
    expect(recipe.locator(".note")).to_have_text("The model was not taught zorblax")
    expect(recipe).to_contain_text("Half")


def test_nothing_moves_when_a_picture_arrives_below_the_fold(studio: Studio, visit: Open) -> None:
    for number in range(12):
        studio.drawn(*range(number, number + 8), prompt=f"row {number}")
    page = visit(studio.url)
    expect(tiles(page).first).to_be_visible()
    page.locator("[data-scroller]").evaluate("bench => bench.scrollTo(0, 700)")
    seen = page.locator(".tile:not(:focus)").nth(10)
    expect(seen).to_be_attached()
    number = seen.get_attribute("data-place")
    before = top_of(page, number)
    job = studio.order(prompt="a newcomer")
    studio.start(job)
    expect(page.locator("job-queue li")).to_have_count(1)
    assert abs(top_of(page, number) - before) < 1
    studio.finish(job, 5)
    fresh = page.get_by_role("button", name="1 new picture")
    expect(fresh).to_be_visible()
    assert abs(top_of(page, number) - before) < 1
    fresh.click()
    expect(tiles(page).first).to_have_accessible_name(re.compile("a newcomer"))
    expect(fresh).to_have_count(0)


def test_order_again_and_variations(studio: Studio, visit: Open) -> None:
    studio.drawn(1, prompt="a stone", seed=40, steps=9)
    page = visit(studio.url)
    tiles(page).first.click()
    viewer = page.get_by_role("dialog")
    viewer.get_by_role("button", name="Order again").click()
    expect(page.locator("job-queue li")).to_have_count(1)
    viewer.get_by_role("button", name="4 variations").click()
    expect(page.locator("job-queue li")).to_have_count(2)
    varied, again, first = httpx.get(f"{studio.url}/v1/jobs").json()["results"]
    assert again["request"] == first["request"]
    assert varied["request"]["n"] == 4
    assert varied["request"]["seed"] != 40
    assert {**varied["request"], "n": 1, "seed": 40} == first["request"]


def test_zoom_and_grounds(studio: Studio, visit: Open) -> None:
    studio.drawn(1)
    page = visit(studio.url)
    tiles(page).first.click()
    image = page.get_by_role("dialog").get_by_role("img", name=re.compile("seed"))
    expect(image).to_have_css("width", "384px")
    page.keyboard.press("+")
    expect(image).to_have_css("width", "512px")
    expect(image).to_have_css("image-rendering", "pixelated")
    page.keyboard.press("0")
    expect(image).to_have_css("width", "384px")
    page.keyboard.press("b")
    expect(page.get_by_role("button", name="Black")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".stage")).to_have_css("background-color", "rgb(0, 0, 0)")


def test_a_link_to_a_picture_opens_it(studio: Studio, visit: Open) -> None:
    job = studio.drawn(1, 2, prompt="two stones")
    page = visit(f"{studio.url}/#/pictures?job={job}&image=1")
    viewer = page.get_by_role("dialog")
    expect(viewer.get_by_role("img", name=re.compile("two stones"))).to_be_visible()
    page.keyboard.press("Escape")
    expect(viewer).to_have_count(0)
    assert "job=" not in page.url


def test_what_was_finished_has_the_words_of_what_it_was_made_of(
    studio: Studio, visit: Open
) -> None:
    page = visit(studio.url)
    job = studio.drawn(1, prompt="a speckled stone")
    expect(tiles(page)).to_have_count(1)
    finish = {"effects": [{"op": "flip"}]}
    derived = httpx.post(f"{studio.url}/v1/jobs/{job}/derive", json=finish).json()["job_id"]
    studio.work(derived)
    for _ in ("as it arrives", "as it is loaded"):
        expect(tiles(page)).to_have_count(2)
        expect(tiles(page).first).to_have_attribute("data-job", derived)
        expect(tiles(page).first).to_have_accessible_name(re.compile("a speckled stone"))
        page.reload()


def test_a_failed_job_is_looked_at_and_ordered_again(studio: Studio, visit: Open) -> None:
    job = studio.order(prompt="a broken stone")
    studio.start(job)
    studio.fail(job)
    page = visit(f"{studio.url}/#/pictures?state=FAILURE")
    tiles(page).first.click()
    viewer = page.get_by_role("dialog")
    expect(viewer.get_by_role("heading", name="Failed")).to_be_visible()
    expect(viewer.get_by_label("Recipe")).to_contain_text("a broken stone")
    viewer.get_by_role("button", name="Order again").click()
    expect(page.locator("job-queue li")).to_contain_text("a broken stone")


def test_a_picture_is_deleted_where_it_is_looked_at(studio: Studio, visit: Open) -> None:
    gone, kept = studio.drawn(1), studio.drawn(2)
    page = visit(studio.url)
    tiles(page).nth(1).click()
    expect(page.get_by_label("Recipe")).to_be_visible()
    page.keyboard.press("Delete")
    expect(tiles(page)).to_have_count(1)
    expect(tiles(page).first).to_have_attribute("data-job", kept)
    wait_until(lambda: httpx.get(f"{studio.url}/v1/jobs/{gone}").status_code == 410, 15)


def test_fingers_select_too(studio: Studio, visit: Open) -> None:
    studio.drawn(1, 2, 3)
    phone = {"width": 390, "height": 844}
    page = visit(f"{studio.url}/#/pictures", viewport=phone, has_touch=True, is_mobile=True)
    page.get_by_role("button", name="Select", exact=True).tap()
    for number in (0, 2):
        tiles(page).nth(number).tap()
    expect(page.get_by_role("toolbar")).to_contain_text("2 selected")
    assert selected(page) == ["0", "2"]
