"""A job's Ray task: it writes what was drawn, on the node where it was drawn.

Knows where the output folder is; loads no torch.
"""

from __future__ import annotations

from pathlib import Path

from serve_app import logs
from serve_app.artifacts.folder import OutputDir
from serve_app.jobs.attempt import store_images
from serve_app.messages import Outcome, Rendered, Ticket


def run(ticket: Ticket, rendered: Rendered, output_dir: str) -> Outcome:
    logs.configure()
    return store_images(ticket, rendered, OutputDir(Path(output_dir)))
