"""A job's Ray task: it writes what was drawn, on the node where it was drawn.

Knows where the output folder is; loads no torch.
"""

from __future__ import annotations

import logging
from pathlib import Path

from serve_app import logs
from serve_app.artifacts.folder import OutputDir
from serve_app.jobs.attempt import store_images
from serve_app.messages import Outcome, OutputFolder, Rendered, Ticket

log = logging.getLogger("assets.job")


def run(ticket: Ticket, rendered: Rendered, folder: OutputFolder) -> Outcome:
    """`full`, and nothing is written, if this node does not see the folder of the registry: nobody would find
    the files."""
    logs.configure()
    output = OutputDir(Path(folder["path"]))
    if rendered["failed"] is None and not output.is_folder(folder["id"]):
        reason = "this node does not see the output folder of the registry"
        log.error(reason, extra={"job_id": ticket["job_id"]})
        return Outcome(kind="full", reason=reason)
    return store_images(ticket, rendered, output)
