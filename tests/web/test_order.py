"""Ordering and watching, by mouse and by key: from a prompt to a picture and its recipe."""

from __future__ import annotations

import base64
import re
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Page, expect

from serve_app.catalog.models import Models
from tests.api.harness import MODELS, OTHER, make_app, site
from tests.cluster.service import wait_until
from tests.web.conftest import Open
from tests.web.studio import Studio, picture

pytestmark = pytest.mark.browser


def write(page: Page, prompt: str) -> None:
    page.get_by_label("What to draw").fill(prompt)


def queued(page: Page) -> Any:
    return page.locator("job-queue li")


def test_of_several_models_one_can_be_chosen(tmp_path: Path, visit: Open) -> None:
    """Its sizes are offered then. With one model there is no choice."""
    large = OTHER.model_copy(update={"sizes": [(64, 64), (96, 96)]})
    models = Models({**MODELS, "other": large}, "tiny")
    make = partial(make_app, models=models, served=["tiny", "other"])
    with site(tmp_path, make) as place:
        page = visit(place.url)
        size = page.get_by_label("Size", exact=True)
        expect(size).not_to_contain_text("96 × 96")
        page.locator("order-form").get_by_label("Model").select_option("other")
        expect(size).to_contain_text("96 × 96")
        write(page, "a red potion")
        page.get_by_label("What to draw").press("Control+Enter")
        expect(queued(page)).to_contain_text("a red potion")
        (found,) = httpx.get(f"{place.url}/v1/jobs").json()["results"]
        assert found["request"]["model"] == "other"
        page.close()  # before its service goes, of which it would complain


def test_from_a_prompt_to_a_picture_and_its_recipe(studio: Studio, visit: Open) -> None:
    page = visit(studio.url)
    write(page, "a red potion")
    page.get_by_role("radio", name="Icon").check(force=True)
    page.get_by_role("spinbutton", name="Pictures").fill("2")
    page.get_by_role("spinbutton", name="Pictures").press("Tab")
    expect(page.get_by_role("button", name=re.compile("Draw 2 pictures"))).to_be_enabled()
    page.get_by_label("What to draw").press("Control+Enter")
    job = queued(page)
    expect(job).to_contain_text("a red potion")
    (found,) = httpx.get(f"{studio.url}/v1/jobs").json()["results"]
    assert (found["request"]["n"], found["request"]["style_id"]) == (2, "icon")
    job_id = found["job_id"]

    studio.start(job_id)
    studio.step(job_id, 3)
    expect(job).to_contain_text("Step 3 of 6")
    expect(job.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "50")
    studio.preview(job_id, 1)
    forming = job.get_by_role("img", name=re.compile("Forming"))
    expect(forming).to_be_visible()
    assert forming.evaluate("image => image.decode().then(() => image.naturalWidth)") == 32

    studio.finish(job_id, 1, 2)
    expect(job).to_contain_text("Done")
    tiles = page.locator(".tile")
    expect(tiles).to_have_count(2)
    tiles.first.click()
    viewer = page.get_by_role("dialog")
    expect(viewer.get_by_role("img", name=re.compile("a red potion, seed"))).to_be_visible()
    expect(viewer.get_by_label("Recipe")).to_contain_text(str(found["request"]["seed"]))
    expect(viewer.get_by_label("Recipe")).to_contain_text("a red potion, game icon")
    page.keyboard.press("ArrowRight")
    expect(viewer.get_by_label("Recipe")).to_contain_text(str(found["request"]["seed"] + 1))
    page.keyboard.press("Escape")
    expect(viewer).to_have_count(0)
    expect(tiles.nth(1)).to_be_focused()


def test_what_is_wrong_stands_beside_its_field(studio: Studio, visit: Open) -> None:
    page = visit(studio.url, forgive=("422",))
    page.get_by_role("button", name=re.compile("Draw a picture")).click()
    prompt = page.get_by_label("What to draw")
    expect(prompt).to_be_focused()
    expect(prompt).to_have_accessible_description("Say what to draw.")
    write(page, "a sword")
    page.get_by_text("More settings").click()
    steps = page.get_by_label("Steps")
    steps.fill("51")
    steps.press("Tab")
    expect(steps).to_have_attribute("aria-invalid", "true")
    expect(steps).to_have_accessible_description(re.compile("50"))
    steps.fill("6")
    steps.press("Tab")
    expect(steps).not_to_have_attribute("aria-invalid", "true")
    page.get_by_label("What to draw").press("Control+Enter")
    expect(queued(page)).to_have_count(1)


def test_typing_is_never_overwritten_by_news(studio: Studio, visit: Open) -> None:
    page = visit(studio.url)
    job = studio.order()
    studio.start(job)
    page.get_by_text("More settings").click()
    steps = page.get_by_label("Steps")
    steps.press_sequentially("1")
    for step in (1, 2, 3):
        studio.step(job, step)
        expect(queued(page)).to_contain_text(f"Step {step} of 6")
    steps.press_sequentially("2")
    expect(steps).to_have_value("12")


