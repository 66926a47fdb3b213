"""Load: wrk (of Debian) with 16 connections in one thread, and what it reports. Knows nothing of services."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

CONNECTIONS = 16
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class Load(NamedTuple):
    """Answers in one round of load."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float


def load(
    url: str, seconds: float, *, headers: dict[str, str], body: dict[str, Any] | None, folder: Path
) -> Load:
    """GET `url`, or POST `body` there, as fast as it answers. Raises AssertionError unless all is 2xx."""
    script = folder / "wrk.lua"
    script.write_text("" if body is None else _posts(body))
    sent = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--latency"]
    told = subprocess.run(
        [*command, "-s", str(script), *sent, url], capture_output=True, text=True, check=True
    ).stdout
    assert "Non-2xx" not in told, told
    assert "Socket errors" not in told, told
    return Load(
        requests=int(_found(r"(\d+) requests in", told)[1]),
        per_second=float(_found(r"Requests/sec:\s+([\d.]+)", told)[1]),
        p50_ms=_milliseconds("50", told),
        p99_ms=_milliseconds("99", told),
    )


def _posts(body: dict[str, Any]) -> str:
    text = json.dumps(body).replace("'", "\\'")
    return (
        f"wrk.method = 'POST'\nwrk.body = '{text}'\n"
        "wrk.headers['Content-Type'] = 'application/json'\n"
    )


def _milliseconds(percent: str, told: str) -> float:
    match = _found(rf"\b{percent}%\s+([\d.]+)(us|ms|s)\b", told)
    return float(match[1]) * _UNITS[match[2]]


def _found(pattern: str, told: str) -> re.Match[str]:
    match = re.search(pattern, told)
    assert match is not None, told
    return match
