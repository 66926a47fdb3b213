"""reason: the one sentence that matters in the message of a failed deployment.

Knows how Ray and Python print errors; nothing of what they mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ERROR = re.compile(
    r"^(?:[A-Za-z_][\w.]*\.)?([A-Z]\w*(?:Error|Exception|Failed|Held|Unavailable)): ?"
)
FAILED = ("DEPLOY_FAILED", "UNHEALTHY")
LONGEST = 2000  # characters


def reason(message: str) -> str:
    """What the last error of a traceback says, without the traceback; all of a message that has none."""
    lines = COLOUR.sub("", message).strip().splitlines()
    starts = [number for number, line in enumerate(lines) if ERROR.match(line)]
    if not starts:
        return "\n".join(lines)[:LONGEST]
    told = [ERROR.sub("", lines[starts[-1]])]
    for line in lines[starts[-1] + 1 :]:
        if not line.strip() or line.startswith(("Traceback", "During handling", "The above")):
            break
        told.append(line)
    return "\n".join(told)[:LONGEST]


def why_failed(app: Mapping[str, Any]) -> str:
    """`app`: an application as Serve's status tells it, with `message` and `deployments`. The replica that
    failed knows more than the application, whose message names it only."""
    parts: Iterable[Mapping[str, Any]] = app["deployments"].values()
    for message in [*(p["message"] for p in parts if p["status"] in FAILED), app["message"]]:
        if message.strip():
            return reason(message)
    return "Serve does not say why; its logs do"
