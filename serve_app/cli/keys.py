"""keys: `assets keys add`, `list` and `revoke`. They read and write the key file of a server on this machine.

What a key is, and how it is stored, `api/keys.py` knows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from serve_app.api.keys import add_key, grant_keys, list_keys, revoke_keys
from serve_app.cli.options import home_path
from serve_app.cli.printing import err, out
from serve_app.config import Settings

app = typer.Typer(help="API keys of this server.", no_args_is_help=True)

KeysFile = Annotated[
    Path | None,
    typer.Option(
        "--file",
        parser=home_path,
        help="The service's api_keys_file. Default: ASSETS_API_KEYS_FILE, else api_keys in "
        "ASSETS_STATE_DIR.",
    ),
]


def keys_path(file: Path | None) -> Path:
    settings = Settings()
    return file or settings.path(settings.api_keys_file or settings.state_dir / "api_keys")


Grant = Annotated[
    list[str] | None,
    typer.Argument(
        help="What it may do: scopes=read,order,admin rate=10/s waiting_jobs=500 device_seconds=3600 "
        "kept_bytes=10GB. Default: read and order, without a limit.",
        metavar="[GRANT]...",
    ),
]


@app.command()
def add(
    owner: Annotated[str, typer.Argument(help="Whose jobs they will be.")],
    grant: Grant = None,
    file: KeysFile = None,
) -> None:
    """Make a key, store its hash, and show it: once."""
    path = keys_path(file)
    out.print(add_key(path, owner, " ".join(grant or [])))
    err.print(
        f"Its hash is in {path}; the key itself is kept nowhere. A service whose `api_keys_file` is this "
        "file takes the key a quarter of a second later. One that runs without keys needs the setting, and a "
        "restart.",
        markup=False,
        soft_wrap=True,
    )


@app.command("list")
def list_(file: KeysFile = None) -> None:
    """Show whose keys there are, how each key's hash begins, and what it may do."""
    table = Table("owner", "key", "grant")
    for owner, fingerprint, grant in list_keys(keys_path(file)):
        table.add_row(owner, fingerprint, grant.words or "read and order")
    out.print(table)


@app.command()
def grant(
    owner: Annotated[str, typer.Argument(help="Whose keys.")],
    grant: Grant = None,
    key: Annotated[str, typer.Option(help="Only the one that `assets keys list` shows so.")] = "",
    file: KeysFile = None,
) -> None:
    """Let keys do this from now on, and nothing else."""
    path = keys_path(file)
    number = grant_keys(path, owner, " ".join(grant or []), key)
    out.print(
        f"{number} key(s) of {owner} are changed in {path}; it counts a quarter of a second later."
    )


@app.command()
def revoke(
    owner: Annotated[str, typer.Argument(help="Whose keys.")],
    key: Annotated[str, typer.Option(help="Only the one that `assets keys list` shows so.")] = "",
    file: KeysFile = None,
) -> None:
    """Take keys out of the file. Jobs stay their owner's."""
    path = keys_path(file)
    number = revoke_keys(path, owner, key)
    out.print(
        f"{number} key(s) of {owner} are out of {path}, and refused a quarter of a second later."
    )
    if not list_keys(path):
        err.print(
            "No key is left: a service that runs refuses every request, and none starts with this file.",
            soft_wrap=True,
        )
