"""Runner: the interface between the engine and a model, and the errors that end a whole engine.

Knows no torch. `model_runner.ModelRunner` implements it; tests subclass that to stop it between calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from serve_app.engine.costs import Size
from serve_app.engine.request import Request, Stage
from serve_app.errors import RenderError
from serve_app.params import GenerationParams


class DeviceLost(RenderError):
    """After a device error every further call would fail, so the replica has to restart."""

    code, title, retryable = "engine_stopped", "The device failed", True


class Stopped(RenderError):
    """This engine has stopped; another replica may draw the image."""

    code, title, retryable = "engine_stopped", "The engine stopped", True


class Runner(Protocol):
    """The loop's thread calls `denoise`, `decode` and `preview`; the text thread calls `start`; the encoders'
    threads call `check` and what `decode` and `preview` returned. Pixels are uint8 (height, width, 3).
    """

    def made_by_of(self, request: Request) -> dict[str, Any]:
        """What draws its image: device, dtype, versions, hash of the weights."""
        ...

    def guides(self, params: GenerationParams) -> bool:
        """Whether guidance adds a row to each evaluation."""
        ...

    def fits(self, params: GenerationParams) -> bool:
        """Whether one image of this size fits into the device's memory."""
        ...

    def start(self, request: Request) -> None:
        """Encode its prompts, draw its noise and set its `evaluations`. Raises RenderError."""
        ...

    def denoise(self, requests: Sequence[Request]) -> dict[Request, Exception]:
        """One evaluation for each request. Returns those that failed alone; raises if the whole call did."""
        ...

    def decode(self, requests: Sequence[Request]) -> list[Callable[[], Any]]:
        """For each request a function that waits for its pixels. It raises NonFinite or DeviceLost."""
        ...

    def preview(self, request: Request) -> Callable[[], Any]:
        """A function that draws a rough small picture of the request as it is now, or returns None."""
        ...

    def check(self, request: Request, pixels: Any) -> None:
        """Raises Flagged when the model's safety checker refuses its finished picture."""
        ...

    def notes(self, request: Request) -> list[str]:
        """What the reader of the result should know of how it was made."""
        ...

    def timings(self) -> Sequence[tuple[str, Stage, Size, int, float]]:
        """(model, stage, size, rows or images, seconds) of the calls that have ended since it was last
        asked."""
        ...
