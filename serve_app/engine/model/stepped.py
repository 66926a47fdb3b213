"""Stepped: the plain call of a diffusers pipeline, which goes on for one step when it is told to.

Knows a pipeline and threads; nothing of requests. The call runs in a thread of its own and stops in the
pipeline's `callback_on_step_end`. Its bits are those of the plain pipeline, because it is one.
"""

from __future__ import annotations

import copy
import threading
from typing import Any

import torch


class _Dropped(BaseException):
    """Raised in the callback, so that the pipeline's call ends. No `except Exception` of it stops that."""


class Stepped:
    """Networks are shared with other calls, so only one of them may be within `step` at a time; the scheduler
    and what a pipeline notes of a call are its own."""

    def __init__(self, pipe: Any, **call: Any) -> None:
        """Nothing runs before the first `step`, which also encodes the prompt."""
        self.pipe = copy.copy(pipe)
        self.pipe.scheduler = copy.deepcopy(pipe.scheduler)
        self.done = False
        self.steps = 0  # that were made
        self.of: int | None = None  # that there are; known after the first one
        self.latents: Any = None
        self.result: Any = None  # what the call returned
        self._error: BaseException | None = None
        self._dropped = False
        self._go, self._parked = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(call,), name="stepped", daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Go on to the end of the next step, after the last one to the call's. Raises what that raises, and
        from then on raises it again."""
        if self._error is not None:
            raise self._error
        self._go.release()
        self._parked.acquire()
        if self._error is not None:
            raise self._error

    @property
    def failed(self) -> bool:
        return self._error is not None

    def drop(self) -> None:
        """End the call where it is parked. Its thread goes by itself, and its memory with it."""
        self._dropped = True
        self._go.release()

    def join(self, seconds: float) -> bool:
        """Whether its thread has ended within this time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self, call: dict[str, Any]) -> None:
        self._go.acquire()
        try:
            if not self._dropped:
                with torch.inference_mode():
                    self.result = self.pipe(**call, callback_on_step_end=self._park)
        except BaseException as error:
            self._error = error
        self.done = True
        self._parked.release()

    def _park(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self.steps, self.of, self.latents = step + 1, pipe.num_timesteps, tensors.get("latents")
        self._parked.release()
        self._go.acquire()
        if self._dropped:
            raise _Dropped
        return tensors
