"""Reporter: in a renderer, what the registry should hear of all its attempts, in one call at a time.

Knows the registry actor; nothing of engines. Only a job that runs alone waits for a call, once; what comes
meanwhile goes with the next one, and of progress and previews only the newest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from serve_app.cluster.handles import CALL_TIMEOUT_S, call_registry
from serve_app.messages import Preview, Progress, Report

log = logging.getLogger("assets.renderer")

PACE_S = 0.1
"""The shortest time between two calls, but for the first after a silence."""
NOTED_S = 10.0
"""The longest wait for the registry to note an admission."""


class Reporter:
    """`drop(fences)` is called with the attempts that the registry has given up."""

    def __init__(self, app_name: str, drop: Callable[[dict[str, int]], object]) -> None:
        self._app_name, self._drop = app_name, drop
        self._here: set[tuple[str, int]] = set()  # admitted, and not ended yet
        self._admitted: dict[tuple[str, int], float | None] = {}
        self._unnoted: dict[tuple[str, int], asyncio.Event] = {}  # somebody waits until it is noted
        self._progress: dict[tuple[str, int], dict[str, Any]] = {}
        self._previews: dict[tuple[str, int], tuple[int, bytes]] = {}
        self._something = asyncio.Event()
        self._sending = asyncio.create_task(self._send())

    def admitted(self, job_id: str, fence: int, solo_seconds: float | None) -> None:
        self._here.add((job_id, fence))
        self._admitted[job_id, fence] = solo_seconds
        self._something.set()

    async def noted(self, job_id: str, fence: int, solo_seconds: float | None) -> bool:
        """`admitted`, and wait until the registry has it on disk. False: it does not answer."""
        noted = self._unnoted[job_id, fence] = asyncio.Event()
        self.admitted(job_id, fence, solo_seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NOTED_S):
                await noted.wait()
        return noted.is_set()

    def progress(self, job_id: str, fence: int, event: Progress) -> None:
        said = {name: value for name, value in event.items() if name != "kind"}
        said["value"] = round(event["step"] / max(1, event["steps"]), 3)
        self._progress[job_id, fence] = said
        self._something.set()

    def preview(self, job_id: str, fence: int, event: Preview) -> None:
        self._previews[job_id, fence] = event["index"], event["data"]
        self._something.set()

    def forget(self, job_id: str, fence: int) -> None:
        """The attempt has ended: its result tells the rest."""
        self._here.discard((job_id, fence))
        self._admitted.pop((job_id, fence), None)
        self._unnoted.pop((job_id, fence), None)
        self._progress.pop((job_id, fence), None)
        self._previews.pop((job_id, fence), None)

    async def _send(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            if report := self._take():
                try:
                    async with asyncio.timeout(CALL_TIMEOUT_S):
                        given_up: dict[str, int] = await call_registry(
                            self._app_name, "report", report
                        )
                    if given_up:
                        self._drop(given_up)
                    for job_id, fence, _ in report["admitted"]:
                        if noted := self._unnoted.pop((job_id, fence), None):
                            noted.set()
                except Exception as error:  # nothing may end this loop: jobs would seem to wait
                    log.warning("the registry did not take a report: %s", error)
                    self._again(report)
                await asyncio.sleep(PACE_S)

    def _again(self, report: Report) -> None:
        """Say once more who is admitted, with the next call. Progress comes anew by itself."""
        for job_id, fence, solo_seconds in report["admitted"]:
            if (job_id, fence) in self._here:
                self._admitted.setdefault((job_id, fence), solo_seconds)
                self._something.set()

    def _take(self) -> Report | None:
        admitted, self._admitted = self._admitted, {}
        progress, self._progress = self._progress, {}
        previews, self._previews = self._previews, {}
        if not (admitted or progress or previews):
            return None
        return Report(
            admitted=[(*attempt, solo) for attempt, solo in admitted.items()],
            progress=[(*attempt, said) for attempt, said in progress.items()],
            previews=[(*attempt, *look) for attempt, look in previews.items()],
        )
