"""Pauses: whether jobs may be launched now, and if not, why.

Knows reasons, times and names of pools; nothing of jobs, attempts or lines.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable

from serve_app.jobs.background import Background

log = logging.getLogger("assets.registry")

ABSENT_AFTER_S = 5.0
"""When no ingress has asked for changes for this long, there is no application to launch jobs for."""
LONGEST_BACKOFF_S = 15.0


class Pause:
    """Of all jobs, or of one pool's. `changed` is called when it is over."""

    def __init__(self, changed: Callable[[], None], background: Background) -> None:
        self._changed, self._background = changed, background
        self.reason: str | None = None
        self._mended: Callable[[], Awaitable[bool]] | None = None
        self._timer: asyncio.TimerHandle | None = None  # of this pause
        self._looks = False
        self._in_a_row = 0  # pauses since a job last ran to its end

    def begin(self, reason: str, mended: Callable[[], Awaitable[bool]] | None = None) -> None:
        if self.reason is not None and (self._mended is not None or mended is None):
            return
        self.reason, self._mended = reason, mended
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
        if self._mended is None:
            self._end()
        elif not self._looks:
            self._looks = True
            self._background.spawn(self._look(self._mended))

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.reason = self._mended = self._timer = None
        self._changed()

    def reset_backoff(self) -> None:
        self._in_a_row = 0


class Pauses:
    """`changed` is called whenever launching may go on."""

    def __init__(self, changed: Callable[[], None], background: Background) -> None:
        self._changed = changed
        self._of_all = Pause(changed, background)
        self._of_pool: defaultdict[str, Pause] = defaultdict(lambda: Pause(changed, background))
        self._watched_at = float("-inf")  # monotonic seconds
        self._draining = False

    def why(self, pool: str | None = None) -> str | None:
        """None: jobs may be launched. Otherwise application, draining, renderer or storage. `pool`: of which
        jobs; None: of those of any pool."""
        if self._absent():
            return "application"
        if self._draining:
            return "draining"
        if self._of_all.reason is not None:
            return self._of_all.reason
        pauses = self._of_pool.values() if pool is None else (self._of_pool[pool],)
        return next((pause.reason for pause in pauses if pause.reason), None)

    def watched(self) -> None:
        """An ingress asked for changes, so there is an application."""
        absent, self._watched_at = self._absent(), time.monotonic()
        if absent:
            self._changed()

    def pause(self, reason: str, mended: Callable[[], Awaitable[bool]] | None = None) -> None:
        """Launch nothing for a while. Each pause in a row is twice as long as the one before it. With
        `mended`, the pause goes on until it returns True; such a pause takes the place of one without."""
        self._of_all.begin(reason, mended)

    def pause_pool(
        self, pool: str, reason: str, mended: Callable[[], Awaitable[bool]] | None = None
    ) -> None:
        """As `pause`, of this pool alone."""
        self._of_pool[pool].begin(reason, mended)

    def resume_pool(self, pool: str) -> None:
        """As `resume`, of this pool alone."""
        if self._of_pool[pool].reason is not None:
            self._of_pool[pool].resume()

    def resume(self) -> None:
        """The pauses are over, or their causes may be gone. One that was begun with `mended` asks that
        first."""
        self._of_all.resume()
        for pause in self._of_pool.values():
            pause.resume()

    def reset_backoff(self, pool: str) -> None:
        """A job of this pool ran to its end: the next pause is a short one again."""
        self._of_all.reset_backoff()
        self._of_pool[pool].reset_backoff()

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
