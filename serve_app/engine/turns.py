"""Turns: which of several models draws next. Each has a scheduler of its own for its requests.

Start-time fair queueing, as in `jobs/line.py`: the calls of a model advance its clock by the seconds they
took, and the model whose clock is furthest behind is next. Weights that find no place beside others take
turns on the device. Knows bytes and seconds; no torch, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from serve_app.engine.costs import CostTable, Size
from serve_app.engine.request import Request, Stage
from serve_app.engine.scheduler import Batch, Scheduler, startable

WORTH = 10
"""A model takes the place of one that has work as soon as it is behind by so many times the seconds that
bringing its weights takes. So it waits no longer, and switches take a tenth of the device at most."""
SWITCH_RATE = 0.3  # weight of the newest switch in the estimate of the next


class Switch(NamedTuple):
    """The weights of these models leave the device, and then those of `model` come, unless they are there."""

    model: str
    leaves: tuple[str, ...]


@dataclass(eq=False, slots=True)
class Member:
    """One model. `seconds`: expected to bring its weights to the device; 0 before they first came."""

    name: str
    scheduler: Scheduler
    size_bytes: int
    seconds: float = 0.0
    resident: bool = False
    clock: float = 0.0  # seconds of the device that it had, in virtual time
    has_work: bool = False
    drawn: int = 0  # number of its newest call, among those of all


class Turns:
    """As `Scheduler`, for requests of several models. `budget`: bytes of the device for weights; a model
    that is larger gets the device for itself."""

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self._members: dict[str, Member] = {}
        self._leaving: set[str] = set()  # they begin nothing more, so that they can go
        self._startable: list[Request] = []  # when `start` was last called
        self._now = 0.0  # virtual time: the clock of the model that was last served
        self._calls = 0

    def join(self, name: str, scheduler: Scheduler, size_bytes: int) -> None:
        """A model whose weights are on the host."""
        self._members[name] = Member(name, scheduler, size_bytes)

    def leave_out(self, name: str) -> None:
        """It has no requests."""
        self._members.pop(name, None)

    # ---- as Scheduler ----

    @property
    def waiting(self) -> list[Request]:
        return [r for member in self._members.values() for r in member.scheduler.waiting]

    @property
    def live(self) -> list[Request]:
        return [r for member in self._members.values() for r in member.scheduler.live]

    def add(self, request: Request) -> None:
        self._of(request).add(request)

    def drop(self, request: Request) -> None:
        self._of(request).drop(request)

    finish = drop

    def started(self, request: Request) -> None:
        self._of(request).started(request)

    def start(self) -> list[Request]:
        """Only of models that are on the device, and stay there."""
        self._startable = startable(self.waiting, self.live)
        starting: list[Request] = []
        for name, member in self._members.items():
            if member.resident and name not in self._leaving:
                own = [r for r in self._startable if r.model == name]
                starting += member.scheduler.begin(own)
        return starting

    def schedule(self) -> Batch | Switch | None:
        """The next call, or what has to come to the device for it. Call `start` before it."""
        work = self._with_work()
        self._leaving = set()
        if not work:
            return None
        here = [member for member in work if member.resident]
        comes = work[0] if self._is_worth(work[0], here) else here[0]
        leaves = self._too_many(comes)
        if leaves or not comes.resident:
            # The encoding of a request that was dropped may still run. It may fail, and nobody waits for it.
            if not any(r.stage is Stage.STARTING for m in leaves for r in m.scheduler.live):
                return self._switch(comes.name, leaves)
            self._leaving = {member.name for member in leaves}
        for member in here:
            if (batch := self._of_name(member.name).schedule()) is not None:
                self._calls += 1
                self._now, member.drawn = member.clock, self._calls
                return batch
        return None

    def update(self, batch: Batch) -> None:
        self._of_name(batch.model).update(batch)

    def cut(self, batch: Batch) -> None:
        self._of_name(batch.model).cut(batch)

    def observe(self, model: str, stage: Stage, size: Size, number: int, seconds: float) -> None:
        self._of_name(model).observe(model, stage, size, number, seconds)

    def costs_of(self, model: str) -> CostTable:
        return self._of_name(model).costs

    def solo_seconds(self, request: Request) -> float:
        return self._of(request).solo_seconds(request)

    def alone_seconds(self, requests: list[Request]) -> float:
        return self._of(requests[0]).alone_seconds(requests)

    def occupied(self, batch: Batch) -> float:
        return self._of_name(batch.model).occupied(batch)

    # ---- places on the device ----

    def charge(self, model: str, seconds: float) -> None:
        """One of its calls took so long."""
        self._members[model].clock += seconds

    def switched(self, switch: Switch, seconds: float) -> None:
        """It was made, and took so long."""
        member = self._members[switch.model]
        if not member.resident:
            member.resident = True
            known = member.seconds
            member.seconds = known + SWITCH_RATE * (seconds - known) if known else seconds

    def switch_to(self, name: str) -> Switch:
        """Whoever has work. Those that have to leave for it count as gone from now on."""
        return self._switch(name, self._too_many(self._members[name]))

    def _switch(self, name: str, leaves: list[Member]) -> Switch:
        for member in leaves:
            member.resident = False
        return Switch(name, tuple(member.name for member in leaves))

    def make_room(self, model: str) -> bool:
        """This model has run out of memory: it did not fit beside the others. False: there is no other."""
        others = [m.size_bytes for m in self._members.values() if m.resident and m.name != model]
        if others:
            self.budget = min(self.budget, sum(others) + self._members[model].size_bytes - 1)
        return bool(others)

    @property
    def schedulers(self) -> dict[str, Scheduler]:
        return {name: member.scheduler for name, member in self._members.items()}

    def sizes(self) -> dict[str, int]:
        """Model -> bytes of its weights."""
        return {name: member.size_bytes for name, member in self._members.items()}

    def places(self) -> dict[str, bool]:
        """Model -> whether its weights are on the device."""
        return {name: member.resident for name, member in self._members.items()}

    def _with_work(self) -> list[Member]:
        """Those that have work, the one furthest behind first. One that had none has saved up no credit."""
        wanted = {r.model for r in self._startable}
        for member in self._members.values():
            ready = any(r.stage is not Stage.ENCODING for r in member.scheduler.live)
            if ready or member.name in wanted:
                if not member.has_work:
                    member.clock = max(member.clock, self._now)
                member.has_work = True
            else:
                member.has_work = False
        return sorted(
            (member for member in self._members.values() if member.has_work),
            key=lambda member: member.clock,
        )

    def _is_worth(self, first: Member, here: list[Member]) -> bool:
        """Whether it draws next. `here`: those with work that are on the device, by their clocks."""
        if first.resident or not here:
            return True
        return here[0].clock - first.clock >= WORTH * first.seconds

    def _too_many(self, comes: Member) -> list[Member]:
        """Who leaves so that this one fits: first those without work that drew longest ago, then those that
        are furthest ahead."""
        others = [m for m in self._members.values() if m.resident and m is not comes]
        others.sort(key=lambda m: (m.has_work, -m.clock if m.has_work else m.drawn))
        held = comes.size_bytes + sum(member.size_bytes for member in others)
        leaves: list[Member] = []
        while others and held > self.budget:
            leaves.append(others.pop(0))
            held -= leaves[-1].size_bytes
        return leaves

    def _of(self, request: Request) -> Scheduler:
        return self._of_name(request.model)

    def _of_name(self, model: str) -> Scheduler:
        return self._members[model].scheduler
