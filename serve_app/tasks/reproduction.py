"""Reproduction: images that were made again, compared with those that an earlier job published.

Knows files and what their records say; nothing of how either was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serve_app.artifacts.comparison import difference, record_of, what_changed
from serve_app.errors import SourceMissing
from serve_app.messages import ImageFile, Prints
from serve_app.params import Published
from serve_app.tasks.work import Work

_WORST = ("differs", "unavailable", "exact")


def compared(
    work: Work, images: Sequence[ImageFile], published: Sequence[Published]
) -> list[ImageFile]:
    """The images, each with its `reproduction`. What was published and not made again is not spoken of."""
    earlier = {one.index: one for one in published}
    return [
        {**image, "reproduction": _compared(work, image, earlier.get(image["index"]))}
        for image in images
    ]


def _compared(work: Work, image: ImageFile, earlier: Published | None) -> dict[str, Any]:
    if earlier is None:
        return {"match": "unavailable", "files": [], "reasons": ["not_published: no such image"]}
    files = [
        _one(
            work,
            "result",
            image["path"],
            image,
            earlier.path,
            earlier.sha256,
            earlier.pixels_sha256,
        )
    ]
    drawn = {file["role"]: file for file in image.get("files", [])}.get("original")
    if drawn is not None and earlier.original and drawn["path"] != image["path"]:
        before = earlier.original, earlier.original_sha256, earlier.original_pixels_sha256
        files.insert(0, _one(work, "original", drawn["path"], drawn, *before))
    reasons = dict.fromkeys(reason for file in files for reason in file.pop("reasons"))
    return {
        "job_id": earlier.job_id,
        "index": earlier.index,
        "match": min((file["match"] for file in files), key=_WORST.index),
        "files": files,
        "reasons": list(reasons),
    }


def _one(
    work: Work, role: str, path: str, prints: Prints, before: str, sha256: str, pixels_sha256: str
) -> dict[str, Any]:
    """The file at `path` beside the one that it makes again, at `before`."""
    if pixels_sha256 and prints.get("pixels_sha256") == pixels_sha256:
        return _answer(role, "exact", [])
    made = work.read_own(path)
    try:
        was = work.read(before, sha256)
    except SourceMissing as error:
        match = "differs" if pixels_sha256 else "unavailable"
        return _answer(role, match, [f"file_gone: {error.detail}"])
    changed = what_changed(record_of(was), record_of(made))
    try:
        apart = difference(was, made)
    except ValueError as error:
        return _answer(role, "differs", [*changed, f"other_size: {error}"])
    if apart is None:
        return _answer(role, "exact", [])
    left, top, width, height = apart.box
    return {
        **_answer(role, "differs", changed),
        "max_difference": apart.levels,
        "differing": round(apart.share, 6),
        "where": {"x": left, "y": top, "width": width, "height": height},
    }


def _answer(role: str, match: str, reasons: Sequence[str]) -> dict[str, Any]:
    return {"role": role, "match": match, "reasons": list(reasons)}
