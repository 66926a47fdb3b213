"""Every logger of the project is below `assets`, so `configure` turns all its lines into JSON."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import serve_app

PACKAGE = Path(serve_app.__file__).parent

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


def logger_names(path: Path) -> list[str]:
    """The source text of the argument of every `getLogger` in a module."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [
        ast.unparse(call.args[0])
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "getLogger" and call.args
    ]


def test_every_logger_is_below_assets() -> None:
    """A logger called `__name__` would write plain text, and nothing of level INFO."""
    names = {
        (str(path.relative_to(PACKAGE)), name)
        for path in PACKAGE.rglob("*.py")
        for name in logger_names(path)
    }
    others = {(path, name) for path, name in names if not name.startswith(("'assets.", "'assets'"))}
    assert others == {("engine/model/loading.py", "name")}  # it silences those of diffusers
    assert ("engine/engine.py", "'assets.engine'") in names