def test_a_seed_is_new_each_time_unless_it_is_locked(studio: Studio, visit: Open) -> None:
    page = visit(studio.url)
    write(page, "a sword")
    seed = page.get_by_label("Seed", exact=True)
    page.get_by_role("button", name="Choose a seed").click()
    expect(seed).to_have_value(re.compile("[0-9]+"))
    chosen = seed.input_value()
    page.get_by_label("What to draw").press("Control+Enter")
    expect(queued(page)).to_have_count(1)
    expect(seed).to_have_value("")
    page.get_by_role("button", name="Keep this seed").click()
    page.get_by_label("What to draw").press("Control+Enter")
    expect(queued(page)).to_have_count(2)
    jobs = httpx.get(f"{studio.url}/v1/jobs").json()["results"]
    assert str(jobs[1]["request"]["seed"]) == chosen
    expect(seed).to_have_value(str(jobs[0]["request"]["seed"]))
    page.get_by_label("What to draw").press("Control+Enter")
    expect(queued(page)).to_have_count(3)
    again = httpx.get(f"{studio.url}/v1/jobs").json()["results"]
    assert again[0]["request"]["seed"] == jobs[0]["request"]["seed"]


def test_effects_are_fields_of_their_schemas(studio: Studio, visit: Open) -> None:
    page = visit(studio.url, forgive=("422",))
    write(page, "a sword")
    page.get_by_role("radio", name="My own").check(force=True)
    page.get_by_label("Add an effect").select_option("trim")
    chain = page.locator(".chain li")
    expect(chain).to_have_count(2)
    padding = chain.nth(1).get_by_label("Padding")
    padding.fill("9999")
    padding.press("Tab")
    expect(padding).to_have_accessible_description(re.compile("512"))
    padding.fill("3")
    padding.press("Tab")
    expect(padding).not_to_have_attribute("aria-invalid", "true")
    page.get_by_role("button", name="Trim earlier").click()
    page.get_by_label("What to draw").press("Control+Enter")
    expect(queued(page)).to_have_count(1)
    (job,) = httpx.get(f"{studio.url}/v1/jobs").json()["results"]
    assert [effect["op"] for effect in job["request"]["effects"]] == ["trim", "cutout"]
    assert job["request"]["effects"][0]["padding"] == 3


def test_effects_are_seen_on_a_picture_as_they_are_chosen(studio: Studio, visit: Open) -> None:
    """On the newest of the style. What tries them is in no list of the page, and does not stay."""
    studio.drawn(1, prompt="of another style", style_id="none")
    shown = studio.drawn(2, prompt="a stone")
    page = visit(studio.url, forgive=("422",))
    expect(page.locator(".tile")).to_have_count(2)
    page.get_by_role("radio", name="Icon").check(force=True)
    page.get_by_role("radio", name="My own").check(force=True)

    def trial() -> str:
        trials = httpx.get(f"{studio.url}/v1/jobs?tag=trial").json()["results"]
        return trials[0]["job_id"] if trials else ""

    first = wait_until(trial, 5)
    assert httpx.get(f"{studio.url}/v1/jobs/{first}").json()["derived_from"] == shown
    studio.work(first)
    tried = page.locator("order-form .trial")
    expect(tried.get_by_role("img", name="After")).to_be_visible()
    page.get_by_label("Add an effect").select_option("flip")
    second = wait_until(lambda: trial() if trial() != first else "", 5)
    studio.work(second)
    wait_until(lambda: httpx.get(f"{studio.url}/v1/jobs/{first}").status_code == 410, 5)
    after = tried.get_by_role("img", name="After")
    expect(after).to_have_attribute("src", re.compile(second))
    expect(page.locator("job-queue li")).to_have_count(0)
    page.reload()
    expect(page.locator(".tile")).to_have_count(2)


def test_a_picture_of_another_program_offers_its_recipe(
    studio: Studio, visit: Open, tmp_path: Path
) -> None:
    written = PngInfo()
    written.add_text(
        "parameters",
        "a ruby ring\nNegative prompt: blurry\nSteps: 7, Sampler: Euler, CFG scale: 2, Seed: 99, Size: 64x64",
    )
    picture(3).save(tmp_path / "ring.png", pnginfo=written)
    page = visit(studio.url)
    expect(page.get_by_text("Live")).to_be_visible()
    drop(page, (tmp_path / "ring.png").read_bytes())
    offer = page.get_by_role("dialog", name="A picture with a recipe")
    expect(offer).to_contain_text("a ruby ring")
    offer.get_by_role("button", name="Use this recipe").click()
    expect(page.get_by_label("What to draw")).to_have_value("a ruby ring")
    expect(page.get_by_label("Seed", exact=True)).to_have_value("99")
    page.get_by_text("More settings").click()
    expect(page.get_by_label("Steps")).to_have_value("7")

    picture(4).save(tmp_path / "plain.png")
    drop(page, (tmp_path / "plain.png").read_bytes())
    offer = page.get_by_role("dialog", name="Start from a picture")
    expect(offer).to_contain_text("holds no recipe")
    offer.get_by_role("button", name="Start from it").click()
    expect(page.get_by_role("img", name="Start from a picture")).to_be_visible()


