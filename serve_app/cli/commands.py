"""commands: every command of `assets`, a line each, and how a command that fails ends.

A command is a function in a file of its noun; this module knows only its name.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from pydantic import ValidationError

from serve_app import __version__
from serve_app.cli import (
    batches,
    credentials,
    finishing,
    jobs,
    keeping,
    keys,
    ledger,
    models,
    orders,
    provenance,
    pulling,
    reproducing,
    serving,
    sheets,
    stores,
    styles,
    watching,
    webhooks,
)
from serve_app.cli.printing import out
from serve_app.client import AssetsError, Rejected, ServerAway
from serve_app.errors import ServiceError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(serving.check)
app.command()(serving.doctor)
app.command()(serving.run)
app.command()(serving.deploy)
app.command()(keeping.backup)
app.command()(keeping.restore)
app.command()(orders.generate)
app.command()(orders.retry)
app.command()(orders.derive)
app.command()(reproducing.reproduce)
app.command()(watching.watch)
app.command()(jobs.status)
app.command("jobs")(jobs.list_jobs)
app.command()(jobs.cancel)
app.command()(jobs.delete)
app.command()(sheets.sheet)
app.command()(pulling.pull)
app.command()(finishing.finish)
app.command()(ledger.ledger)
app.command("inspect")(provenance.inspect_file)
app.add_typer(credentials.app, name="c2pa")
app.add_typer(batches.app, name="batch")
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(stores.app, name="store")
app.add_typer(styles.app, name="styles")
app.add_typer(webhooks.app, name="webhooks")

NEXT_STEP = "`assets run` starts one on this machine; --server or ASSETS_SERVER names another"
NO_KEY = "the server wants an API key that it knows; --api-key or ASSETS_API_KEY gives it"


def show_version(wanted: bool) -> None:
    if wanted:
        out.print(f"assets {__version__}")
        raise typer.Exit


@app.callback()
def assets(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Order game assets from a running service."""


def main(args: Sequence[str] | None = None) -> None:
    try:
        app(args, prog_name="assets")
    except ServerAway as error:
        sys.exit(f"assets: {error}; {NEXT_STEP}")
    except Rejected as error:
        sys.exit(f"assets: {NO_KEY if error.status == 401 else error}")
    except (AssetsError, ServiceError) as error:
        sys.exit(f"assets: {error}")
    except ValidationError as error:  # of Settings, from the environment
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        sys.exit(f"assets: a setting in the environment is wrong: {wrong}")
