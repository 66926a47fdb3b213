"""A text file that somebody wrote by hand: read whole, and called by a short name in messages.

Knows UTF-8 and paths; nothing of what the text says.
"""

from __future__ import annotations

from pathlib import Path

from serve_app.config import PROJECT_ROOT
from serve_app.errors import ConfigError


def read_text(path: Path) -> str:
    """Raises ConfigError, with the line where there is one, if the file cannot be read or is not UTF-8. A
    byte order mark, which some editors write, is dropped."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{shown(path)}: cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{shown(path)}:{line}: not UTF-8: save it as UTF-8") from error


def shown(path: Path) -> str:
    """The path relative to the project root if it is below that, else as it is."""
    absolute = path.absolute()
    return str(
        absolute.relative_to(PROJECT_ROOT) if absolute.is_relative_to(PROJECT_ROOT) else path
    )
