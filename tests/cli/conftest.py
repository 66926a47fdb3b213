"""The two servers that commands are given: the real service, and one of prepared answers."""

from __future__ import annotations

import functools
import threading
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from serve_app.client import Client
from tests.api.harness import Site, site
from tests.cli.harness import Talk, draw_all
from tests.scripted import Scripted


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client looks again at once where the server says "in a second": nothing is slow here."""
    pause = functools.partial(threading.Event().wait, 0.02)
    monkeypatch.setitem(Client.__init__.__kwdefaults__ or {}, "pause", lambda _: pause())


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Site]:
    """The service that `assets` talks to. Each job is drawn as soon as it is launched."""
    with site(tmp_path) as served:
        monkeypatch.setenv("ASSETS_SERVER", served.url)
        drawing = served.portal.start_task_soon(draw_all, served.world)
        yield served
        drawing.cancel()


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch) -> Talk:
    """Makes the server of the next command: it gives these answers in turn."""

    def start(*answers: httpx.Response | BaseException) -> Scripted:
        server = Scripted(*answers)
        client = functools.partial(Client, transport=server, pause=lambda _: None)
        monkeypatch.setattr("serve_app.cli.options.Client", client)
        return server

    return start
