"""assets sheet and assets finish: what a command line makes of words, and what comes onto the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from serve_app.cli.sheets import clip_of, item_of
from serve_app.client import Client
from tests.api.harness import Site, site
from tests.api.studio import draw, sprite, worked
from tests.cli.harness import run


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("abc", {"job_id": "abc"}),
        ("abc:2", {"job_id": "abc", "index": 2}),
        ("abc=key", {"job_id": "abc", "name": "key"}),
        ("abc:2=key", {"job_id": "abc", "index": 2, "name": "key"}),
    ],
)
def test_a_picture_is_a_job_with_an_index_and_a_name(text: str, item: dict[str, Any]) -> None:
    assert item_of(text) == item


@pytest.mark.parametrize("text", ["", ":1", "abc:x", "abc:1:2"])
def test_another_way_to_name_one_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        item_of(text)


def test_a_clip_takes_names_and_patterns_of_names() -> None:
    names = ["hero_10", "hero_2", "coin"]
    walk = clip_of("walk=hero_*@12", names)
    assert walk == {"name": "walk", "frames": ["hero_2", "hero_10"], "fps": 12, "loop": True}
    assert clip_of("die=a,b@5,once", names)["frames"] == ["a", "b"]
    assert not clip_of("die=a,b@5,once", names)["loop"]
    for wrong in ("walk", "walk=a", "walk=a@", "=a@5"):
        with pytest.raises(typer.BadParameter):
            clip_of(wrong, names)


def test_a_sheet_is_ordered_and_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with site(tmp_path) as service, Client(service.url) as client:
        monkeypatch.setenv("ASSETS_SERVER", service.url)
        jobs = [client.generate("a key", style_id="icon", seed=n).job_id for n in range(2)]
        for job_id in jobs:
            service.do(draw, service.world, job_id, [sprite()])

        async def pack() -> None:
            world = service.world
            await world.until(lambda: world.launcher.running)
            ((job_id, fence),) = world.launcher.running
            await worked(world, job_id, fence)

        working = service.portal.start_task_soon(pack)
        pictures = [f"{jobs[0]}=hero_0", f"{jobs[1]}:0=hero_1"]
        options = ["--format", "css", "--name", "hero", "--clip", "walk=hero_*@8", "--nearest"]
        assert run("sheet", *pictures, *options, "--out", str(tmp_path / "art")) == 0
        working.result()
    assert {p.name for p in (tmp_path / "art").iterdir()} == {
        "hero.png",
        "hero.css",
        "manifest.json",
    }
    assert "walk" in (tmp_path / "art/hero.css").read_text()
    assert "/output/" in capsys.readouterr().out


def test_what_the_server_refuses_is_said(service: Site) -> None:
    assert "no job of the tag 'nothing' has succeeded" in str(run("sheet", "--tag", "nothing"))
    assert "Give either items, a tag or a batch_id" in str(run("sheet"))
    assert "allowed: texturepacker_hash" in str(run("sheet", "--tag", "a", "--format", "gif"))


def test_a_picture_is_finished_without_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sprite((32, 32), 6).save("a.png")
    args = ["--effect", "trim", "--effect", "outline pixels=1 color=#000000"]
    assert run("finish", "a.png", *args, "--before-after", "looks.png") == 0
    with Image.open("a_finished.png") as done, Image.open("looks.png") as looks:
        assert done.size[0] < 32
        assert looks.width > 1000
    assert "coverage" in capsys.readouterr().out
    assert "Allowed: " in str(run("finish", "a.png", "--effect", "sharpen"))
    assert "No such file" in str(run("finish", "none.png", "--effect", "trim"))
    Path("b.png").write_bytes(b"no picture")
    assert "not a PNG" in str(run("finish", "b.png", "--effect", "trim"))
