"""build(): a spec and a directory become a warm engine; nothing before that imports torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import serve_app.engine
from serve_app.engine import build
from serve_app.errors import ModelError
from tests.engine import tiny
from tests.engine.harness import image_of, render

FOLDER = Path(serve_app.engine.__file__).parent
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


async def test_a_checkpoint_becomes_an_engine_that_renders(tmp_path: Path) -> None:
    """Its cost table is measured, and `stats` says how long each part of the start took."""
    tiny.save(tiny.pipeline(), tmp_path / "tiny")
    engine = build.build(tiny.spec(max_rows=4), tmp_path, device="cpu")
    engine.start()
    try:
        events = await render(engine)
    finally:
        await engine.close()
    assert events[0]["kind"] == "admitted"
    assert image_of(events).shape == (tiny.SIZE, tiny.SIZE, 3)
    stats = engine.stats()
    assert set(stats["start_up"]) == {"import_s", "load_s", "warm_up_s"}
    assert stats["start_up"]["warm_up_s"] > 0
    assert set(stats["costs_ms"]["32x32"]) >= {1, 2, 4}


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    """With an error that says what is missing, and names no directory of this machine."""
    with pytest.raises(ModelError, match="'tiny'") as caught:
        build.build(tiny.spec(), tmp_path)
    assert str(tmp_path) not in caught.value.detail


@pytest.mark.parametrize("module", MODULES)
def test_only_the_model_folder_imports_torch(module: str) -> None:
    """The policy is plain Python, and the renderer's process must start before torch is imported."""
    code = f"import sys, serve_app.engine.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
