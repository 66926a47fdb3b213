"""lint: checks what Serve configs say, and the styles and models files they name, by their types; refuses
misspelled keys, which Ray ignores in silence.

    python -m serve_app.tools.lint FILE...

Starts no Ray, imports no application and looks at no weights; `check.py` also looks at this machine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from serve_app.catalog.yamlfile import (
    At,
    Mistake,
    did_you_mean,
    mistakes_of,
    read_yaml,
    unknown_keys,
)
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


def lint_files(path: Path) -> None:
    """`lint_serve_config`, and the models and styles of each application of ours. Raises ConfigError."""
    from serve_app.catalog.models import load_models
    from serve_app.catalog.styles import load_styles
    from serve_app.config import Settings

    lint_serve_config(path, Settings)
    for app in read_yaml(path).data["applications"]:
        if app["import_path"] == OUR_APP:
            settings = Settings.model_validate(app.get("args", {}))
            models = load_models(settings.path(settings.models_file))
            load_styles(settings.path(settings.styles_file), models)


def main(files: list[str]) -> int:
    wrong = 0
    for file in files:
        try:
            lint_files(Path(file))
        except ConfigError as error:
            wrong += 1
            print(error.detail, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
