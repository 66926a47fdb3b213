"""The pixels of finished jobs, and the pixels they must have: each motif drawn alone, without faults.

Knows nothing of faults, nor of what is promised: `check` compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.cluster.service import Service

from .orders import SOURCE_IMAGES, Motif, motifs
from .receipt import Job

Pixels = list[np.ndarray[Any, np.dtype[np.int16]]]
"""One array (height, width, channel) an image; signed, so that differences do not wrap around."""


def pixels(output: Path, job: Job) -> Pixels:
    """Of each image's result."""
    return [_load(output / _path(image["url"])) for image in job["images"]]


def published(job: Job) -> dict[str, str]:
    """Every file of its images, as a path below output/, with the SHA-256 that it was published with. Of a
    derived image the original is another job's."""
    return {
        _path(file["url"]): file["sha256"]
        for image in job["images"]
        for file in (image, *image.get("files", ()))
    }


def references(service: Service) -> tuple[str, dict[Motif, Pixels]]:
    """The job whose pictures are derived and packed, and what every motif must look like."""
    source = service.result(
        service.submit(prompt="a blue shield", steps=4, n=SOURCE_IMAGES, seed=3)
    )
    drawn: dict[Motif, Pixels] = {}
    for motif in motifs():
        path, body = motif.path(source["job_id"]), motif.body(source["job_id"])
        reply = service.http.post(path, json=body)
        assert reply.status_code == 202, reply.text
        job = service.result(reply.json()["job_id"])
        assert job["status"] == "SUCCESS", job
        drawn[motif] = pixels(service.output, job)
    return source["job_id"], drawn


def _path(url: str) -> str:
    return url.removeprefix("/output/")


def levels_apart(one: Pixels, other: Pixels) -> int:
    """The largest difference of any channel of any pixel; 255 if their shapes differ."""
    if [image.shape for image in one] != [image.shape for image in other]:
        return 255
    return max(int(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def _load(path: Path) -> np.ndarray[Any, np.dtype[np.int16]]:
    with Image.open(path) as image:
        return np.asarray(image).astype(np.int16)
