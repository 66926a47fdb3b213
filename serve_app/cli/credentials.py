"""credentials: `assets c2pa make-cert`.

Works on files of this machine; no server is asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serve_app.artifacts.credentials.certificate import CHAIN, KEY, ROOT, ROOT_KEY, make_certificate
from serve_app.cli.options import home_path
from serve_app.cli.printing import out

app = typer.Typer(no_args_is_help=True, help="Content credentials (C2PA).")


@app.command("make-cert")
def make_cert(
    folder: Annotated[Path, typer.Argument(parser=home_path, metavar="DIR", help="For its files.")],
    organisation: Annotated[str, typer.Option(help="Who signs: 1 to 64 characters.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is valid.")] = 365,
) -> None:
    """Make a certificate to sign pictures with, and the root that readers are given to trust it. A folder
    that has a root gets a new certificate below it."""
    make_certificate(folder, organisation, days)
    out.print(f"{folder / CHAIN}, {folder / KEY}: sign with `--sign {folder}`")
    out.print(f"{folder / ROOT}: give it to readers, as `assets inspect --trust` takes it")
    out.print(f"{folder / ROOT_KEY}, {folder / KEY}: keep them secret")
