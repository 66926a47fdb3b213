"""A Ray that cannot start is told in one sentence, by whichever command starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

START = """
from serve_app.errors import NotServing
from serve_app.tools import own_ray

own_ray.prepare()
try:
    with own_ray.serving({"applications": []}, dashboard=False, told=lambda _: None):
        pass
except NotServing as error:
    print(error)
"""


def test_a_ray_that_does_not_start_is_one_sentence(tmp_path: Path) -> None:
    """Ray raises what comes, here for a folder whose name is longer than a socket's may be."""
    env = os.environ | {"RAY_TMPDIR": str(tmp_path / ("x" * 100))}
    command = [sys.executable, "-c", START]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True, timeout=120)
    assert done.stdout.startswith("Ray does not start: ")
    assert "AF_UNIX path length" in done.stdout
    assert "Traceback" not in done.stderr
