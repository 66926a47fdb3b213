"""models: `assets models` and `assets models import`.

The list is the server's; an import works on files of this machine, and on its models file.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from serve_app.cli.options import ApiKey, Server, connect, home_path
from serve_app.cli.printing import err, out, show_notes
from serve_app.client import SERVER
from serve_app.config import Settings
from serve_app.tools.model_import import Brought, import_model

app = typer.Typer(help="List the models, or bring your own.", invoke_without_command=True)


class Prediction(StrEnum):
    """What a network was trained to predict."""

    EPSILON = "epsilon"
    V = "v_prediction"


@app.callback()
def list_models(context: typer.Context, server: Server = SERVER, api_key: ApiKey = None) -> None:
    """List the models, or bring your own."""
    if context.invoked_subcommand is not None:
        return
    table = Table("model", "title", "active", "state", "size", "schedulers")
    with connect(server, api_key) as client:
        for model in client.models():
            width, height = model["native_size"]
            active = "yes" if model["active"] else "no"
            schedulers = ", ".join(model["schedulers"])
            state = model.get("state") or ("served" if model.get("served", model["active"]) else "")
            name, title, size = model["name"], model["title"], f"{width}x{height}"
            table.add_row(name, title, active, state, size, schedulers)
            if model.get("reason"):
                err.print(f"{name}: {model['reason']}", markup=False, soft_wrap=True)
    out.print(table)


@app.command()
def words(
    model: Annotated[str, typer.Argument(help="One that the server has.")],
    search: Annotated[str, typer.Argument(help="Part of a name; left out: all.")] = "",
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """List what a model was taught to draw."""
    table = Table("thing", "other names")
    with connect(server, api_key) as client:
        for thing in client.vocabulary(model, search):
            table.add_row(thing["name"], ", ".join(thing["other_names"]))
    if not table.row_count:
        err.print(f"{model} was taught nothing of that name", markup=False)
        raise typer.Exit(1)
    out.print(table)


@app.command("import")
def import_(
    source: Annotated[
        Path,
        typer.Argument(
            parser=home_path,
            metavar="FILE",
            help="A .safetensors checkpoint of SD 1.x, 2.x or SDXL, or a directory of diffusers.",
        ),
    ],
    name: Annotated[str, typer.Option("--name", help="What orders will call it.")],
    vae: Annotated[
        Path | None,
        typer.Option("--vae", parser=home_path, help="Another VAE: a file or a directory."),
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(help="FILE or FILE:WEIGHT: becomes part of its weights; repeatable."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", parser=home_path, help="Where its weights go; default: .models/NAME."),
    ] = None,
    prediction: Annotated[
        Prediction | None, typer.Option(help="Where the file is not to be believed.")
    ] = None,
    proof: Annotated[bool, typer.Option("--proof/--no-proof", help="Draw one picture.")] = True,
) -> None:
    """Make a model of a checkpoint that you bring: no hub, no network."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=err
    ) as bars:
        task: TaskID = bars.add_task("reading", total=None)
        made = import_model(
            source,
            name,
            Settings(),
            vae=vae,
            loras=[lora_file(text) for text in lora or ()],
            to=to,
            predicts=None if prediction is None else prediction.value,
            prove=proof,
            progress=lambda part, done, of: bars.update(
                task, description=part, completed=done, total=of
            ),
        )
    tell(made)


def lora_file(text: str) -> tuple[Path, float]:
    """`ink.safetensors:0.8`: file and weight, which is 1 where it is not said."""
    path, colon, weight = text.rpartition(":")
    try:
        return (home_path(path), float(weight)) if colon else (home_path(text), 1.0)
    except ValueError:  # a colon of the file's own name
        return home_path(text), 1.0


def tell(made: Brought) -> None:
    out.print(f"model {made.name} is described in {made.entry}", soft_wrap=True)
    if made.proof is not None:
        out.print(f"a picture of it is in {made.proof}", soft_wrap=True)
    show_notes(made.remarks)
    err.print(
        f"To serve it: `ASSETS_MODEL={made.name} assets run`, or `model: {made.name}` under `args:` of a "
        "Serve config; beside others, as one of its `pools:`.",
        markup=False,
        soft_wrap=True,
    )
