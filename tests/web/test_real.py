"""The page before the whole product: Ray, the starter model, and an ingress that is killed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.cluster.service import Service
from tests.web.conftest import Open

pytestmark = pytest.mark.browser

PATIENCE_MS = 60_000
BROKEN = ("Failed to load resource", "net::ERR", "Failed to fetch")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    try:
        yield service.start()
    finally:
        service.stop()


def test_a_picture_is_drawn_watched_and_kept_while_the_ingress_dies(
    service: Service, visit: Open
) -> None:
    page = visit(f"http://127.0.0.1:{service.port}", forgive=BROKEN)
    page.evaluate("globalThis.same = true")
    page.get_by_label("What to draw").fill("a golden key")
    page.get_by_role("radio", name="Icon", exact=True).check(force=True)
    page.get_by_label("What to draw").press("Control+Enter")
    jobs = page.locator("job-queue li")
    forming = jobs.get_by_role("img", name=re.compile("Forming"))
    expect(forming).to_be_visible(timeout=PATIENCE_MS)
    expect(jobs).to_contain_text("Done", timeout=PATIENCE_MS)
    tiles = page.locator(".tile")
    expect(tiles).to_have_count(1)

    page.get_by_text("More settings").click()
    page.get_by_label("Steps").fill("100")
    page.get_by_label("What to draw").fill("a wooden shield")
    page.get_by_label("What to draw").press("Control+Enter")
    shield = jobs.filter(has_text="a wooden shield")
    expect(shield).to_contain_text("Step", timeout=PATIENCE_MS)
    service.kill("ray::ServeReplica:assets:Ingress")
    expect(page.get_by_text("No connection.")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text("Live")).to_be_visible(timeout=PATIENCE_MS)
    expect(tiles).to_have_count(2, timeout=PATIENCE_MS)
    tiles.first.click()
    image = page.get_by_role("dialog").get_by_role("img", name=re.compile("a wooden shield, seed"))
    expect(image).to_be_visible()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth > 32)")
    expect(page.get_by_label("Recipe")).to_contain_text("100")
    assert page.evaluate("same"), "the page was never loaded again"
