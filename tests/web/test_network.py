"""The network goes, the service is replaced, the laptop sleeps: the page goes on where it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from playwright.sync_api import expect

from tests.api.harness import LocalTransport, Site, make_app
from tests.jobs.harness import World
from tests.serving import served
from tests.web.conftest import Open
from tests.web.studio import Studio

pytestmark = pytest.mark.browser

BROKEN = ("Failed to load resource", "net::ERR", "Failed to fetch")


def test_a_lost_network_costs_nothing(studio: Studio, visit: Open) -> None:
    page = visit(studio.url, forgive=BROKEN)
    page.get_by_label("What to draw").fill("half written")
    running, deleted = studio.order(prompt="runs on"), studio.order(prompt="is deleted")
    studio.start(running)
    expect(page.locator("job-queue li")).to_have_count(2)
    page.context.set_offline(True)
    expect(page.get_by_text("No connection.")).to_be_visible()
    studio.finish(running, 1)
    httpx.delete(f"{studio.url}/v1/jobs/{deleted}")
    page.context.set_offline(False)
    expect(page.get_by_text("Live")).to_be_visible()
    expect(page.locator(".tile", has_text="runs on")).to_have_count(1)
    expect(page.locator("job-queue li", has_text="is deleted")).to_have_count(0)
    expect(page.locator("job-queue li", has_text="runs on")).to_contain_text("Done")
    expect(page.get_by_label("What to draw")).to_have_value("half written")


def test_a_laptop_that_slept_asks_what_it_missed(studio: Studio, visit: Open) -> None:
    """Its connection looks open when it wakes, and nothing will ever come of it."""
    page = visit("about:blank", forgive=BROKEN)
    page.clock.install()
    page.goto(studio.url)
    running = studio.order(prompt="ends meanwhile")
    studio.start(running)
    expect(page.locator("job-queue li")).to_have_count(1)
    page.locator("[data-scroller]").evaluate("globalThis.same = true")
    asleep = [True]
    page.route("**/v1/events*", lambda route: route.abort() if asleep[0] else route.continue_())
    with page.expect_request("**/v1/events*"):
        page.clock.fast_forward(8 * 3_600_000)
    expect(page.get_by_text("No connection.")).to_be_visible()
    studio.finish(running, 1)
    asleep[0] = False
    expect(page.get_by_text("Live")).to_be_visible()
    expect(page.locator(".tile", has_text="ends meanwhile")).to_have_count(1)
    assert page.evaluate("same")


def test_views_that_could_not_be_loaded_are_loaded_again(studio: Studio, visit: Open) -> None:
    studio.drawn(1)
    page = visit("about:blank", forgive=BROKEN)
    page.route("**/stage.js", lambda route: route.abort(), times=1)
    with page.expect_event("requestfailed"):
        page.goto(studio.url)
    page.locator(".tile").click()
    expect(page.get_by_label("Recipe")).to_be_visible()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Site]:
    """A service that a test can take away, and bring back on the same port."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(World(tmp_path)) as world,
    ):
        yield Site(portal, world, LocalTransport(world), "")


def test_a_service_that_is_killed_and_comes_back(mortal: Site, visit: Open) -> None:
    transport = mortal.transport

    def serve(port: int = 0) -> AbstractContextManager[str]:
        app = make_app(transport)
        return mortal.portal.wrap_async_context_manager(served(app, port, killed=True))

    with serve() as url:
        studio = Studio(Site(mortal.portal, mortal.world, transport, url))
        page = visit(url, forgive=(*BROKEN, "503"))
        shown = studio.drawn(1, prompt="was there")
        running = studio.order(prompt="survives")
        studio.start(running)
        expect(page.locator("job-queue li", has_text="survives")).to_have_count(1)
        expect(page.locator(".tile")).to_have_count(1)
        port = urlsplit(url).port
        assert port
    expect(page.get_by_text("No connection.")).to_be_visible()
    mortal.portal.call(transport.restart)  # the registry too: all revisions begin anew
    page.get_by_label("What to draw").fill("ordered while it was away")
    page.get_by_label("What to draw").press("Control+Enter")
    with serve(port):
        expect(page.get_by_text("Live")).to_be_visible()
        expect(page.locator("job-queue li", has_text="ordered while it was away")).to_have_count(1)
        studio.finish(running, 2, fence=2)
        expect(page.locator(".tile", has_text="survives")).to_have_count(1)
        was_there = page.locator(".tile", has_text="was there")
        assert was_there.get_attribute("data-job") == shown
        jobs = httpx.get(f"{url}/v1/jobs").json()["results"]
        assert [job["request"]["prompt"] for job in jobs].count("ordered while it was away") == 1
