"""Scheduler: which requests run the next call. Earliest deadline first, pre-empting at every step.

Knows no torch, no I/O and no clock. `start` moves requests from waiting to live, `schedule` picks the next
call, `update` counts it. Live requests hold latents, embeddings and a diffusers scheduler, so their number is
bounded; waiting ones hold no memory of the device.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serve_app.engine.costs import CostTable, Size
from serve_app.engine.request import Request, Stage

RECOVERY_CALLS = 200  # calls without running out of memory until the caps are doubled again


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that share one model call: of the UNet if `stage` is DENOISING, of the VAE if DECODING."""

    stage: Stage
    requests: list[Request]

    @property
    def model(self) -> str:
        return self.requests[0].model

    @property
    def rows(self) -> int:
        return sum(r.rows for r in self.requests) if self.stage is Stage.DENOISING else 0


class Scheduler:
    """`max_rows`: UNet rows per call. `max_live`: started requests. `max_decodes`: images per VAE call."""

    def __init__(
        self, costs: CostTable, *, max_rows: int = 16, max_live: int = 64, max_decodes: int = 4
    ) -> None:
        self.max_live = max_live
        self.measured(costs, max_rows, max_decodes)
        self.waiting: list[Request] = []
        self.live: list[Request] = []

    def measured(self, costs: CostTable, max_rows: int, max_decodes: int) -> None:
        """What calls cost, and how large they may be."""
        self.costs = costs
        self.max_rows = max_rows
        self.max_decodes = max_decodes
        self.cap = max_rows  # max_rows, or less after running out of memory
        self.decode_cap = max_decodes  # max_decodes, or less
        self._calls_since_cut = 0

    def add(self, request: Request) -> None:
        self.waiting.append(request)

    def drop(self, request: Request) -> None:
        """Forget a request. If it is in a call now, that call is its last."""
        if request.stage is not Stage.GONE:
            (self.waiting if request.stage is Stage.WAITING else self.live).remove(request)
            request.stage = Stage.GONE

    finish = drop

    def start(self) -> list[Request]:
        """Make waiting requests live, as many as may start. Call `started` for each once it is encoded."""
        return self.begin(startable(self.waiting, self.live)) if self.waiting else []

    def begin(self, requests: list[Request]) -> list[Request]:
        """`start`, of these requests alone, which are `startable`."""
        starting = self._in_shares(requests)[: max(0, self.max_live - len(self.live))]
        for request in starting:
            self.waiting.remove(request)
            self.live.append(request)
            request.stage = Stage.STARTING
        return starting

    def started(self, request: Request) -> None:
        """It has embeddings and noise, so its steps may be scheduled, unless it was dropped meanwhile."""
        if request.stage is Stage.STARTING:
            request.stage = Stage.DENOISING

    def schedule(self) -> Batch | None:
        """The next call, or None when nothing may run."""
        ready = [r for r in self.live if r.stage in (Stage.DENOISING, Stage.DECODING)]
        if not ready:
            return None
        ready.sort(key=by_deadline)
        head = ready[0]
        if head.stage is Stage.DECODING:
            return Batch(Stage.DECODING, self._decode_batch(head, ready))
        return Batch(Stage.DENOISING, self._denoise_batch(head, ready))

    def costs_of(self, model: str) -> CostTable:
        """Of the only model; `turns.Turns` has several."""
        return self.costs

    def solo_seconds(self, request: Request) -> float:
        """Predicted seconds that it still needs, if nothing else runs."""
        return self.costs.solo_seconds(request)

    def observe(self, model: str, stage: Stage, size: Size, number: int, seconds: float) -> None:
        """A call of this model has ended: `number` UNet rows, or images that were decoded."""
        if stage is Stage.DECODING:
            self.costs.observe_decode(size, number, seconds)
        else:
            self.costs.observe(size, number, seconds)

    def occupied(self, batch: Batch) -> float:
        """The share of the largest call that this one is."""
        return batch.rows / self.max_rows

    def alone_seconds(self, requests: Sequence[Request]) -> float:
        """Predicted seconds of these equal requests, sharing calls with each other, if nothing else runs."""
        total = 0.0
        while requests:
            width = self._width(requests)
            total += self.costs.solo_seconds(requests[0], width)
            requests = requests[width:]
        return total

    def update(self, batch: Batch) -> None:
        """The call succeeded: count it for every request that was not dropped meanwhile."""
        for request in batch.requests:
            if request.stage is Stage.DENOISING:
                request.step += 1
                if request.denoised:
                    request.stage = Stage.DECODING
            elif request.stage is Stage.DECODING:
                request.stage = Stage.ENCODING
        self._calls_since_cut += 1
        if self._calls_since_cut % RECOVERY_CALLS == 0:
            self.cap = min(2 * self.cap, self.max_rows)
            self.decode_cap = min(2 * self.decode_cap, self.max_decodes)

    def cut(self, batch: Batch) -> None:
        """The call ran out of memory: half its size is the cap, until RECOVERY_CALLS succeed."""
        self._calls_since_cut = 0
        if batch.stage is Stage.DECODING:
            self.decode_cap = max(1, len(batch.requests) // 2)
        else:
            self.cap = max(1, batch.rows // 2)

    def _in_shares(self, startable: list[Request]) -> list[Request]:
        """At most `max_rows` live requests for each drawing, so that a large one leaves places for others."""
        held = Counter(r.drawing for r in self.live)
        chosen: list[Request] = []
        for request in startable:
            if held[request.drawing] < self.max_rows:
                held[request.drawing] += 1
                chosen.append(request)
        return chosen

    def _denoise_batch(self, head: Request, ready: Iterable[Request]) -> list[Request]:
        if head.own_call:
            return [head]
        key = head.key
        sharing = [
            r for r in ready if r.stage is not Stage.DECODING and not r.own_call and r.key == key
        ]
        return sharing[: self._width(sharing)]

    def _width(self, line: Sequence[Request]) -> int:
        """How many of these requests, from the first on, should share the next UNet call; at least one."""
        head = line[0]
        if head.own_call:
            return 1
        limit = min(self.cap, self.costs.knee(head.size, self.max_rows))
        rows, left = [r.rows for r in line], [r.evaluations - r.step for r in line]
        return self.costs.worth_sharing(head.size, rows, limit, left)

    def _decode_batch(self, head: Request, ready: Iterable[Request]) -> list[Request]:
        if head.own_call:
            return [head]
        key = head.decode_key
        sharing = [
            r for r in ready if r.stage is Stage.DECODING and not r.own_call and r.decode_key == key
        ]
        return sharing[: self.decode_cap]


def startable(waiting: Iterable[Request], live: Iterable[Request]) -> list[Request]:
    """Waiting requests that may start now beside the live ones, earliest deadline first.

    A drawing under quarantine starts when no other drawing is under way, and until it has ended no other
    starts: if the process dies meanwhile, it is the only suspect.
    """
    under_way = {r.drawing for r in live}
    closed = any(r.alone for r in live)  # to drawings that are not under way
    found: list[Request] = []
    for request in sorted(waiting, key=by_deadline):
        if request.drawing not in under_way:
            if request.alone and under_way:
                closed = True
            if closed:
                continue
            under_way.add(request.drawing)
            closed = request.alone
        found.append(request)
    return found


def by_deadline(request: Request) -> tuple[float, int, int]:
    """A sort key: the earliest deadline first; equal ones by drawing and image."""
    return request.deadline, request.drawing, request.index
