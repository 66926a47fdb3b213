"""derive: the body of jobs that finish pictures which exist. Image i is made of source i.

Knows where sources are; what effects do is in `finishing/`.
"""

from __future__ import annotations

from serve_app.messages import ImageFile
from serve_app.params import DeriveParams
from serve_app.tasks.assets import asset_of
from serve_app.tasks.reproduction import compared
from serve_app.tasks.work import Work


def derive(work: Work) -> list[ImageFile]:
    """Raises SourceMissing, EffectFailed, StorageFailed."""
    params = DeriveParams.model_validate(work.params)
    images: list[ImageFile] = []
    for index, source in enumerate(params.sources):
        work.step("finishing", index, len(params.sources))
        data = work.read(source.path, source.sha256)
        origin = {"job_id": source.job_id, "index": source.index, "sha256": source.sha256}
        image = asset_of(data, params.effects, params.format, origin, work.weights)
        images.append(image.store(work, index, source.seed, original=source.path))
    return compared(work, images, params.reproduces) if params.reproduces else images
