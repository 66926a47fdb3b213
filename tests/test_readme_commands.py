"""Every command that the documents show can be given, every command there is is shown, and the lines of the
Python client run.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer

from serve_app import cli
from serve_app.api.schemas import GenerateRequest
from serve_app.config import Settings
from serve_app.jobs.store.redis_link import DEMANDED
from tests.api.harness import site
from tests.documents import COMMAND, DOCS, README, operations
from tests.markdown import ROOT, commands


def command_tree(command: Any = None, name: str = "assets") -> dict[str, Any]:
    command = command or typer.main.get_command(cli.app)
    inner = {
        full: found
        for part, child in getattr(command, "commands", {}).items()
        for full, found in command_tree(child, f"{name} {part}").items()
    }
    alone = not inner or command.invoke_without_command
    return inner | ({name: command} if alone and name != "assets" else {})


def given_commands() -> list[str]:
    """Of every shell fence, and every command in backticks; without where the environment lies."""
    fences = [line for doc in DOCS for fence in doc.fences("sh") for line in commands(fence)]
    names = [name for doc in DOCS for name in doc.names if COMMAND.fullmatch(name)]
    return [line.replace(".venv/bin/", "") for line in fences + names]


@pytest.mark.parametrize("line", sorted(set(given_commands())))
def test_a_command_can_be_given(line: str) -> None:
    """A setting may stand before it, as shells take it."""
    program, *args = shlex.split(line)
    while setting := re.fullmatch(r"ASSETS_(\w+)=.*", program):
        assert setting[1].lower() in Settings.model_fields
        program, *args = args
    checks = {
        "assets": check_assets,
        "make": check_make,
        "python": check_python,
        "python3": check_python,
        "curl": check_curl,
        "redis-cli": check_redis,
    }
    if program in checks:
        checks[program](args)
    elif program in ("docker", "kubectl"):
        files = [arg for arg in args if arg.startswith("configs/")]
        assert all((ROOT / file).is_file() for file in files)
    elif program == "serve":
        assert args == ["status"] or (ROOT / args[1]).is_file()
    else:
        assert program in ("ray", "export", "cp", "mkdir"), "an unknown program"


def check_assets(args: list[str]) -> None:
    """Parses as the command line does, and runs nothing."""
    if args[0].startswith("--"):
        assert args == ["--help"] or set(args) <= options_of(typer.main.get_command(cli.app))
        return
    if args[0] == "batch" and f"assets {' '.join(args[:2])}" not in command_tree():
        args = ["batch", "order", *args[1:]]  # a file
    name, many = next(
        (n, n.count(" ")) for n in command_tree() if f"assets {' '.join(args)} ".startswith(f"{n} ")
    )
    missing = [] if len(args) > many else required_by(command_tree()[name])
    with command_tree()[name].make_context(name, args[many:] + missing) as context:
        assert not context.args


def options_of(command: Any) -> set[str]:
    """Of a switch that is on by default only the form that turns it off."""
    return {
        name
        for p in command.params
        for name in (p.secondary_opts if p.secondary_opts and p.default else p.opts)
        if name.startswith("-")
    }


def required_by(command: Any) -> list[str]:
    """Something for each argument and option without which the command is none."""
    return [
        part
        for p in command.params
        if p.required
        for part in ([p.opts[0], "x"] if p.opts[0].startswith("-") else ["x"])
    ]


def check_make(args: list[str]) -> None:
    assert set(args) <= make_targets()


def make_targets() -> set[str]:
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return set(phony.split())


def check_python(args: list[str]) -> None:
    if args[0] == "-c":
        compile(args[1], "fence", "exec")
        return
    assert args[0] == "-m"
    spec = importlib.util.find_spec(args[1])
    assert spec is not None
    assert spec.origin is not None
    text = Path(spec.origin).read_text()
    for option in (arg for arg in args[2:] if arg.startswith("--")):
        assert f'"{option}"' in text, option


def check_redis(args: list[str]) -> None:
    command, what, setting, value = args
    assert (command, what) == ("CONFIG", "SET")
    assert DEMANDED[setting] == value


def check_curl(args: list[str]) -> None:
    (url,) = [arg for arg in args if arg.startswith("localhost:8000/")]
    body = args[args.index("-d") + 1] if "-d" in args else None
    path = re.sub("[A-Z_]{2,}", "{}", urlsplit(f"//{url}").path)
    posts = {"-d", "--data-binary"} & {*args}
    assert f"{'POST' if posts else 'GET'} {path}" in operations()
    if body is not None:
        GenerateRequest.model_validate_json(body)
        assert "content-type: application/json" in args


def test_every_command_and_every_option_is_named() -> None:
    lines = given_commands()
    text = "\n".join(doc.path.read_text() for doc in DOCS)
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))
    assert options_of(typer.main.get_command(cli.app)) <= named
    for name, command in command_tree().items():
        assert any(f"{line} ".startswith(f"{name} ") for line in lines), name
        assert options_of(command) <= named | {"--n"}  # which is `-n`


def test_every_target_of_make_is_named() -> None:
    named = {line.split()[1] for line in given_commands() if line.startswith("make ")}
    assert named == make_targets()


def test_the_lines_of_the_python_client_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They order, wait, fetch and list, at a service of this process; only the address is another."""
    (lines,) = README.fences("python")
    assert len(lines.splitlines()) == 10
    monkeypatch.chdir(tmp_path)
    with site(tmp_path) as service:
        drawing = service.portal.start_task_soon(service.world.draw_next)
        exec(lines.replace("http://127.0.0.1:8000", service.url), {})
    (picture,) = Path("pictures").iterdir()
    assert drawing.result() in picture.name
    printed = capsys.readouterr().out
    assert "SUCCESS 1.0" in printed
    assert str(picture) in printed
    assert "a castle" in printed
