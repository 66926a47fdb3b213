"""keeping: `assets backup` and `assets restore`, for whoever must not lose what was made.

The work is done in `tools/backup.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from serve_app.artifacts.storage import storage_at
from serve_app.cli.printing import err, out
from serve_app.cli.serving import LAPTOP
from serve_app.config import Settings
from serve_app.errors import ConfigError
from serve_app.jobs.store.copies import PublishedFile
from serve_app.jobs.store.redis_link import RedisLink
from serve_app.tools.backup import BackupReport, back_up, copies
from serve_app.tools.backup import restore as bring_back
from serve_app.tools.lint import settings_in

MOST_NAMED = 10  # files that are missing
Folder = Annotated[Path, typer.Argument(help="The folder of the backups.")]
OfConfig = Annotated[
    Path, typer.Option("--config", help="The Serve config whose folders are meant.")
]


def backup(
    folder: Folder,
    config: OfConfig = LAPTOP,
    keep: Annotated[int, typer.Option(min=1, help="Copies of the job store that stay.")] = 7,
) -> None:
    """Copy the job store and every published file to a folder. The service may run meanwhile."""
    settings = _settings(config)
    link = settings.redis_url and RedisLink(settings.redis_url, settings.redis_prefix)
    state, output = settings.path(settings.state_dir), storage_at(settings.output_address)
    report = back_up(state, output, folder, keep, _shown("Files"), link or None)
    out.print(str(report.copy))
    _say(report, f"{_jobs(report)}; {report.new} new files, {report.there} were there")
    if report.removed:
        err.print(f"{report.removed} files that no copy names any more were removed")
    _end(report)


def restore(
    folder: Folder,
    config: OfConfig = LAPTOP,
    copy: Annotated[str, typer.Option(help="Which copy; else the newest.")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Put a job store that is there aside.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="Only list the copies.")] = False,
) -> None:
    """Put a backup back: the job store and its files. The service must be stopped."""
    if list_:
        for path in copies(folder):
            out.print(path.name)
        return
    settings = _settings(config)
    state, output = settings.path(settings.state_dir), storage_at(settings.output_address)
    report = bring_back(state, output, folder, copy, _shown("Files"), replace=replace)
    out.print(str(state / "jobs.db"))
    _say(report, f"{_jobs(report)}, of {report.copy.name}; {report.new} files were put back")
    if report.aside is not None:
        err.print(f"the job store that was there is {report.aside} now", soft_wrap=True)
    if settings.redis_url is not None:
        command = f"assets store copy {state} REDIS_URL --prefix {settings.redis_prefix}"
        command += " --vouched" if settings.redis_vouched else ""
        err.print(f"now bring it to Redis: {command}", soft_wrap=True)
    _end(report)


def _settings(config: Path) -> Settings:
    """Of the config's application. Raises ConfigError."""
    found = [*settings_in(config).values()]
    if len({(settings.state_dir, settings.output_address) for settings in found}) != 1:
        raise ConfigError(f"{config} has {len(found)} applications of this service, not one")
    return found[0]


def _jobs(report: BackupReport) -> str:
    live = report.about.live
    return f"{report.about.jobs} jobs" + (f", {live} of them not ended" if live else "")


def _say(report: BackupReport, text: str) -> None:
    if report.uploads:
        text += f", {report.uploads} uploads"
    err.print(text, soft_wrap=True)


def _end(report: BackupReport) -> None:
    """Raises typer.Exit(1) if not every file is there."""
    for what, paths in ("missing", report.missing), ("damaged", report.damaged):
        for path in paths[:MOST_NAMED]:
            err.print(f"{what}: {path}", markup=False, soft_wrap=True)
        if len(paths) > MOST_NAMED:
            err.print(f"{what}: {len(paths) - MOST_NAMED} more")
    if report.missing or report.damaged:
        raise typer.Exit(1)


def _shown(title: str):
    def shown(files: Iterable[PublishedFile], count: int) -> Iterable[PublishedFile]:
        return track(files, title, count, console=err, transient=True, disable=not err.is_terminal)

    return shown
