"""driver_of(): the driver that draws with the parts of a checkpoint, by its family.

Knows families; imports only the driver that is needed, since each brings pipelines along.
"""

from __future__ import annotations

from serve_app.catalog.families import UNETS
from serve_app.engine.model.driver import Driver
from serve_app.engine.model.loading import ModelParts


def driver_of(parts: ModelParts) -> Driver:
    if parts.spec.family == "any":
        from serve_app.engine.model.pipeline_runner import PipelineRunner

        return PipelineRunner(parts)
    if parts.spec.family in UNETS:
        from serve_app.engine.model.model_runner import ModelRunner

        return ModelRunner(parts)
    from serve_app.engine.model.dit.runner import TransformerRunner

    return TransformerRunner(parts)
