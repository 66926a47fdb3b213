"""webhooks: `assets webhooks ...`. Some commands write the webhooks file of a server on this machine, others
ask a server what came of its calls.

What the file holds, `webhooks/owners.py` knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from serve_app.cli.options import ApiKey, Server, connect, home_path
from serve_app.cli.printing import err, out
from serve_app.client import SERVER
from serve_app.config import Settings
from serve_app.errors import ConfigError
from serve_app.hook_events import DEFAULT_EVENTS, EVENTS
from serve_app.secret_files import fingerprint
from serve_app.webhooks.address import target_of
from serve_app.webhooks.owners import (
    add_secret,
    load_or_none,
    remove_owner,
    retire_secret,
    rotate_secret,
    set_url,
)

app = typer.Typer(help="Who is called when jobs end, and by which secret.", no_args_is_help=True)

HooksFile = Annotated[
    Path | None,
    typer.Option(
        "--file",
        parser=home_path,
        help="The service's webhooks_file. Default: ASSETS_WEBHOOKS_FILE, else webhooks.yaml in "
        "ASSETS_STATE_DIR.",
    ),
]
Owner = Annotated[
    str, typer.Argument(help="Whose jobs: an owner of API keys, or `local` where there are none.")
]


def hooks_path(file: Path | None) -> Path:
    settings = Settings()
    return file or settings.path(settings.webhooks_file or settings.state_dir / "webhooks.yaml")


# ---- of the file ----


@app.command()
def add(owner: Owner, file: HooksFile = None) -> None:
    """Make the secret of an owner, and show it. The receiver verifies by it."""
    path = hooks_path(file)
    out.print(add_secret(path, owner))
    err.print(
        f"It is in {path}, which must be the `webhooks_file` of the service.",
        markup=False,
        soft_wrap=True,
    )


@app.command()
def rotate(owner: Owner, file: HooksFile = None) -> None:
    """Make a new secret, and show it. The one before stays valid beside it, an older one goes."""
    out.print(rotate_secret(hooks_path(file), owner))
    err.print(
        f"Every call is signed by both. When the receiver has it: assets webhooks retire {owner}",
        soft_wrap=True,
    )


@app.command()
def retire(owner: Owner, file: HooksFile = None) -> None:
    """Sign by the newest secret only."""
    out.print(
        f"{retire_secret(hooks_path(file), owner)} secret(s) of {owner} are not used any more."
    )


@app.command()
def url(
    owner: Owner,
    address: Annotated[str, typer.Argument(metavar="URL", help="Empty: nobody is called.")],
    event: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(EVENTS)}; repeatable.")
    ] = None,
    file: HooksFile = None,
) -> None:
    """Call this URL for every job of the owner that names no webhook itself."""
    events = tuple(event or DEFAULT_EVENTS)
    if unknown := [name for name in events if name not in EVENTS]:
        raise ConfigError(f"no such event: {', '.join(unknown)}; there are {', '.join(EVENTS)}")
    if address:
        target_of(address, [ip_network(one) for one in Settings().webhook_networks], "url")
    set_url(hooks_path(file), owner, address, events)
    whom = f"call {address} ({', '.join(events)})" if address else "call nobody by themselves"
    out.print(f"Jobs of {owner} {whom}, from a quarter of a second on.")


@app.command()
def remove(owner: Owner, file: HooksFile = None) -> None:
    """Take an owner out of the file. What waits to be sent fails."""
    remove_owner(hooks_path(file), owner)
    out.print(f"{owner} has no webhooks any more.")


@app.command("list")
def list_(file: HooksFile = None) -> None:
    """Show who has secrets, how the hash of each begins, and who is called for all jobs."""
    table = Table("owner", "secrets", "url", "events")
    for name, owner in load_or_none(hooks_path(file)).owners.items():
        secrets = " ".join(map(fingerprint, owner.secrets))
        table.add_row(name, secrets, owner.url, " ".join(owner.events) if owner.url else "")
    out.print(table)


# ---- of a server ----


@app.command()
def deliveries(
    job: Annotated[str | None, typer.Option(help="Of this job.")] = None,
    state: Annotated[
        str | None, typer.Option(help="waiting, delivered, failed or dropped.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Deliveries at most.")] = 20,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """List what my webhooks were told, newest first, and what came of it."""
    with connect(server, api_key) as client:
        for found in client.deliveries(job_id=job, state=state, limit=limit):
            why = f"  {found['reason']}" if found["reason"] else ""
            out.print(f"{found['delivery_id']}  {found['state']}, {found['tries']} calls{why}")


@app.command()
def redeliver(
    delivery: Annotated[str, typer.Argument(help="From `assets webhooks deliveries`.")],
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Tell a webhook once more."""
    with connect(server, api_key) as client:
        _show(client.redeliver(delivery))


@app.command("test")
def try_out(
    address: Annotated[
        str | None, typer.Argument(metavar="[URL]", help="Left out: that of my key.")
    ] = None,
    server: Server = SERVER,
    api_key: ApiKey = None,
) -> None:
    """Call a webhook once, about no job."""
    with connect(server, api_key) as client:
        _show(client.test_webhook(address))


def _show(found: Mapping[str, Any]) -> None:
    out.print(f"{found['delivery_id']}  {found['state']}  {found['url']}")
    err.print("assets webhooks deliveries tells what came of it.")
