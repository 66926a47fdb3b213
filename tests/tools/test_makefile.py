"""`make` says what it does while it installs, which takes minutes."""

from __future__ import annotations

import os
import subprocess

from serve_app.config import PROJECT_ROOT


def test_installing_is_not_silent() -> None:
    """What `make demo` would run with nothing installed. (`make test` tells a make within of itself.)"""
    of_its_own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "demo"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=of_its_own,
    )
    first, *others = done.stdout.splitlines()
    assert first.startswith('echo "Installing')
    (install,) = [line for line in others if "pip install" in line]
    assert "-q" not in install
