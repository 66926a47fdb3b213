"""All drawings of an engine: joining, leaving, drops, and the events that their listeners are sent."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.engine.drawing import Drawing, Listener
from serve_app.engine.drawings import Drawings
from serve_app.engine.request import Stage
from serve_app.engine.scheduler import Scheduler
from serve_app.errors import NonFinite
from tests.engine import tiny
from tests.factories import params, rendered_image, ticket


class CountingDrawings(Drawings):
    """Drawings with a count of changes, and `ask`, which is a job that joins."""

    def __init__(self, report_every: float = 0.0) -> None:
        self.changes = 0
        super().__init__(Scheduler(tiny.SharingCosts()), report_every, self._count)

    def _count(self) -> None:
        self.changes += 1

    def ask(
        self, job_id: str, *, of_ticket: dict[str, Any] | None = None, **changes: Any
    ) -> Listener:
        wanted = params(**changes)
        listener = Listener(ticket(wanted, job_id=job_id, **(of_ticket or {})), lambda: None)
        self.join(listener, wanted, guided=True)
        return listener

    def heard_by(self, listener: Listener) -> Drawing:
        return next(drawing for drawing in self if listener in drawing.listeners)


async def events_of(listener: Listener) -> list[Any]:
    """All that it was sent."""
    listener.post(None)
    return [event async for event in listener.events()]


def kinds(events: list[Any]) -> list[str]:
    return [event["kind"] for event in events]


async def test_a_new_drawing_brings_one_request_for_each_image() -> None:
    """All wait in the scheduler; the later ones are due later, so a large drawing yields to others."""
    drawings = CountingDrawings()
    drawing = drawings.heard_by(drawings.ask("a", n=3))
    assert drawings.scheduler.waiting == drawing.requests
    assert [r.index for r in drawing.requests] == [0, 1, 2]
    due = [r.deadline for r in drawing.requests]
    assert due == sorted(set(due))
    assert [drawings.of(r) for r in drawing.requests] == [drawing] * 3
    assert drawings.changes == 1


async def test_equal_params_share_a_drawing_and_its_earliest_deadline() -> None:
    """The second job brings no requests."""
    drawings = CountingDrawings()
    drawing = drawings.heard_by(drawings.ask("a"))
    before = drawing.requests[0].deadline
    assert drawings.heard_by(drawings.ask("b", of_ticket={"priority": "low"})) is drawing
    assert drawing.requests[0].deadline == before
    drawings.ask("c", of_ticket={"priority": "high"})
    assert drawing.requests[0].deadline < before
    assert (len(drawings), len(drawings.scheduler.waiting), drawings.counts["coalesced"]) == (
        1,
        1,
        2,
    )


async def test_who_joins_late_is_sent_what_is_there_already() -> None:
    """Admitted, the finished images, and progress."""
    drawings = CountingDrawings()
    drawing = drawings.heard_by(drawings.ask("a", n=2))
    drawings.admit(drawing)
    for request in drawings.scheduler.start():
        drawings.scheduler.started(request)
    drawings.deliver(drawing.requests[0], rendered_image(index=0))
    events = await events_of(drawings.ask("b", n=2))
    assert kinds(events) == ["admitted", "image", "progress"]
    assert (events[-1]["image"], events[-1]["images"]) == (1, 2)


async def test_a_drawing_without_listeners_is_forgotten_with_its_requests() -> None:
    """Not before the last of them has left."""
    drawings = CountingDrawings()
    first, second = drawings.ask("a"), drawings.ask("b")
    (request,) = drawings.scheduler.waiting
    drawings.leave(first)
    assert len(drawings) == 1
    drawings.leave(second)
    assert (len(drawings), drawings.counts["dropped"]) == (0, 1)
    assert drawings.scheduler.waiting == []
    assert request.stage is Stage.GONE
    assert drawings.of(request) is None


async def test_a_drop_ends_streams_and_refuses_the_same_attempts_later() -> None:
    """Older epochs, and these fences; the returned number is that of the streams."""
    drawings = CountingDrawings()
    old = drawings.ask("a", seed=1, of_ticket={"epoch": 1})
    dropped = drawings.ask("b", seed=2, of_ticket={"epoch": 2, "fence": 4})
    kept = drawings.ask("c", seed=3, of_ticket={"epoch": 2})
    assert drawings.drop(2, {"b": 4, "unknown": 1}) == 2
    assert [len(drawings), drawings.is_dropped(kept)] == [1, False]
    for listener in (old, dropped):
        assert drawings.is_dropped(listener)
        assert (await events_of(listener))[-1]["code"] == "dropped"


async def test_holders_are_the_newest_attempts_that_still_listen() -> None:
    """A job may have two while the older one has not been dropped yet."""
    drawings = CountingDrawings()
    for job_id, fence in (("a", 2), ("a", 3), ("b", 1)):
        drawings.ask(job_id, of_ticket={"fence": fence})
    assert drawings.holders() == {"a": 3, "b": 1}


async def test_previews_are_switched_on_for_one_job() -> None:
    """For all of its streams."""
    drawings = CountingDrawings()
    asked, twin = drawings.ask("a"), drawings.ask("b")
    assert (drawings.send_previews("a"), drawings.send_previews("nobody")) == (1, 0)
    assert (asked.wants_previews, twin.wants_previews) == (True, False)


async def test_the_last_image_ends_the_drawing() -> None:
    """Each image is followed by progress."""
    drawings = CountingDrawings()
    listener = drawings.ask("a", n=2)
    drawing = drawings.heard_by(listener)
    drawings.admit(drawing)
    for request in drawings.scheduler.start():
        drawings.scheduler.started(request)
        drawings.deliver(request, rendered_image(index=request.index))
    assert (len(drawings), drawings.counts["images"], drawings.scheduler.live) == (0, 2, [])
    events: list[Any] = [event async for event in listener.events()]
    assert [kind for kind in kinds(events) if kind != "progress"] == ["admitted", "image", "image"]
    assert (events[-1]["image"], events[-1]["eta_seconds"]) == (2, 0.0)


async def test_an_image_of_a_drawing_that_has_ended_is_ignored() -> None:
    """It was being compressed when its drawing was dropped."""
    drawings = CountingDrawings()
    listener = drawings.ask("a")
    (request,) = drawings.scheduler.waiting
    drawings.leave(listener)
    drawings.deliver(request, rendered_image(index=0))
    assert drawings.counts["images"] == 0


@pytest.mark.parametrize(
    ("error", "code"), [(NonFinite(), "non_finite"), (ValueError("a prompt"), "render_failed")]
)
async def test_a_failed_request_fails_its_drawing(error: Exception, code: str) -> None:
    """The other images are not drawn, and the text of an unknown error is not sent."""
    drawings = CountingDrawings()
    listener = drawings.ask("a", n=3)
    drawings.fail_request(drawings.scheduler.waiting[1], error)
    assert (len(drawings), drawings.scheduler.waiting, drawings.counts["failed"]) == (0, [], 1)
    (event,) = await events_of(listener)
    assert event["code"] == code
    assert "a prompt" not in event["detail"]


async def test_progress_is_sent_at_most_once_in_report_every() -> None:
    """Per drawing: one that has been silent is reported although another one was just reported."""
    drawings = CountingDrawings(report_every=3600)
    listeners = [drawings.ask("a", seed=1), drawings.ask("b", seed=2)]
    drawings.admit(drawings.heard_by(listeners[0]))
    drawings.moved(drawings.scheduler.waiting)
    drawings.moved(drawings.scheduler.waiting)
    sent = [kinds(await events_of(listener)) for listener in listeners]
    assert sent == [["admitted", "progress"], ["progress"]]
