"""styles: `assets styles` and `assets styles import`.

The list is the server's; an import works on files only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from serve_app.catalog.style_import import import_styles
from serve_app.cli.options import ApiKey, Server, connect, home_path
from serve_app.cli.printing import err, out, show_notes
from serve_app.client import SERVER
from serve_app.errors import ConfigError

app = typer.Typer(
    help="List the styles, or import those of other programs.", invoke_without_command=True
)


@app.callback()
def list_styles(context: typer.Context, server: Server = SERVER, api_key: ApiKey = None) -> None:
    """List the styles, or import those of other programs."""
    if context.invoked_subcommand is not None:
        return
    table = Table("style", "title", "drawn here", "for")
    with connect(server, api_key) as client:
        for style in client.styles():
            here = "yes" if style["drawable"] else "no"
            title = f"{style['title']} (default)" if style.get("default") else style["title"]
            table.add_row(style["style_id"], title, here, style["description"])
    out.print(table)


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            parser=home_path,
            metavar="FILE",
            help="A styles.csv of AUTOMATIC1111, a JSON list of Fooocus or SDXL, presets of InvokeAI.",
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option("--to", parser=home_path, help="Default: FILE's name with .yaml, here."),
    ] = None,
) -> None:
    """Write the styles of another program as a styles file of this service, and say what was left out."""
    found = import_styles(file)
    to = to or Path(file.with_suffix(".yaml").name)
    try:
        with to.open("x", encoding="utf-8") as written:
            written.write(found.yaml(file.name))
    except FileExistsError as error:
        raise ConfigError(f"{to} exists already: name another file with --to") from error
    except OSError as error:
        raise ConfigError(f"{to} cannot be written: {error.strerror}") from error
    out.print(f"{len(found.styles)} styles are in {to}: {', '.join(found.styles)}")
    show_notes(found.remarks)
    err.print(
        "Copy those you want below `styles:` of configs/styles.yaml, or set `styles_file` to this file. "
        "Then restart or deploy the service.",
        markup=False,
        soft_wrap=True,
    )
