"""Answers that hold one job: codes and headers."""

from __future__ import annotations

import pytest

from serve_app.api.job_texts import JobTexts
from serve_app.api.routes.answers import accepted, current
from serve_app.api.view import LocalView
from tests.factories import job_view


@pytest.mark.parametrize(("eta", "after"), [(None, "1"), (0.4, "1"), (20.0, "5"), (900.0, "15")])
def test_a_live_job_says_when_to_ask_again(eta: float | None, after: str) -> None:
    """After a quarter of its time, from 1 to 15 s."""
    response = current(JobTexts(LocalView()), job_view(eta_seconds=eta), "")
    assert response.headers["retry-after"] == after


def test_a_final_job_need_not_be_asked_again() -> None:
    response = current(JobTexts(LocalView()), job_view(status="FAILURE"), "")
    assert (response.status_code, "retry-after" in response.headers) == (200, False)


def test_a_known_revision_has_no_body() -> None:
    response = current(JobTexts(LocalView()), job_view(rev="3.117"), "", 'W/"3.117"', waited=5)
    assert (response.status_code, response.body) == (304, b"")
    assert response.headers["etag"] == 'W/"3.117"'
    assert response.headers["preference-applied"] == "wait=5"


@pytest.mark.parametrize(
    ("status", "waited", "code"),
    [("PENDING", None, 202), ("PENDING", 5, 202), ("SUCCESS", None, 202), ("SUCCESS", 5, 200)],
)
def test_an_accepted_order_is_200_only_if_its_end_was_waited_for(
    status: str, waited: int | None, code: int
) -> None:
    response = accepted(JobTexts(LocalView()), job_view("a", status=status), "", waited=waited)
    assert (response.status_code, response.headers["location"]) == (code, "/v1/jobs/a")
    assert "idempotency-replayed" not in response.headers
