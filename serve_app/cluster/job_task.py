"""A job's Ray task: it writes what was drawn, on the node where it was drawn; or it does all the work of a
job that needs no renderer.

Knows where the output folder is, and how to tell the registry; loads no torch.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

from ray.exceptions import RayError

from serve_app import logs
from serve_app.artifacts.folder import output_at
from serve_app.cluster.handles import call_registry
from serve_app.finishing.base import NO_WEIGHTS, Weights, weights_in
from serve_app.jobs.attempt import store_images
from serve_app.messages import Outcome, OutputFolder, Redraw, Rendered, Report, Ticket
from serve_app.tasks.bodies import BODIES
from serve_app.tasks.generate import finish_drawn
from serve_app.tasks.work import Work, run_body

log = logging.getLogger("assets.job")


def run(
    ticket: Ticket,
    rendered: Rendered | None,
    folder: OutputFolder,
    app_name: str,
    redraw: Redraw | None = None,
) -> Outcome:
    """`rendered`: None for a job that needs no renderer. `redraw`: what was there before this drawing.

    `full`, and nothing is written, if this node does not see the folder of the registry: nobody would find
    the files."""
    logs.configure()
    output = output_at(folder["path"])
    drawn = rendered is None or rendered["failed"] is None
    if drawn and not output.is_folder(folder["id"]):
        reason = "this node does not see the output folder of the registry"
        log.error(reason, extra={"job_id": ticket["job_id"]})
        return Outcome(kind="full", reason=reason, unstored=rendered is not None)
    reports = Reports(ticket, app_name)
    work = Work(ticket, output, reports.progress, weights=_weights(folder))
    if rendered is None:
        reports.admitted()
        return run_body(BODIES[ticket["summary"]["kind"]], work)
    if rendered["failed"] is not None or not ticket["summary"].get("extra_files"):
        return store_images(ticket, rendered, output)
    return finish_drawn(work, rendered, redraw)


def _weights(folder: OutputFolder) -> Weights:
    files = folder.get("weights")
    if files is None:
        return NO_WEIGHTS
    paths = (files["matting"], files["upscalers"])
    return weights_in(*(None if path is None else Path(path) for path in paths))


class Reports:
    """Of one attempt, to the registry. Nobody waits for an answer: a registry that is away learns the end."""

    def __init__(self, ticket: Ticket, app_name: str) -> None:
        self._job, self._fence, self._app_name = ticket["job_id"], ticket["fence"], app_name

    def admitted(self) -> None:
        self._send(Report(admitted=[(self._job, self._fence, None)], progress=[], previews=[]))

    def progress(self, progress: dict[str, Any]) -> None:
        self._send(Report(admitted=[], progress=[(self._job, self._fence, progress)], previews=[]))

    def _send(self, report: Report) -> None:
        with contextlib.suppress(ValueError, RayError):
            call_registry(self._app_name, "report", report)
