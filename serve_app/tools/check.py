"""check: everything that can be known to be wrong with a Serve config before Ray is started.

Knows the config, the files that its settings name, and this machine's folders; starts no Ray.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.catalog.textfile import shown
from serve_app.catalog.yamlfile import At, YamlFile, read_yaml
from serve_app.cluster.checks import Fault, file_faults, open_bind_problem
from serve_app.config import Settings
from serve_app.errors import ConfigError
from serve_app.tools.lint import OUR_APP, settings_in

OWN_FILES = ("models_file", "styles_file")
"""Mistakes in these are told with their own line, not with the line of the setting."""


@dataclass(frozen=True)
class Checked:
    """A config that can be deployed. `settings`: of each application of ours, by its name."""

    path: Path
    data: dict[str, Any]
    settings: dict[str, Settings]

    @property
    def host(self) -> str:
        return self.data.get("http_options", {}).get("host", "127.0.0.1")

    @property
    def port(self) -> int:
        return self.data.get("http_options", {}).get("port", 8000)


def check(path: Path) -> Checked:
    """Raises ConfigError: one line for each mistake, with its file and line, in words."""
    settings = settings_in(path)
    source = read_yaml(path)
    wrong: list[str] = []
    for i, app in enumerate(source.data.get("applications", [])):
        if app["import_path"] == OUR_APP:
            at: At = ("applications", i)
            wrong += _wrong(source, at, app, settings[app.get("name", "default")])
    if wrong:
        raise ConfigError("\n".join(wrong))
    return Checked(path, source.data, settings)


def _wrong(source: YamlFile, at: At, app: dict[str, Any], settings: Settings) -> list[str]:
    """Every mistake of one application of the config."""

    def line(text: str, *keys: str | int) -> str:
        return f"{shown(source.path)}:{source.line((*at, *keys))}: {text}"

    def told(problem: Fault) -> str:
        if problem.setting in OWN_FILES:
            return problem.error.detail
        return line(f"{problem.setting}: {problem.error.detail}", "args", problem.setting)

    found = [told(problem) for problem in file_faults(settings)]
    name = app.get("name", "default")
    if name != settings.app_name:
        text = f"the application's name is {name}, so args need `app_name: {name}`"
        found.append(line(text, "name"))
    host = source.data.get("http_options", {}).get("host")
    if problem := open_bind_problem(settings, host):
        here = source.line(("http_options", "host"))
        found.append(f"{shown(source.path)}:{here}: {problem}")
    output = "output" if settings.output else "output_dir"
    for setting, folder in (
        (output, settings.output_folder),
        ("state_dir", settings.path(settings.state_dir)),
    ):
        if folder is not None and (problem := folder_problem(folder)):
            found.append(line(f"{setting}: {problem}", "args", setting))
    return found


def folder_problem(folder: Path) -> str | None:
    """Why the service cannot write there, or None. Tries it with a file that has no name."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        return f"{there} is not a folder"
    try:
        with tempfile.TemporaryFile(dir=there):
            return None
    except OSError as error:
        return f"{there} cannot be written ({error.strerror}); name another folder"


def checks(paths: list[Path]) -> None:
    """`check` each file. Raises one ConfigError for all of them."""
    wrong: list[str] = []
    for path in paths:
        try:
            check(path)
        except ConfigError as error:
            wrong.append(error.detail)
    if wrong:
        raise ConfigError("\n".join(wrong))
