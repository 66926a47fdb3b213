"""assets: the command line of the service, on top of `client.py`. `commands.py` is where it begins."""

from serve_app.cli.commands import app, main

__all__ = ["app", "main"]
