"""Turns on a virtual clock: several models share a device by its seconds, none waits for ever, and switches
take a small part of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import NamedTuple

import pytest

from serve_app.engine.costs import CostTable
from serve_app.engine.request import Request, Stage
from serve_app.engine.scheduler import Batch, Scheduler
from serve_app.engine.turns import WORTH, Switch, Turns
from tests.factories import params

SIZE = (32, 32)
SWITCH_S = 0.5
CALL_S = {"a": 0.1, "b": 0.4, "c": 0.1}  # of one call, by model


def device(budget: float, *names: str) -> Turns:
    """Models of 10 bytes each, on the host. A call takes as long for any number of rows."""
    turns = Turns(budget)
    for name in names:
        costs = CostTable(SIZE, {1: CALL_S[name], 64: 1.001 * CALL_S[name]})
        turns.join(name, Scheduler(costs), size_bytes=10)
    return turns


def request(model: str, drawing: int, *, alone: bool = False, deadline: float = 0.0) -> Request:
    return Request(params(model=model, steps=5), 0, drawing, True, deadline, alone)


class Log(NamedTuple):
    drawn: dict[str, float]  # seconds by model
    switches: list[tuple[float, str]]
    done: list[tuple[float, Request]]
    seconds: float


def run(turns: Turns, arrives: Callable[[float, Turns], None], seconds: float) -> Log:
    """`arrives(now, turns)` adds requests before each call."""
    log, now = Log(defaultdict(float), [], [], seconds), 0.0
    while now < seconds:
        arrives(now, turns)
        for started in turns.start():
            turns.started(started)
        work = turns.schedule()
        if work is None:
            now += 0.05
        elif isinstance(work, Switch):
            now += SWITCH_S
            turns.switched(work, SWITCH_S)
            log.switches.append((now, work.model))
        else:
            spent = CALL_S[work.model]
            now += spent
            log.drawn[work.model] += spent
            turns.charge(work.model, spent)
            turns.update(work)
            for request in work.requests:
                if request.stage is Stage.ENCODING:
                    turns.finish(request)
                    log.done.append((now, request))
    return log


def always(*models: str) -> Callable[[float, Turns], None]:
    """Two drawings of each model are in the engine at any time."""
    numbers = iter(range(100_000))

    def arrives(now: float, turns: Turns) -> None:
        held = Counter(r.model for r in (*turns.waiting, *turns.live))
        for model in models:
            for _ in range(2 - held[model]):
                turns.add(request(model, next(numbers), deadline=now))

    return arrives


def test_models_share_the_device_by_seconds_and_not_by_pictures() -> None:
    """A call of `b` takes four times as long. Side by side, or in turns."""
    for budget in (20, 10):
        drawn = run(device(budget, "a", "b"), always("a", "b"), 200).drawn
        assert drawn["a"] == pytest.approx(drawn["b"], rel=0.1)


def test_switches_take_a_small_part_of_the_device() -> None:
    """Whatever waits: a turn lasts until the other is ten switches behind."""
    log = run(device(10, "a", "b"), always("a", "b"), 400)
    assert 10 < len(log.switches) < 400 / (WORTH * SWITCH_S)
    assert sum(log.drawn.values()) > 0.94 * log.seconds
    together = run(device(20, "a", "b"), always("a", "b"), 400)
    assert [model for _, model in together.switches] == ["a", "b"], "each came once"


def test_nobody_waits_longer_than_the_turns_of_the_others() -> None:
    """Three models, one of which finds a place at a time. A single order of `c` comes in the middle of a
    turn."""
    turns, single, late = device(10, "a", "b", "c"), request("c", -1, deadline=1e9), list[float]()
    rest = always("a", "b")

    def arrives(now: float, turns: Turns) -> None:
        rest(now, turns)
        if now > 33 and not late:
            late.append(now)
            turns.add(single)

    log = run(turns, arrives, 120)
    (waited,) = [at - late[0] for at, request in log.done if request is single]
    assert waited < 2 * 2 * WORTH * SWITCH_S + 3 * SWITCH_S + 2


def test_the_model_on_the_device_goes_on_while_others_wait_less() -> None:
    """And an idle device takes what is wanted at once."""
    turns = device(10, "a", "b")
    turns.add(request("a", 1))
    assert turns.start() == []
    assert turns.schedule() == Switch("a", ())
    turns.switched(Switch("a", ()), SWITCH_S)
    assert turns.switch_to("b") == Switch("b", ("a",))
    turns.switched(Switch("b", ("a",)), SWITCH_S)
    assert turns.places() == {"a": False, "b": True}
    assert turns.schedule() == Switch("a", ("b",)), "`b` has nothing to do"
    turns.switched(Switch("a", ("b",)), SWITCH_S)
    turns.add(request("b", 2))
    (started,) = turns.start()
    turns.started(started)
    batch = turns.schedule()
    assert isinstance(batch, Batch)
    assert batch.model == "a"
    turns.charge("a", WORTH * SWITCH_S)
    assert turns.schedule() == Switch("b", ("a",)), "now it is far enough behind"


def test_who_leaves_first_has_nothing_to_do_and_drew_longest_ago() -> None:
    turns = device(20, "a", "b", "c")
    for name in ("a", "b"):
        turns.add(request(name, 1))
        for _ in range(30):
            for started in turns.start():
                turns.started(started)
            work = turns.schedule()
            if isinstance(work, Switch):
                turns.switched(work, SWITCH_S)
            elif work is not None:
                turns.update(work)
                for drawn in work.requests:
                    if drawn.stage is Stage.ENCODING:
                        turns.finish(drawn)
    turns.add(request("c", 3))
    turns.start()
    assert turns.schedule() == Switch("c", ("a",))


def test_weights_stay_while_prompts_are_encoded_with_them() -> None:
    """Another thread reads them then. Meanwhile the model draws, and begins nothing more."""
    turns = device(10, "a", "b")
    turns.switched(turns.switch_to("b"), SWITCH_S)
    turns.switched(turns.switch_to("a"), SWITCH_S)
    turns.add(request("a", 1))
    (encoding,) = turns.start()
    turns.add(request("b", 2))
    assert turns.start() == []
    assert turns.schedule() is None
    turns.charge("a", 2 * WORTH * SWITCH_S)
    assert turns.schedule() is None
    turns.add(request("a", 3))
    assert turns.start() == []
    turns.started(encoding)
    assert turns.schedule() == Switch("b", ("a",))
    assert turns.start() == [], "they have left"


def test_a_drawing_under_quarantine_has_the_device_for_itself() -> None:
    """Also when the others are of another model, and whoever is on the device."""
    turns = device(20, "a", "b")
    for name in ("a", "b"):
        turns.switched(turns.switch_to(name), SWITCH_S)
    turns.add(request("a", 1, deadline=1.0))
    (first,) = turns.start()
    turns.started(first)
    turns.add(request("b", 2, deadline=2.0, alone=True))
    turns.add(request("a", 3, deadline=3.0))
    assert turns.start() == []
    turns.drop(first)
    (suspect,) = turns.start()
    assert suspect.alone
    turns.drop(suspect)
    assert [started.drawing for started in turns.start()] == [3]


def test_out_of_memory_beside_others_means_that_they_leave() -> None:
    turns = device(20, "a", "b")
    for name in ("a", "b"):
        turns.switched(turns.switch_to(name), SWITCH_S)
        turns.add(request(name, ord(name)))
    for started in turns.start():
        turns.started(started)
    batch = turns.schedule()
    assert isinstance(batch, Batch)
    assert turns.make_room(batch.model)
    switch = turns.schedule()
    assert isinstance(switch, Switch)
    assert set(switch) == {batch.model, ("b" if batch.model == "a" else "a",)}
    turns.switched(switch, 0.0)
    assert not turns.make_room(batch.model), "there is no other"
    again = turns.schedule()
    assert isinstance(again, Batch)
    assert again.model == batch.model