def drop(page: Page, file: bytes) -> None:
    """Onto the page, as a PNG."""
    page.evaluate(
        """data => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const dropped = new DataTransfer();
            dropped.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
            const event = new DragEvent("drop", { dataTransfer: dropped, bubbles: true, cancelable: true });
            document.body.dispatchEvent(event);
        }""",
        base64.b64encode(file).decode(),
    )


def test_the_form_is_as_it_was_after_a_crash(studio: Studio, visit: Open) -> None:
    page = visit(studio.url)
    write(page, "a half written thought")
    page.get_by_role("radio", name="High").check(force=True)
    page.reload()
    expect(page.get_by_label("What to draw")).to_have_value("a half written thought")
    expect(page.get_by_role("radio", name="High")).to_be_checked()


def test_a_picture_that_is_dropped_brings_its_recipe(
    studio: Studio, visit: Open, tmp_path: Path
) -> None:
    studio.drawn(3, prompt="a golden key", seed=77, steps=9)
    (job,) = httpx.get(f"{studio.url}/v1/jobs").json()["results"]
    file = httpx.get(studio.url + job["result_urls"][0]).content
    page = visit(studio.url)
    expect(page.locator(".tile")).to_have_count(1)
    drop(page, file)
    offer = page.get_by_role("dialog", name="A picture with a recipe")
    expect(offer).to_contain_text("a golden key")
    offer.get_by_role("button", name="Use this recipe").click()
    expect(page.get_by_label("What to draw")).to_have_value("a golden key")
    expect(page.get_by_label("Seed", exact=True)).to_have_value("77")
    page.get_by_label("What to draw").press("Control+Enter")
    expect(queued(page)).to_have_count(1)
    newest = httpx.get(f"{studio.url}/v1/jobs").json()["results"][0]
    assert newest["request"] == job["request"]


def test_a_job_is_cancelled_and_ordered_again(studio: Studio, visit: Open) -> None:
    page = visit(studio.url)
    job = studio.order(prompt="a wooden shield")
    studio.start(job)
    page.get_by_role("button", name="Cancel: a wooden shield").click()
    expect(queued(page)).to_contain_text("Cancelled")
    assert httpx.get(f"{studio.url}/v1/jobs/{job}").json()["status"] == "REVOKED"
    page.get_by_role("button", name="Order again: a wooden shield").click()
    expect(
        queued(page).filter(has_text="Place").or_(queued(page).filter(has_text="Next"))
    ).to_have_count(1)
    newest = httpx.get(f"{studio.url}/v1/jobs").json()["results"][0]
    assert newest["retry_of"] == job


def test_a_failed_job_says_why(studio: Studio, visit: Open) -> None:
    page = visit(studio.url)
    job = studio.order()
    studio.start(job)
    expect(queued(page)).to_have_count(1)
    studio.fail(job)
    expect(queued(page)).to_contain_text("Failed")
    page.goto(f"{studio.url}/#/pictures?state=FAILURE")
    expect(page.get_by_role("option", name=re.compile("Failed.*a red potion"))).to_have_count(1)


def test_the_line_is_put_in_another_order(studio: Studio, visit: Open) -> None:
    studio.site.limit(max_in_flight=1)
    for prompt in ("runs", "was first", "was last"):
        job = studio.order(prompt=prompt)
        if prompt == "runs":
            studio.start(job)
    page = visit(studio.url)
    waiting = page.locator("job-queue li.pending .words")
    expect(waiting).to_have_text(["was first", "was last"])
    page.get_by_role("button", name="Sooner: was last").click()
    expect(waiting).to_have_text(["was last", "was first"])
    expect(page.get_by_role("button", name="Sooner: was last")).to_be_disabled()
    expect(page.locator("job-queue li", has_text="was last")).to_contain_text("High")
    assert httpx.get(f"{studio.url}/v1/jobs/{job}").json()["priority"] == "high"
    expect(page.get_by_role("button", name=re.compile("Sooner: runs"))).to_have_count(0)


def test_places_in_line_go_down(studio: Studio, visit: Open) -> None:
    """The stream tells a place only when its job changes: the page asks for the others."""
    studio.site.limit(max_in_flight=0)
    first, second = studio.order(prompt="first"), studio.order(prompt="second")
    page = visit(studio.url)
    expect(queued(page).filter(has_text="second")).to_contain_text("Place 2 in line")
    httpx.post(f"{studio.url}/v1/jobs/{first}/cancel")
    expect(queued(page).filter(has_text="second")).to_contain_text("Next in line")
    assert httpx.get(f"{studio.url}/v1/jobs/{second}").json()["queue_position"] == 1
