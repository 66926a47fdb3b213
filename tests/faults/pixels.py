"""The pixels of finished jobs, and the pixels they must have: each motif drawn alone, without faults.

Knows nothing of faults, nor of what is promised: `check` compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.cluster.service import Service

from .orders import Motif, motifs
from .receipt import Job

Pixels = list[np.ndarray[Any, np.dtype[np.int16]]]
"""One array (height, width, channel) an image; signed, so that differences do not wrap around."""


def pixels(output: Path, job: Job) -> Pixels:
    return [_load(output / path) for path in published(job)]


def published(job: Job) -> list[str]:
    """Paths of its files below output/, by index."""
    return [image["url"].removeprefix("/output/") for image in job["images"]]


def references(service: Service) -> dict[Motif, Pixels]:
    drawn: dict[Motif, Pixels] = {}
    for motif in motifs():
        job = service.result(service.submit(**motif.body()))
        assert job["status"] == "SUCCESS", job
        drawn[motif] = pixels(service.output, job)
    return drawn


def levels_apart(one: Pixels, other: Pixels) -> int:
    """The largest difference of any channel of any pixel; 255 if their shapes differ."""
    if [image.shape for image in one] != [image.shape for image in other]:
        return 255
    return max(int(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def _load(path: Path) -> np.ndarray[Any, np.dtype[np.int16]]:
    with Image.open(path) as image:
        return np.asarray(image).astype(np.int16)
