"""When HAProxy is put in front of the service, and that two services on a machine do not share its files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.tools import haproxy

CONFIG: dict[str, Any] = {
    "http_options": {"host": "0.0.0.0", "port": 8000},
    "applications": [
        {"name": "assets", "import_path": "serve_app.app:build", "args": {"api_keys_file": "keys"}}
    ],
}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ray's variables of this process come back after the test."""
    for name in list(os.environ):
        if name.startswith("RAY_SERVE_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def put(folder: Path, **changes: Any) -> dict[str, str]:
    """Serve's variables afterwards."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG | changes))
    haproxy.put_in_front(path)
    return {name: value for name, value in os.environ.items() if name.startswith("RAY_SERVE_")}


def test_it_stands_before_a_service_that_is_open_and_asks_for_keys(tmp_path: Path) -> None:
    assert put(tmp_path)[haproxy.SWITCH] == "1"


@pytest.mark.parametrize(
    "changes",
    [
        {"http_options": {"host": "127.0.0.1"}},
        {"http_options": {"host": "localhost"}},
        {"http_options": {}},
        {"applications": [{"name": "assets", "args": {}}]},
        {"applications": [{"name": "assets"}]},
        {"applications": [{"name": "assets", "args": {"api_keys_file": "keys", "slots": "many"}}]},
        {"applications": "nonsense"},
        {"http_options": None},
    ],
)
def test_anything_else_is_left_as_it_is(tmp_path: Path, changes: dict[str, Any]) -> None:
    """A laptop, one without keys, and a config that is wrong, which the check will say."""
    assert put(tmp_path, **changes) == {}


def test_who_sets_the_switch_decides(tmp_path: Path) -> None:
    os.environ[haproxy.SWITCH] = "0"
    assert put(tmp_path) == {haproxy.SWITCH: "0"}


def test_two_services_share_nothing(tmp_path: Path) -> None:
    """But what their operator sets."""
    os.environ["RAY_SERVE_HAPROXY_STATS_PORT"] = "8404"
    first = put(tmp_path)
    assert first["RAY_SERVE_HAPROXY_STATS_PORT"] == "8404"
    for name in first:
        del os.environ[name]
    second = put(tmp_path)
    files = [name for name, value in first.items() if value.startswith("/")]
    assert len(files) == 4
    assert all(first[name] != second[name] for name in files)
