"""Files that are written once, into folders below one root, and never through a link.

Knows descriptors and what the disk may refuse; nothing of names, nor of what is stored.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

_GONE = {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EACCES}
_REASONS = {  # in a client's words
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "the service may not write there",
    errno.EEXIST: "this image is stored already",
    errno.ELOOP: "a folder on the way is a link, and nothing is served through a link",
    errno.ENOTDIR: "a file is where its folder should be",
}


def put_once(root: Path, folder: str, final: str, temporary: str, data: bytes) -> None:
    """A new file in a folder below `root`, which is made if it is missing. File and name are on disk when it
    returns. Raises OSError, and leaves nothing then."""
    if not os.path.lexists(root / folder):
        (root / folder).mkdir(parents=True, exist_ok=True)
        _sync_directory(root)
    with opened(root, folder) as descriptor:
        try:
            with open(temporary, "xb", opener=_to_write(descriptor)) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # A rename would replace an existing file.
            os.link(temporary, final, src_dir_fd=descriptor, dst_dir_fd=descriptor)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=descriptor)
        try:
            os.fsync(descriptor)  # a new file name is on disk only after its directory was synced
        except OSError:
            os.unlink(final, dir_fd=descriptor)
            raise


@contextmanager
def opened(root: Path, folder: str) -> Generator[int]:
    """A descriptor of the folder. Operations relative to it follow no link, not even one that is made after
    this check. Raises OSError: ELOOP if the folder is a link, ENOTDIR if it is a file."""
    path = root / folder
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except NotADirectoryError as error:  # Linux raises this for a link, too
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link") from error
        raise
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def to_read(folder: int) -> Callable[[str, int], int]:
    """An opener of files in the folder of this descriptor. A link is an OSError."""
    return lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)


def is_gone(error: OSError) -> bool:
    """There is nothing to be read, and there will not be. Anything else may be mended."""
    return isinstance(error, FileNotFoundError) or error.errno in _GONE


def why(error: OSError) -> str:
    """For clients: it names no path."""
    return _REASONS.get(error.errno or 0, error.strerror or "unknown reason")


def _to_write(folder: int) -> Callable[[str, int], int]:
    return lambda name, flags: os.open(name, flags, 0o666, dir_fd=folder)


def _sync_directory(path: Path) -> None:
    """A new folder, like a new file, is on disk only after the directory above it was synced."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
