"""The bulletin: a changed job is made and encoded once, for however many watch."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from serve_app.encoding import decoded_views
from serve_app.jobs import bulletin as bulletin_module
from serve_app.jobs.bulletin import KEPT_S, Bulletin
from serve_app.jobs.job import Job, Status
from serve_app.messages import JobView
from tests.factories import job


@dataclass
class Views:
    made: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    now: float = 100.0

    def monotonic(self) -> float:
        return self.now

    def view(self, of: Job) -> JobView:
        self.made.append((of.job_id, of.seq))
        return of.view(1, position=len(self.made))


@pytest.fixture(name="views")
def _views(monkeypatch: pytest.MonkeyPatch) -> Views:
    views = Views()
    monkeypatch.setattr(bulletin_module, "time", views)
    return views


def test_each_revision_is_made_once_and_told_as_often_as_asked(views: Views) -> None:
    bulletin = Bulletin(views.view)
    first, second = job(job_id="a", seq=1), job(job_id="b", seq=2)
    told = decoded_views(bulletin.of([first, second]))
    assert told == [first.view(1, position=1), second.view(1, position=2)]
    assert decoded_views(bulletin.of([second])) == [second.view(1, position=2)]
    assert decoded_views(bulletin.of([])) == []
    changed = first.evolve(seq=3, status=Status.STARTED)
    assert [view["status"] for view in decoded_views(bulletin.of([changed]))] == ["STARTED"]
    assert views.made == [("a", 1), ("b", 2), ("a", 3)]


@pytest.mark.parametrize("steps", [[2.5], [1.5, 1.5], [1.5, 0.5, 0.9]])
def test_what_is_older_is_made_again_and_nothing_is_held_for_long(
    views: Views, steps: list[float]
) -> None:
    """A waiting job moves up without a change of its own."""
    bulletin = Bulletin(views.view)
    one = job(seq=1)
    bulletin.of([one])
    for step in steps:
        views.now += step * KEPT_S
        bulletin.of([])
    bulletin.of([one])
    assert len(views.made) == 2
    views.now += 3 * KEPT_S
    bulletin.of([])
    assert not bulletin._newer
    assert not bulletin._older
