"""assets: the command line as a whole: version, completion, and how a command that fails ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app import __version__
from tests.api.harness import Site
from tests.cli.harness import Talk, run
from tests.scripted import problem


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"assets {__version__}\n"


def test_a_shell_completes_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_ASSETS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "assets ge")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert run() == 0
    assert capsys.readouterr().out.split() == ["generate"]


def test_a_shell_is_given_its_completion(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_ASSETS_COMPLETE", "source_bash")
    assert run() == 0
    assert "complete -o default -F _assets_completion assets" in capsys.readouterr().out


def test_no_server_is_one_clear_line() -> None:
    message = run("styles", "--server", "http://127.0.0.1:9")
    assert message == (
        "assets: no server answers at http://127.0.0.1:9; `assets run` starts one on this "
        "machine; --server or ASSETS_SERVER names another"
    )


def test_a_tilde_is_the_home(
    service: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where the shell left it as it is: `--out=~/pictures`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run("generate", "a red potion", "--out=~/pictures") == 0
    assert len(list((tmp_path / "pictures").iterdir())) == 1
    assert run("keys", "add", "studio", "--file=~/keys") == 0
    assert (tmp_path / "keys").is_file()
    assert run("keys", "add", "studio", "--file=~nobody_of_this_name/keys") == 2
    assert "no home directory" in capsys.readouterr().err


def test_a_wrong_setting_in_the_environment_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASSETS_SLOTS", "many")
    message = str(run("keys", "list"))
    assert message.startswith(
        "assets: a setting in the environment is wrong: slots: Input should be"
    )


def test_a_missing_key_is_said_as_an_option_and_not_as_a_header(talk: Talk) -> None:
    talk(problem(401, "unauthorized"))
    assert run("jobs") == (
        "assets: the server wants an API key that it knows; --api-key or ASSETS_API_KEY gives it"
    )
