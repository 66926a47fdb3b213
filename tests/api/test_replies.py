"""Bodies of replies: what a JobView becomes."""

from __future__ import annotations

import pytest

from serve_app.api.replies import AsOrdered, EstimateReply, JobStatusResponse, Status
from serve_app.api.streams.event_data import ProgressEvent
from serve_app.jobs.job import Status as JobStatus
from serve_app.messages import StoredFile
from serve_app.params import GenerationParams
from tests.factories import JOB_ID, image_file, job_view, labels, params, summary


def test_times_are_utc_and_images_in_order() -> None:
    files = [image_file(index=1, path="day/b.png"), image_file(index=0, path="day/a b.png")]
    job = JobStatusResponse.of(job_view(created_at=1_767_225_600.25, images=files))
    assert '"created_at":"2026-01-01T00:00:00.250000Z"' in job.model_dump_json()
    assert job.result_urls == ["/output/day/a%20b.png", "/output/day/b.png"]
    assert [image.url for image in job.images] == job.result_urls
    assert job.started_at is None


def test_an_eta_shrinks_while_it_waits_and_not_below_zero() -> None:
    view = job_view(eta_seconds=3.0)
    assert JobStatusResponse.of(view, age_s=0.66).eta_seconds == 2.3
    assert JobStatusResponse.of(view, age_s=9).eta_seconds == 0
    assert ProgressEvent.of(view, age_s=1).eta_seconds == 2
    assert JobStatusResponse.of(job_view(eta_seconds=None), age_s=9).eta_seconds is None


def test_the_request_is_as_it_was_sent() -> None:
    """Ordered again, its style is applied once more, so the prompt before the style is shown."""
    styled = params(
        subject="a sword",
        prompt="a sword, icon",
        subject_negative="text",
        negative_prompt="text, blurry",
    )
    job = JobStatusResponse.of(job_view(params=styled.model_dump()))
    assert isinstance(job.request, AsOrdered)
    assert job.resolved is not None
    assert (job.request.prompt, job.request.negative_prompt) == ("a sword", "text")
    assert (job.resolved.prompt, job.resolved.negative_prompt) == ("a sword, icon", "text, blurry")


def test_files_of_an_image_and_the_picture_before_its_effects() -> None:
    """An image of one file has that one; a job that draws nothing shows its own body."""
    asset = StoredFile(
        role="asset", path="day/b c.png", content_type="image/png", size_bytes=3, sha256="ab"
    )
    finished = image_file(path="day/b c.png", original="day/a.png", files=[asset])
    derived = summary(kind="derive", pool="cpu")
    body = {"effects": [{"op": "trim"}]}
    job = JobStatusResponse.of(
        job_view(images=[finished], summary=derived, params={"request": body}), root="/x"
    )
    assert job.images[0].original_url == "/x/output/day/a.png"
    assert [(f.role, f.url) for f in job.images[0].files] == [("asset", "/x/output/day/b%20c.png")]
    assert (job.kind, job.request, job.resolved) == ("derive", body, None)
    plain = JobStatusResponse.of(job_view(images=[image_file()])).images[0]
    assert plain.original_url == plain.url
    assert [(f.role, f.url, f.sha256) for f in plain.files] == [
        ("original", plain.url, plain.sha256)
    ]


def test_labels_are_shown_and_the_client_is_not() -> None:
    labelled = labels(client="secret", priority="low", tags=["a"], metadata={"b": 1}, retry_of="c")
    job = JobStatusResponse.of(job_view(labels=labelled))
    assert (job.priority, job.tags, job.metadata, job.retry_of) == ("low", ["a"], {"b": 1}, "c")
    assert "secret" not in job.model_dump_json()


def test_urls_are_those_of_the_job() -> None:
    urls = JobStatusResponse.of(job_view()).urls.model_dump()
    assert urls.pop("self") == f"/v1/jobs/{JOB_ID}"
    assert urls == {name: f"/v1/jobs/{JOB_ID}/{name}" for name in urls}


@pytest.mark.parametrize(
    ("seconds", "reason"), [(2.345, None), (None, None), (None, "no renderer is up")]
)
def test_an_estimate_is_possible_unless_there_is_a_reason(
    seconds: float | None, reason: str | None
) -> None:
    order: GenerationParams = params()
    estimate = EstimateReply.of(order, seconds, reason)
    assert estimate.estimated_seconds == (None if seconds is None else 2.35)
    assert (estimate.possible, estimate.reason) == (reason is None, reason)
    assert estimate.resolved.model_revision == order.model_revision


def test_an_estimate_has_the_notes_that_the_images_will_have() -> None:
    estimate = EstimateReply.of(params(prompt="a fox BREAK a hen"), 1.0, None)
    assert [note.partition(":")[0] for note in estimate.notes] == ["prompt_syntax"]
    assert EstimateReply.of(params(), 1.0, None).notes == []


def test_the_documented_statuses_are_those_of_a_job() -> None:
    assert set(Status.__args__) == set(JobStatus)
