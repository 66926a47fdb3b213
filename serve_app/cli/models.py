"""models: `assets models`. The list is the server's; it knows no models file."""

from __future__ import annotations

from rich.table import Table

from serve_app.cli.options import ApiKey, Server, connect
from serve_app.cli.printing import out
from serve_app.client import SERVER


def list_models(server: Server = SERVER, api_key: ApiKey = None) -> None:
    """List the models."""
    table = Table("model", "title", "active", "size", "schedulers")
    with connect(server, api_key) as client:
        for model in client.models():
            width, height = model["native_size"]
            active = "yes" if model["active"] else "no"
            schedulers = ", ".join(model["schedulers"])
            table.add_row(model["name"], model["title"], active, f"{width}x{height}", schedulers)
    out.print(table)
