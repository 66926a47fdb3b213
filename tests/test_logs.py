"""Lines of the log are JSON, from the process's first message on."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

SCRIPT = """
import logging
from serve_app import logs

logs.configure()
logs.configure()
log = logging.getLogger("assets.engine")
log.info("warm after %d s", 3, extra={"job_id": "j1"})
try:
    raise KeyError("x")
except KeyError:
    log.exception("it failed")
"""


def test_loggers_below_assets_write_one_json_object_a_line() -> None:
    """INFO too, and once, however often it is configured. In a new process, as a worker of Ray's is."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["INFO", "ERROR"]
    assert lines[0] | {"time": ""} == {
        "time": "",
        "level": "INFO",
        "logger": "assets.engine",
        "message": "warm after 3 s",
        "job_id": "j1",
    }
    assert lines[1]["exception"].endswith("KeyError: 'x'")
