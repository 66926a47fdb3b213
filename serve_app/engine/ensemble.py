"""Ensemble: several runners behind the interface of one. Each call goes to the one of its requests' model.

Knows which weights come and go; nothing of why, and no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from serve_app.engine.costs import Size
from serve_app.engine.request import Request, Stage
from serve_app.engine.runner import Runner
from serve_app.engine.scheduler import Scheduler
from serve_app.errors import ModelError, ServiceError
from serve_app.params import GenerationParams

log = logging.getLogger("assets.engine")


class Movable(Protocol):
    """Weights of one model: on the host always, and on the device between `bring` and `leave`."""

    size_bytes: int

    def bring(self) -> float:
        """Returns when they are there: the seconds that it took. Raises OutOfMemory; then they are not."""
        ...

    def leave(self) -> None: ...


@dataclass(slots=True)
class Loaded:
    """A model whose weights are on the host. `first`: what is to be done when they have come to the device
    for the first time, such as to measure what the calls of `scheduler` cost; it raises ModelError."""

    runner: Runner
    weights: Movable
    scheduler: Scheduler
    revision: str
    first: Callable[[], object] | None = None


class Ensemble:
    """`runner.Runner` of several models. Every method but `add` and `bring` asks the model of its request."""

    def __init__(self) -> None:
        self._known: dict[str, Loaded] = {}

    def add(self, name: str, loaded: Loaded) -> None:
        self._known[name] = loaded

    def leave_out(self, name: str) -> None:
        self._known.pop(name, None)

    def bring(self, model: str, leaves: Iterable[str]) -> float:
        """To the device, when those that leave have gone; returns the seconds that it took. In the thread
        that makes the model calls, and while no other uses the weights that leave. Raises OutOfMemory or
        ModelError; then they are not there."""
        for name in leaves:
            self._known[name].weights.leave()
        known = self._known[model]
        seconds = known.weights.bring()
        if known.first is not None:
            try:
                known.first()
            except Exception as error:
                known.weights.leave()
                if isinstance(error, ServiceError):
                    raise
                log.exception("model %r cannot draw", model)
                raise ModelError(f"model {model!r} cannot draw ({type(error).__name__})") from error
            known.first = None
        return seconds

    def made_by_of(self, request: Request) -> dict[str, Any]:
        return self._of(request).made_by_of(request)

    def guides(self, params: GenerationParams) -> bool:
        return self._known[params.model].runner.guides(params)

    def fits(self, params: GenerationParams) -> bool:
        return self._known[params.model].runner.fits(params)

    def start(self, request: Request) -> None:
        self._of(request).start(request)

    def denoise(self, requests: Sequence[Request]) -> dict[Request, Exception]:
        return self._of(requests[0]).denoise(requests)

    def decode(self, requests: Sequence[Request]) -> list[Callable[[], Any]]:
        return self._of(requests[0]).decode(requests)

    def preview(self, request: Request) -> Callable[[], Any]:
        return self._of(request).preview(request)

    def check(self, request: Request, pixels: Any) -> None:
        self._of(request).check(request, pixels)

    def notes(self, request: Request) -> list[str]:
        return self._of(request).notes(request)

    def timings(self) -> list[tuple[str, Stage, Size, int, float]]:
        return [timing for known in self._known.values() for timing in known.runner.timings()]

    def _of(self, request: Request) -> Runner:
        return self._known[request.model].runner
