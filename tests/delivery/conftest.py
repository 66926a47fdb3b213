"""What reads our files in the tests: npm and PyPI packages fetched once, Debian's as they are.

Whatever is missing fails the test that needs it: a reader that is skipped has read nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

READERS = Path(__file__).parent / "readers"
TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".html": "text/html",
         ".json": "application/json", ".css": "text/css", ".png": "image/png"}  # fmt: skip
FLAGS = [
    "--no-sandbox",  # CI is root
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

Outside = Callable[..., str]
Visit = Callable[[str, Mapping[str, bytes]], Page]


OUTSIDE = {"npm", "pypi", "outside", "visit"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs a reader that is not in the test extra runs with the browser's tests."""
    for item in items:
        if OUTSIDE & set(getattr(item, "fixturenames", ())):
            item.add_marker("browser")


def program(name: str, package: str) -> str:
    """Path of a Debian package's program."""
    found = shutil.which(name)
    assert found, f"{name} is not installed: run tests/delivery/install.sh (Debian's {package})"
    return found


@pytest.fixture(scope="session")
def npm(pytestconfig: pytest.Config) -> Path:
    """The folder node_modules with what readers/package.json names."""
    wanted = (READERS / "package.json").read_text()
    folder = pytestconfig.cache.mkdir("delivery-npm")
    done = folder / "installed.json"  # written last: an install that was cut is done again
    if not done.exists() or done.read_text() != wanted:
        (folder / "package.json").write_text(wanted)
        flags = ["--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund"]
        _run([program("npm", "npm"), "install", *flags, "--prefix", str(folder)])
        done.write_text(wanted)
    return folder / "node_modules"


@pytest.fixture(scope="session")
def pypi(pytestconfig: pytest.Config) -> Path:
    """A folder for PYTHONPATH with what readers/requirements.txt names."""
    wanted = (READERS / "requirements.txt").read_text()
    folder = pytestconfig.cache.mkdir("delivery-pypi")
    done = folder / "installed.txt"
    if not done.exists() or done.read_text() != wanted:
        flags = ["--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade"]
        file = str(READERS / "requirements.txt")
        _run([sys.executable, "-m", "pip", "install", *flags, "--target", str(folder), "-r", file])
        done.write_text(wanted)
    return folder


@pytest.fixture(scope="session")
def outside(pypi: Path) -> Outside:
    """`outside(code, *arguments)` runs Python that sees the packages of `pypi`, and returns its
    output."""

    def run(code: str, *arguments: str) -> str:
        return _run([sys.executable, "-c", code, *arguments], PYTHONPATH=str(pypi))

    return run


def _run(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    """Of a module, not of the session: while it is open, its thread runs no other event loop."""
    with sync_playwright() as playwright:
        chromium = program("chromium", "chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser.new_page()
        browser.close()


@pytest.fixture
def visit(tab: Page, npm: Path) -> Iterator[Visit]:
    """`visit("pixi.html", files)` opens a page of readers/, which finds `files` beside it."""
    served: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            below = npm / path.removeprefix("npm/")
            if path in served:
                body = served[path]
            elif path.startswith("npm/") and below.is_file():
                body = below.read_bytes()
            else:
                self.send_error(404)
                return
            self.send_response(200)
            kind = TYPES.get(Path(path).suffix, "application/octet-stream")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()

    def open_page(name: str, files: Mapping[str, bytes]) -> Page:
        served.update(files)
        served[name] = (READERS / name).read_bytes()
        tab.goto(f"http://127.0.0.1:{server.server_port}/{name}")
        return tab

    yield open_page
    tab.goto("about:blank")  # closes what it still holds open here
    server.shutdown()
    thread.join()
    server.server_close()
