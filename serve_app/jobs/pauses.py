"""Pauses: whether jobs may be launched now, and if not, why.

Knows reasons and times, and which pools need a renderer; nothing of jobs, attempts or lines.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from serve_app.jobs.background import Background
from serve_app.jobs.lines import needs_renderer

log = logging.getLogger("assets.registry")

ABSENT_AFTER_S = 5.0
"""When no ingress has asked for changes for this long, there is no application to launch jobs for."""
LONGEST_BACKOFF_S = 15.0


class Pauses:
    """`changed` is called whenever launching may go on."""

    def __init__(self, changed: Callable[[], None], background: Background) -> None:
        self._changed, self._background = changed, background
        self._reason: str | None = None
        self._mended: Callable[[], Awaitable[bool]] | None = None
        self._timer: asyncio.TimerHandle | None = None  # of this pause
        self._looks = False
        self._in_a_row = 0  # pauses since a job last ran to its end
        self._watched_at = float("-inf")  # monotonic seconds
        self._draining = False

    def why(self, pool: str | None = None) -> str | None:
        """None: jobs may be launched. Otherwise application, draining, renderer or storage. `pool`: of which
        jobs; None: of those that need a renderer."""
        if self._absent():
            return "application"
        if self._draining:
            return "draining"
        if self._reason == "renderer" and pool is not None and not needs_renderer(pool):
            return None
        return self._reason

    def watched(self) -> None:
        """An ingress asked for changes, so there is an application."""
        absent, self._watched_at = self._absent(), time.monotonic()
        if absent:
            self._changed()

    def pause(self, reason: str, mended: Callable[[], Awaitable[bool]] | None = None) -> None:
        """Launch nothing for a while. Each pause in a row is twice as long as the one before it. With
        `mended`, the pause goes on until it returns True; such a pause takes the place of one without."""
        if self._reason is not None and (self._mended is not None or mended is None):
            return
        self._reason, self._mended = reason, mended
        self._wait()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = backoff(0.25, self._in_a_row)
        self._in_a_row += 1
        self._timer = asyncio.get_running_loop().call_later(delay, self.resume)

    async def _look(self, mended: Callable[[], Awaitable[bool]]) -> None:
        try:
            over = await mended()
        except Exception:  # it cannot be told, and a pause must not last for ever
            log.exception("whether launching may go on")
            over = False
        finally:
            self._looks = False
        if over:
            self._end()
        else:
            self._wait()

    def resume(self) -> None:
        """The pause is over, or its cause may be gone. One that was begun with `mended` asks that first."""
        if self._mended is None:
            self._end()
        elif not self._looks:
            self._looks = True
            self._background.spawn(self._look(self._mended))

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._reason = self._mended = self._timer = None
        self._changed()

    def reset_backoff(self) -> None:
        """A job ran to its end: the next pause is a short one again."""
        self._in_a_row = 0

    def drain(self) -> None:
        """Launch nothing more until `cancel_drain`."""
        self._draining = True

    def cancel_drain(self) -> None:
        """An ingress came up that keeps this registry. Cancels a drain whose replacement never happened."""
        self._draining = False
        self.resume()

    def _absent(self) -> bool:
        return time.monotonic() - self._watched_at > ABSENT_AFTER_S


def backoff(first_s: float, times: int) -> float:
    """Seconds, doubled each time up to 15 s. Without its bound the exponent would overflow a float after
    some thousand pauses in a row, which is one night without a renderer."""
    return min(LONGEST_BACKOFF_S, first_s * 2 ** min(times, 10))
