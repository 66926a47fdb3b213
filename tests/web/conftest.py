"""The page as people see it: Debian's Chromium before the real app, on a registry whose attempts tests steer.

Every test ends with a look at what the browser complained about: a script that was refused, an error, a file
that was not there.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.api.harness import Site, site
from tests.delivery.conftest import FLAGS, program
from tests.web.studio import Studio

PACKAGES = Path(__file__).parent / "package.json"
DESKTOP = {"width": 1440, "height": 900}

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Of a module, not of the session: while it is open, its thread runs no other event loop."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program("chromium", "chromium"), args=FLAGS
        )
        yield browser
        browser.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as found:
        yield found


@pytest.fixture
def studio(place: Site) -> Studio:
    return Studio(place)


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Open]:
    """`visit(url)` opens the page in a browser profile of its own. `forgive`: complaints that the test means
    to cause."""
    complaints: list[str] = []
    contexts = []

    def visit(url: str, *, forgive: tuple[str, ...] = (), **options: object) -> Page:
        context = chromium.new_context(**{"viewport": DESKTOP, **options})  # pyright: ignore[reportArgumentType]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)

        def complain(text: str) -> None:
            if not any(part in text for part in forgive):
                complaints.append(text)

        page.on("console", lambda said: complain(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complain(str(error)))
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def axe(pytestconfig: pytest.Config) -> Path:
    """The script of axe-core, which looks for what shuts people out."""
    wanted = PACKAGES.read_text()
    folder = pytestconfig.cache.mkdir("web-npm")
    done = folder / "installed.json"  # written last: an install that was cut is done again
    if not done.exists() or done.read_text() != wanted:
        (folder / "package.json").write_text(wanted)
        flags = ["--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run([program("npm", "npm"), "install", *flags, "--prefix", folder], check=True)
        done.write_text(wanted)
    return folder / "node_modules/axe-core/axe.min.js"
