"""Which process is interrupted when there is nothing to serve. The real one: `test_cli.py`."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.cluster import serve_run

OURS = {
    "JobID": "01000000",
    "DriverIPAddress": "10.0.0.1",
    "DriverPid": 4711,
    "IsDead": False,
    "Entrypoint": "/srv/.venv/bin/python /srv/.venv/bin/serve run serve_config.yaml",
}


class Context:
    def get_job_id(self) -> str:
        return "01000000"


@pytest.mark.parametrize(
    ("changed", "driver"),
    [
        ({}, 4711),
        ({"Entrypoint": "serve run --address 10.0.0.1:6379 serve_config.yaml"}, 4711),
        ({"IsDead": True}, None),  # its number may be another process's by now
        ({"JobID": "02000000"}, None),
        ({"DriverIPAddress": "10.0.0.2"}, None),
        ({"Entrypoint": "/srv/.venv/bin/python /srv/.venv/bin/assets run"}, None),
        ({"Entrypoint": "/srv/.venv/bin/python dashboard/dashboard.py"}, None),
    ],
)
def test_only_the_serve_run_of_this_serve_is_ended(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], driver: int | None
) -> None:
    monkeypatch.setattr(serve_run.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(serve_run.ray, "get_runtime_context", Context)
    monkeypatch.setattr(serve_run.ray.util, "get_node_ip_address", lambda: "10.0.0.1")
    monkeypatch.setattr(serve_run.state, "jobs", lambda: [OURS | changed])
    assert serve_run._driver() == driver
