"""The archive of a batch: its files and a manifest, as a ZIP that is made while it is sent.

Memory holds a piece of one file, some rows, and the names that are taken. Knows rows as the registry tells
them and files as `/output` serves them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from serve_app.api.output import FinishedFiles
from serve_app.api.threads import in_thread_to_its_end
from serve_app.artifacts.disk import is_gone
from serve_app.delivery.manifest import CHUNK, Manifest
from serve_app.delivery.names import readable_name
from serve_app.delivery.naming import NameTemplate
from serve_app.delivery.zip_stream import ZipStream
from serve_app.messages import BatchRowView, BatchView, ImageFile, JobView


class Stored(NamedTuple):
    """A file of an image that goes into the archive."""

    path: str  # below output/
    suffix: str  # of its name in the archive
    sha256: str
    size_bytes: int


async def archive(
    batch: BatchView,
    rows: AsyncIterator[BatchRowView],
    files: FinishedFiles,
    names: NameTemplate,
    *,
    originals: bool,
) -> AsyncGenerator[bytes]:
    """The bytes of the ZIP. `originals`: pictures as they were drawn, too, where effects made others of them.
    A file that is not there any more is a row of the manifest that says so."""
    zipped = ZipStream()
    with Manifest(_about(batch)) as manifest:
        await in_thread_to_its_end(manifest.open)
        async for row in rows:
            for cells, stored in _files_of(row, originals=originals):
                if stored is None:
                    manifest.add(**cells)
                    continue
                path = names.name(_values(row, cells), stored.suffix)
                with closing(pieces_of(files, stored.path)) as pieces:
                    try:
                        piece = await in_thread_to_its_end(next, pieces, None)
                    except OSError as error:
                        if not is_gone(error):
                            raise  # an archive that breaks off is better than one that lacks a file
                        manifest.add(
                            **cells, code="source_missing", error="This file is not there any more."
                        )
                        continue
                    manifest.add(
                        **cells, file=path, sha256=stored.sha256, size_bytes=stored.size_bytes
                    )
                    with zipped.member(path, datetime.now(UTC)) as member:
                        while piece is not None:
                            member.write(piece)
                            if zipped.waiting >= CHUNK:
                                yield zipped.take()
                            # A piece that is not full was the last one: no need to ask again in a thread.
                            full = len(piece) == CHUNK
                            piece = await in_thread_to_its_end(next, pieces, None) if full else None
        for name, pieces in manifest.parts():
            with zipped.member(name, datetime.now(UTC)) as member:
                for piece in pieces:
                    member.write(piece)
                    yield zipped.take()
    zipped.close()
    yield zipped.take()


def pieces_of(files: FinishedFiles, path: str) -> Generator[bytes]:
    """The file in pieces of CHUNK bytes, the last one smaller. Raises OSError."""
    with files.open(path) as file:
        while piece := file.read(CHUNK):
            yield piece


def _about(batch: BatchView) -> dict[str, Any]:
    return {
        "schema": 1,
        "batch_id": batch["batch_id"],
        "name": batch["name"] or None,
        "status": batch["status"],
        "size": batch["size"],
        "counts": batch["counts"],
    }


def _files_of(
    row: BatchRowView, *, originals: bool
) -> Iterator[tuple[dict[str, Any], Stored | None]]:
    """Cells of the manifest for each file of the row; a row without files has one line of them."""
    job = row["job"]
    cells: dict[str, Any] = {"row": row["row"], "name": row["name"], "reused": row["reused"]}
    if job is None:
        yield cells | {"status": "DELETED"}, None
        return
    params = job["params"]
    cells |= {
        "status": job["status"],
        "prompt": params.get("subject") or params.get("prompt"),
        "negative_prompt": params.get("subject_negative"),
        "style_id": job["summary"]["style_id"],
        "model": job["summary"]["model"],
        "job_id": job["job_id"],
    }
    if row["status"] == "REVOKED" and job["status"] != "REVOKED":  # it was left to another batch
        cells |= {"status": "REVOKED", "code": "cancelled", "seed": job["summary"]["seed"]}
        yield cells, None
        return
    if job["error"] is not None:
        cells |= {"code": job["error"]["code"], "error": job["error"]["detail"]}
    if not job["images"]:
        yield cells | {"seed": job["summary"]["seed"]}, None
    for image in sorted(job["images"], key=lambda image: image["index"]):
        drawn = {name: image[name] for name in ("seed", "width", "height")}
        for stored in _stored(job, image, originals=originals):
            yield cells | drawn, stored


def _stored(job: JobView, image: ImageFile, *, originals: bool) -> Iterator[Stored]:
    """The image's main file, and the others: a normal map, and the original if it is wanted."""
    number = f"_{image['index']}" if len(job["images"]) > 1 else ""
    end = PurePosixPath(image["path"]).suffix
    yield Stored(image["path"], f"{number}{end}", image["sha256"], image["size_bytes"])
    for file in image.get("files", []):
        if file["path"] != image["path"] and (originals or file["role"] != "original"):
            end = PurePosixPath(file["path"]).suffix
            suffix = f"{number}_{file['role']}{end}"
            yield Stored(file["path"], suffix, file["sha256"], file["size_bytes"])


def _values(row: BatchRowView, cells: dict[str, Any]) -> dict[str, object]:
    """What a template of names may say of a file."""
    job = row["job"]
    assert job is not None
    prompt = cells["prompt"] or ""
    return {
        "row": row["row"],
        "name": row["name"] or readable_name(prompt, cells["seed"]),
        "prompt": prompt[:48],
        "style": cells["style_id"],
        "seed": cells["seed"],
        "index": cells["seed"] - job["summary"]["seed"],
        "job": job["job_id"],
        "model": cells["model"],
    }
