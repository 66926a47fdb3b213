"""Journal: what happened, one JSON object a line, on disk at once: a run that is cut short still tells.

Knows nothing of what is written.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any


class Journal:
    """Shared by threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1)
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def write(self, what: str, **facts: Any) -> None:
        at = round(time.monotonic() - self._began, 2)
        with self._lock:
            self._file.write(json.dumps({"at": at, "what": what, **facts}, default=str) + "\n")

    def close(self) -> None:
        self._file.close()
