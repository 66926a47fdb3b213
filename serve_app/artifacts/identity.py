"""The id of an output folder: two processes that read the same one see the same folder, on whatever node.

Knows one small file in the folder; nothing of what else is stored there.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

NAME = ".folder-id"
"""A hidden file is never served."""


def identity_of(root: Path) -> str:
    """Empty: the folder is not there, cannot be read, or has no id yet."""
    try:
        return (root / NAME).read_text().strip()
    except OSError:
        return ""


def identify(root: Path, known: str = "") -> str:
    """The folder's id, which it gets now if it has none: `known`, or a new one. Raises OSError."""
    if found := identity_of(root):
        return found
    temporary = root / f"{NAME}.{uuid.uuid4().hex}"
    try:
        with temporary.open("x") as file:
            file.write((known or uuid.uuid4().hex) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # somebody else was faster
            (root / NAME).hardlink_to(temporary)
    finally:
        temporary.unlink(missing_ok=True)
    return (root / NAME).read_text().strip()
