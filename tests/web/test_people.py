"""Who sees what, and who can use it: two owners, hostile words, people without a mouse or sight, phones."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from serve_app.api.keys import add_key
from serve_app.catalog.styles import Style, Styles
from tests.api.harness import LocalTransport, Site, keys_of, make_app, site
from tests.cluster.service import wait_until
from tests.web.conftest import Open
from tests.web.studio import Studio, picture

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=hacked=1><script>hacked=1</script>&lt;b&gt;\"'`${hacked=1}"


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


@pytest.fixture
def two_owners(tmp_path: Path) -> Iterator[tuple[Site, list[str]]]:
    keys = [header["X-API-Key"] for header in keys_of(tmp_path / "keys", "ann", "bob")]

    def make(transport: LocalTransport) -> Any:
        return make_app(transport, api_keys_file=tmp_path / "keys")

    with site(tmp_path, make) as found:
        yield found, keys


def test_two_owners_see_their_own(two_owners: tuple[Site, list[str]], visit: Open) -> None:
    place, (ann, bob) = two_owners
    anns = visit(place.url, forgive=("401",))
    expect(anns.get_by_role("heading", name="Sign in")).to_be_visible()
    sign_in(anns, "not-a-key")
    expect(anns.get_by_text("That key is not one of this service.")).to_be_visible()
    sign_in(anns, ann)
    expect(anns.get_by_label("What to draw")).to_be_visible()
    bobs = visit(place.url, forgive=("401", "404"))
    sign_in(bobs, bob)
    expect(bobs.get_by_text("Live")).to_be_visible()

    anns.get_by_label("What to draw").fill("a secret weapon")
    anns.get_by_label("What to draw").press("Control+Enter")
    expect(anns.locator("job-queue li")).to_contain_text("a secret weapon")
    job = httpx.get(f"{place.url}/v1/jobs", headers={"X-API-Key": ann}).json()["results"][0][
        "job_id"
    ]
    Studio(place).finish(job, 1)
    expect(anns.locator(".tile")).to_have_count(1)
    bobs.goto(f"{place.url}/#/pictures?job={job}&image=0")
    expect(bobs.get_by_role("dialog")).to_contain_text("There is no job of this id.")
    assert "secret" not in bobs.content()

    assert anns.evaluate("Object.values(localStorage).join()").find(ann) < 0
    anns.get_by_role("button", name="Sign out").click()
    expect(anns.get_by_label("API key")).to_be_visible()
    assert "a secret weapon" not in anns.locator("job-queue, picture-gallery").all_inner_texts()
    assert anns.evaluate("JSON.stringify(sessionStorage)") == "{}"


@pytest.mark.parametrize(
    ("words", "told"),
    [("scopes=order", "This needs a key with the scope read"), ("rate=2/s", None)],
)
def test_a_key_that_may_do_little(
    two_owners: tuple[Site, list[str]], tmp_path: Path, visit: Open, words: str, told: str | None
) -> None:
    """One that may not look is told so; one that may ask seldom waits, and then all is there."""
    key = add_key(tmp_path / "keys", "cid", words)
    page = visit(two_owners[0].url, forgive=("401", "403", "429"))
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    time.sleep(1.1)  # the file of keys is looked at once a second
    sign_in(page, key)
    if told:
        expect(page.get_by_text(told)).to_be_visible()
        expect(page.get_by_label("API key")).to_be_visible()
    else:
        expect(page.get_by_label("What to draw")).to_be_visible()
    expect(page.get_by_text("No connection.")).to_have_count(0)


def test_what_is_tried_goes_as_one_signs_out(
    two_owners: tuple[Site, list[str]], visit: Open
) -> None:
    place, (ann, _) = two_owners
    client = httpx.Client(base_url=place.url, headers={"X-API-Key": ann})
    order = {"prompt": "a stone", "style_id": "icon"}
    Studio(place).finish(client.post("/v1/generate", json=order).json()["job_id"], 1)
    page = visit(place.url, forgive=("401",))
    sign_in(page, ann)
    expect(page.locator(".tile")).to_have_count(1)
    page.get_by_role("radio", name="My own").check(force=True)

    def trial() -> str:
        return next((j["job_id"] for j in client.get("/v1/jobs?tag=trial").json()["results"]), "")

    wait_until(trial, 5, "the trial")
    page.get_by_role("button", name="Sign out").click()
    wait_until(lambda: not trial(), 5, "no trial")
    client.close()


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Site]:
    style = Style(id="evil", title=EVIL, description=EVIL, template="{prompt}" + EVIL)

    def make(transport: LocalTransport) -> Any:
        return make_app(transport, styles=Styles({"evil": style}), dashboard="127.0.0.1:8265")

    with site(tmp_path, make) as found:
        yield found


def test_words_of_others_stay_words(hostile: Site, visit: Open) -> None:
    """Prompt, style, tag, metadata, and the reason of a failure."""
    studio = Studio(hostile)
    drawn = studio.drawn(1, prompt=EVIL, negative_prompt=EVIL, style_id="evil", tags=["a/b:c"],
                         metadata={EVIL: EVIL})  # fmt: skip
    failed = studio.order(prompt=EVIL, style_id="evil")
    studio.start(failed)
    page = visit(studio.url, forgive=("422",))  # of a tag that is none
    expect(page.locator(".card .name", has_text="onerror")).to_be_visible()
    dashboard = page.get_by_role("link", name="Ray dashboard")
    expect(dashboard).to_have_attribute("href", "http://127.0.0.1:8265")
    expect(page.locator("job-queue li .words")).to_have_text(EVIL)
    page.locator(".tile").click()
    expect(page.get_by_label("Recipe")).to_contain_text(EVIL)
    page.keyboard.press("Escape")
    error = {"code": "render_failed", "title": EVIL, "detail": EVIL, "retryable": False}
    hostile.do(hostile.world.fail, failed, 1, error)
    expect(page.locator("job-queue li .error")).to_have_text(EVIL)
    page.goto(f"{studio.url}/#/pictures?find={EVIL}&tag={EVIL}&job={drawn}&image=0")
    expect(page.get_by_label("Recipe")).to_contain_text(EVIL)
    assert page.evaluate("'hacked' in window") is False
    assert page.locator("script:not([src])").count() == 0


NAME = f"{EVIL[:60].replace('/', '')}\u202etxt.gnp{'x' * 150}"
"""With markup, a mark that turns the direction of a text, and as long as a file may be called."""


def test_names_of_files_stay_names(studio: Studio, visit: Open, tmp_path: Path) -> None:
    """Of a picture to start from, of a table, and of one that is neither."""
    page = visit(studio.url, forgive=("422",))
    expect(page.get_by_role("link", name="HTTP interface")).to_be_visible()
    expect(page.get_by_role("link", name="Ray dashboard")).to_have_count(0)
    file = io.BytesIO()
    picture(1).save(file, "PNG")
    sent = {"name": f"{NAME}.png", "mimeType": "image/png", "buffer": file.getvalue()}
    page.get_by_label("Choose, or drop one here").set_input_files(sent)  # pyright: ignore[reportArgumentType]
    expect(page.get_by_role("img", name="Start from a picture")).to_be_visible()
    page.get_by_role("button", name="Start from nothing").click()
    broken = {**sent, "buffer": EVIL.encode()}
    page.get_by_label("Choose, or drop one here").set_input_files(broken)  # pyright: ignore[reportArgumentType]
    expect(page.locator(".notice")).to_be_visible()
    page.get_by_role("button", name="Many at once").click()
    table = {
        "name": f"{NAME}.csv",
        "mimeType": "text/csv",
        "buffer": f'prompt\n"{EVIL.replace(chr(34), chr(34) * 2)}"\n'.encode(),
    }
    dialog = page.get_by_role("dialog", name="Many at once")
    dialog.get_by_label("Open a file").set_input_files(table)  # pyright: ignore[reportArgumentType]
    dialog.get_by_role("button", name="Order 1 job").click()
    card = page.locator("[data-batch]")
    expect(card).to_contain_text("img-src")
    expect(page.locator("job-queue")).not_to_contain_text("\u202e")
    assert page.evaluate("'hacked' in window") is False
    assert page.locator("script:not([src])").count() == 0
    wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wider <= 0


VIEWS = {
    "desk": ("", None),
    "picture": ("#/pictures?job={job}&image=0", None),
    "keys": ("", "?"),
    "failed": ("#/pictures?state=FAILURE", None),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(studio: Studio, visit: Open, axe: Path, scheme: str) -> None:
    job = studio.drawn(1, 2, prompt="a red potion", tags=["level-3"], effects=[{"op": "trim"}])
    studio.start(studio.order(prompt="running"))
    lost = studio.order(prompt="fails")
    studio.start(lost)
    studio.fail(lost)
    page = visit(studio.url, bypass_csp=True, color_scheme=scheme)
    expect(page.locator(".tile").first).to_be_visible()
    page.get_by_role("radio", name="My own").check(force=True)
    for name, (address, key) in VIEWS.items():
        page.goto(f"{studio.url}/{address.format(job=job)}")
        page.add_script_tag(path=axe)
        if name == "desk":
            page.get_by_text("More settings").click()
        if key:
            page.locator("body").press(key)
            expect(page.get_by_role("dialog")).to_be_visible()
        else:
            page.wait_for_function(
                "!document.querySelector('.viewer') || document.querySelector('.facts')"
            )
        assert violations(page) == [], name
        page.keyboard.press("Escape")
    page.goto(f"{studio.url}/#/pictures?")
    for number in (0, 1):
        page.locator(".tile").nth(number).click(modifiers=["Control"])
    for name in ("Compare", "Finish", "Sheet", "Many at once"):
        page.get_by_role("button", name=name, exact=True).click()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert violations(page) == [], name
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
    page.evaluate(
        """() => {
            const look = document.createElement("canvas").toDataURL();
            const source = { image: { upload_id: "none" }, look };
            localStorage.setItem("assets.draft", JSON.stringify({ source }));
        }"""
    )
    page.goto(f"{studio.url}/#/order?do=mask")
    page.reload()
    page.add_script_tag(path=axe)
    expect(page.get_by_role("application")).to_be_visible()
    assert violations(page) == [], "mask"


def violations(page: Page) -> list[Any]:
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        (one["id"], node["target"], node["failureSummary"])
        for one in found["violations"]
        for node in one["nodes"]
    ]


def test_the_sign_in_is_for_everybody(
    two_owners: tuple[Site, list[str]], visit: Open, axe: Path
) -> None:
    page = visit(two_owners[0].url, bypass_csp=True, forgive=("401",))
    expect(page.get_by_label("API key")).to_be_focused()
    page.add_script_tag(path=axe)
    assert page.evaluate("axe.run()")["violations"] == []


@pytest.mark.parametrize("width", [320, 390, 820, 1440, 2560])
def test_it_fits_from_a_phone_to_a_wide_screen(studio: Studio, visit: Open, width: int) -> None:
    studio.drawn(*range(8), prompt="averyveryverylongword" * 9)
    studio.start(studio.order(prompt="another" * 40))
    page = visit(studio.url, viewport={"width": width, "height": 800})
    panes = ["Order", "In work", "Pictures"] if width < 760 else []
    for pane in panes or [None]:
        if pane:
            page.get_by_role("navigation").get_by_role("link", name=re.compile(pane)).click()
        wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wider <= 0, pane
        for box in page.locator(
            "main button:visible, main select:visible, main input:visible"
        ).all():
            place = box.bounding_box()
            assert place is not None
            assert place["x"] >= -1, (pane, box)
            assert place["x"] + place["width"] <= width + 1, (pane, box)


def test_everything_stays_where_it_is(studio: Studio, visit: Open) -> None:
    """While it loads, and while jobs are drawn: nothing that somebody may be about to press moves."""
    studio.drawn(*range(8))
    page = visit("about:blank")
    page.add_init_script(
        """globalThis.shifts = 0;
        new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) shifts += entry.value;
        }).observe({ type: "layout-shift", buffered: true });"""
    )
    page.goto(studio.url)
    expect(page.locator(".tile")).to_have_count(8)
    complete = "[...document.images].every((image) => image.complete)"
    wait_until(lambda: page.evaluate(complete), 10)
    assert page.evaluate("shifts") < 0.02
