"""Runner: what the engine needs of a model, and the errors that end a whole engine.

Knows shapes of calls only. `model_runner.ModelRunner` is the real one; tests put gates around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from serve_app.engine.costs import Size
from serve_app.engine.request import Request, Stage
from serve_app.errors import RenderError
from serve_app.params import GenerationParams


class DeviceLost(RenderError):
    """Every call after this one would fail too: the replica has to start anew."""

    code, title, retryable = "engine_stopped", "The device failed", True


class Stopped(RenderError):
    """Nothing more will come from this engine; another replica may draw it."""

    code, title, retryable = "engine_stopped", "The engine stopped", True


class Runner(Protocol):
    """A failed request is returned by `denoise`; a failed call raises.

    The loop's thread calls `denoise`, `decode` and `preview`; one other thread calls `start`, several
    call `check` and what `decode` and `preview` returned. Pixels are uint8 arrays (height, width, 3).
    """

    @property
    def made_by(self) -> dict[str, Any]: ...
    def guides(self, params: GenerationParams) -> bool: ...
    def fits(self, params: GenerationParams) -> bool: ...
    def start(self, request: Request) -> None: ...
    def denoise(self, requests: Sequence[Request]) -> dict[Request, Exception]: ...
    def decode(self, requests: Sequence[Request]) -> list[Callable[[], Any]]:
        """For each request what waits for its pixels. Raises NonFinite, or DeviceLost."""
        ...

    def preview(self, request: Request) -> Callable[[], Any]: ...
    def check(self, pixels: Any) -> None: ...
    def notes(self, request: Request) -> list[str]: ...
    def timings(self) -> Sequence[tuple[Stage, Size, int, float]]:
        """(stage, size, rows or images, seconds) of calls that have ended since the last time."""
        ...
