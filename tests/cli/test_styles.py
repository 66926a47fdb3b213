"""assets styles, and assets styles import."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from serve_app.catalog.models import load_models
from serve_app.catalog.styles import load_styles
from serve_app.config import PROJECT_ROOT
from tests.api.harness import Site
from tests.cli.harness import Talk, run


def test_styles_of_another_program_become_a_styles_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was left out and the next step are said; a file that is there is left alone."""
    monkeypatch.chdir(tmp_path)
    Path("mine.csv").write_text("name,prompt\nOil,oil of {prompt}\n---,\n")
    assert run("styles", "import", "mine.csv") == 0
    printed = capsys.readouterr()
    assert printed.out == "1 styles are in mine.yaml: oil\n"
    assert "line 3: '---' is left out" in printed.err
    assert "`styles:` of configs/styles.yaml" in printed.err
    models = load_models(PROJECT_ROOT / "configs/models.yaml")
    assert load_styles(Path("mine.yaml"), models)["oil"].template == "oil of {prompt}"
    assert (
        run("styles", "import", "mine.csv")
        == "assets: mine.yaml exists already: name another file with --to"
    )
    assert run("styles", "import", "mine.csv", "--to", "new.yaml") == 0
    assert run("styles", "import", "mine.csv", "--to", "no/new.yaml") == (
        "assets: no/new.yaml cannot be written: No such file or directory"
    )
    assert str(run("styles", "import", "mine.yaml")).startswith(
        "assets: mine.yaml:1: should be a CSV"
    )


def test_the_default_style_is_marked(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    style = {"style_id": "icon", "title": "Icon", "drawable": True, "description": "One."}
    talk(
        httpx.Response(
            200, json={"results": [{**style, "default": True}, {**style, "default": False}]}
        )
    )
    assert run("styles") == 0
    assert capsys.readouterr().out.count("Icon (default)") == 1


def test_the_styles_of_a_server_are_listed(
    service: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("styles") == 0
    assert "icon" in capsys.readouterr().out
