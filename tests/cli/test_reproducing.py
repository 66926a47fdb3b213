"""assets reproduce: of a job the server's word, of a file an order by its own record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from serve_app.cli.reproducing import order_of
from serve_app.client import Client
from tests.api.harness import Site, site
from tests.api.studio import finished, sprite
from tests.cli.harness import run
from tests.factories import JOB_ID

EFFECTS: list[dict[str, Any]] = [{"op": "palette", "colors": 4}]
Draws = Callable[[Site, Image.Image], Any]


def draw_next(service: Site, picture: Image.Image) -> Any:
    """The next job, as soon as it is launched."""

    async def draw() -> None:
        await service.world.until(lambda: service.world.launcher.running)
        ((job_id, fence),) = service.world.launcher.running
        await finished(service.world, job_id, picture, fence=fence)

    return service.portal.start_task_soon(draw)


@pytest.mark.parametrize("format", ["png", "webp"])
def test_a_job_and_its_file_are_made_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    format: str,
) -> None:
    """The finished file as well as the drawing; what differs is said, and is the command's status."""
    picture = sprite(rim=0).convert("RGB")
    other = picture.copy()
    other.putpixel((3, 4), (0, 0, 0))
    with site(tmp_path) as service, Client(service.url) as client:
        monkeypatch.setenv("ASSETS_SERVER", service.url)
        job = client.generate("a key", style_id="icon", seed=3, effects=EFFECTS, format=format)
        draw_next(service, picture).result()
        job = client.wait(job.job_id)
        files = [tmp_path / f"{n}.{format}" for n in range(2)]
        files[0].write_bytes(client.fetch(job.images[0].url))
        files[1].write_bytes(client.fetch(job.images[0].original_url))
        for what in (job.job_id, *map(str, files)):
            drawing = draw_next(service, picture)
            assert run("reproduce", what) == 0
            drawing.result()
            assert capsys.readouterr().out.endswith("  exact\n")
        drawing = draw_next(service, other)
        assert run("reproduce", str(files[1])) == 1
        drawing.result()
        assert run("pull", str(tmp_path / "art")) == 0  # nothing of what was only compared
        assert len([*(tmp_path / "art").glob(f"*.{format}")]) == 1
    said = capsys.readouterr().out
    assert "  differs" in said
    assert "of the pixels, within 1x1 at 3,4" in said


def test_all_that_was_done_since_it_was_drawn_is_done_again() -> None:
    """And of the order's own effects only what was done to this very file."""
    record: dict[str, Any] = {
        "order": {"prompt": "x", "seed": 3, "effects": [{"op": "trim"}]},
        "finished": [{"effects": [{"op": "flip"}]}, {"effects": [{"op": "trim"}]}],
    }
    again = order_of(record, "webp")
    assert again is not None
    assert again["effects"] == [{"op": "flip"}, {"op": "trim"}]
    assert again["format"] == "webp"
    assert (order_of({"order": record["order"]}, "png") or {})["effects"] == []
    assert order_of({"kind": "sheet"}, "png") is None


def test_what_cannot_be_made_again_is_said(service: Site, tmp_path: Path) -> None:
    file = tmp_path / "plain.png"
    sprite().save(file)
    assert "no record of this service" in str(run("reproduce", str(file)))
    assert "cannot be read" in str(run("reproduce", str(tmp_path / "nowhere.png")))
    assert "no job of this id" in str(run("reproduce", JOB_ID))
