"""A tiny real checkpoint on disk, and a service that draws with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .service import Service

MODELS = """
default: tiny
models:
  tiny:
    family: sd
    path: {path}
    native_size: [32, 32]
    sizes: [[32, 32], [64, 64]]
    token_limit: 16
    steps: 4
    max_steps: 1000
    guidance_scale: 5.0
    schedulers: [ddim, euler]
    threads: 1
    controls: {edges: {path: {path}/controls/edges, prepare: canny}}
"""
STYLES = """
styles:
  icon:
    title: Icon
    template: "{prompt} icon"
    negative_prompt: blurry
    defaults: {steps: 3}
"""


def write_files(directory: Path) -> dict[str, Any]:
    """Settings that point at a tiny checkpoint and at styles of its own."""
    from tests.engine.tiny import controlnet, pipeline

    directory.mkdir(parents=True, exist_ok=True)
    pipe = pipeline()
    pipe.save_pretrained(directory / "model")
    controlnet(pipe.unet).save_pretrained(directory / "model" / "controls" / "edges")
    (directory / "models.yaml").write_text(MODELS.replace("{path}", str(directory / "model")))
    (directory / "styles.yaml").write_text(STYLES)
    return {
        "models_file": str(directory / "models.yaml"),
        "styles_file": str(directory / "styles.yaml"),
        "slots": 2,
        "max_images": 64,
        "dialects": ["openai", "a1111"],
    }


@pytest.fixture(scope="session")
def tiny_settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_files(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def shared(
    tmp_path_factory: pytest.TempPathFactory, tiny_settings: dict[str, Any]
) -> Iterator[Service]:
    """One running service, shared by all tests that break nothing of it."""
    service = Service(tmp_path_factory.mktemp("shared"), tiny_settings)
    try:
        yield service.start()
    finally:
        service.stop()
