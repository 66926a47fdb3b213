"""JobTexts: bytes are used again for as long as they say what the view says, and no longer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serve_app.api import job_texts
from serve_app.api.job_texts import JobTexts
from serve_app.api.replies import JobStatusResponse
from tests.factories import job_view


class View:
    """Stands for the LocalView: how old each job is."""

    age_s = 0.0

    def age_of(self, job: Any) -> float:
        return self.age_s


def texts_of(view: View) -> JobTexts:
    stands: Any = view
    return JobTexts(stands)


def test_a_job_that_stays_as_it_is_is_written_once() -> None:
    texts, job = texts_of(View()), job_view(status="SUCCESS")
    first = texts.of(job, "")
    assert first == JobStatusResponse.of(job).model_dump_json().encode()
    assert texts.of(job, "") is first


def test_another_state_of_the_same_revision_is_written_anew() -> None:
    """The place of a waiting job changes without a change of the job."""
    texts = texts_of(View())
    places = [7, 6]
    seen = [json.loads(texts.of(job_view(queue_position=p, rev="1.1"), "")) for p in places]
    assert [body["queue_position"] for body in seen] == places


def test_an_eta_runs_down() -> None:
    view = View()
    texts, job = texts_of(view), job_view(eta_seconds=3.0)
    first = texts.of(job, "")
    view.age_s = 0.04
    assert texts.of(job, "") is first, "3.0 is still shown"
    view.age_s = 1.2
    assert json.loads(texts.of(job, ""))["eta_seconds"] == 1.8


def test_each_prefix_has_its_own_links() -> None:
    texts, job = texts_of(View()), job_view("a")
    urls = [json.loads(texts.of(job, root))["urls"]["self"] for root in ("", "/x", "", "/x")]
    assert urls == ["/v1/jobs/a", "/x/v1/jobs/a"] * 2


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In number and in size. The oldest goes first."""
    monkeypatch.setattr(job_texts, "MOST_KEPT", 3)
    texts = texts_of(View())
    jobs = [job_view(str(number)) for number in range(5)]
    first = [texts.of(job, "") for job in jobs]
    assert len(texts) == 3
    assert texts.of(jobs[4], "") is first[4]
    monkeypatch.setattr(job_texts, "LARGEST_KEPT", 10)
    large = job_view("large")
    assert texts.of(large, "") == texts.of(large, "")
    assert len(texts) == 3
