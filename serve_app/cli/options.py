"""options: what several commands take, and the client that these options ask for.

Knows the address and the key of a server; nothing of the server itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serve_app.client import Client
from serve_app.config import user_path


def home_path(text: str) -> Path:
    """Also where a shell leaves `~` alone, as in `--out=~/pictures`."""
    try:
        return user_path(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Server = Annotated[str, typer.Option(envvar="ASSETS_SERVER", help="Where the service is.")]
ApiKey = Annotated[
    str | None, typer.Option(envvar="ASSETS_API_KEY", help="If the server asks for one.")
]
To = Annotated[
    Path | None, typer.Option("--out", parser=home_path, help="Also save the files here.")
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="From `assets jobs`, or the API.")]
JobIds = Annotated[list[str], typer.Argument(metavar="JOB", help="From `assets jobs`.")]

Effects = Annotated[
    list[str] | None,
    typer.Option("--effect", help="Like trim, or as JSON: GET /v1/effects. Repeatable."),
]

Sign = Annotated[
    Path | None,
    typer.Option(
        "--sign",
        parser=home_path,
        metavar="DIR",
        help="Sign with content credentials: the folder of `assets c2pa make-cert`.",
    ),
]


def connect(server: str, api_key: str | None) -> Client:
    return Client(server, api_key=api_key)
