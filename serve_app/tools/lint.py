"""lint: checks what Serve configs say, and the styles and models files they name, by their types; refuses
misspelled keys, which Ray ignores in silence.

    python -m serve_app.tools.lint FILE...

FILE is a Serve config, whose models and styles are read too, or a models or styles file. Starts no Ray,
imports no application and looks at no weights; `check.py` also looks at this machine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from serve_app.catalog.check import check_files
from serve_app.catalog.models import load_models
from serve_app.catalog.styles import load_styles
from serve_app.catalog.yamlfile import (
    At,
    Mistake,
    did_you_mean,
    mistakes_of,
    read_yaml,
    unknown_keys,
)
from serve_app.config import Settings, user_path
from serve_app.errors import ConfigError

OUR_APP = "serve_app.app:build"


def lint_serve_config(path: Path, args_model: type[BaseModel] | None = None) -> None:
    """Raises ConfigError that lists every mistake with its line. `args_model` is the type of the
    application's `args`."""
    from ray.serve.schema import ServeDeploySchema  # takes a second to import

    source = read_yaml(path)
    source.refuse(_unknown(ServeDeploySchema, source.data, args_model))
    source.refuse(_wrong(ServeDeploySchema, source.data, ()))
    source.refuse(_wrong_parts(source.data, args_model))


def settings_in(path: Path) -> dict[str, Settings]:
    """Of each application of ours in a Serve config, by its name. Raises ConfigError."""
    lint_serve_config(path, Settings)
    return {
        app.get("name", "default"): Settings.model_validate(app.get("args") or {})
        for app in read_yaml(path).data.get("applications", [])
        if app["import_path"] == OUR_APP
    }


def _wrong(model: type[BaseModel], data: Any, at: At) -> Iterator[Mistake]:
    try:
        model.model_validate(data)
    except ValidationError as error:
        yield from mistakes_of(error, at)


def _wrong_parts(data: Any, args_model: type[BaseModel] | None) -> Iterator[Mistake]:
    """Of the parts that Ray's schema takes as any dict."""
    from ray.serve.config import AutoscalingConfig

    for at, key, value in _walk(data, ()):
        if key == "autoscaling_config" and value is not None:
            yield from _wrong(AutoscalingConfig, value, (*at, key))
        if key == "args" and len(at) == 2 and args_model is not None:
            yield from _wrong(args_model, value, (*at, key))


def _unknown(schema: Any, data: Any, args_model: type[BaseModel] | None) -> Iterator[Mistake]:
    from ray.runtime_env import RuntimeEnv

    yield from unknown_keys(schema, data)
    for at, key, value in _walk(data, ()):
        if key == "runtime_env" and isinstance(value, dict):
            for name in value.keys() - RuntimeEnv.known_fields:
                text = f"unknown key{did_you_mean(name, RuntimeEnv.known_fields)}"
                yield Mistake((*at, key, name), text)
        if key == "args" and len(at) == 2 and args_model is not None:
            yield from unknown_keys(args_model, value, (*at, key))


def _walk(data: Any, at: At) -> Iterator[tuple[At, str, Any]]:
    """Every key and its value, at every depth, with the place of the mapping that holds it."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield at, key, value
            yield from _walk(value, (*at, key))
    elif isinstance(data, list):
        for i, item in enumerate(data):
            yield from _walk(item, (*at, i))


def lint(path: Path) -> None:
    """Raises ConfigError that lists every mistake: of a Serve config and of the models and styles that its
    `args` name, or of a models or styles file."""
    data = read_yaml(path).data
    if isinstance(data, dict) and "models" in data:
        load_models(path)
    elif isinstance(data, dict) and "styles" in data:
        settings = Settings()
        load_styles(path, load_models(settings.path(settings.models_file)))
    else:
        for settings in settings_in(path).values():
            check_files(settings)


def main(files: list[str]) -> int:
    wrong: dict[str, None] = {}  # in order, each once: two configs may name the same styles
    for file in files:
        try:
            lint(user_path(file))
        except (ConfigError, ValueError) as error:
            detail = error.detail if isinstance(error, ConfigError) else str(error)
            wrong |= dict.fromkeys(detail.splitlines())
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
