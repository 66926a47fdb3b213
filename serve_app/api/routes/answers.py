"""Answers that hold one job: its body, its status code and its headers.

Knows HTTP and the job object; asks nobody.
"""

from __future__ import annotations

from fastapi import Response

from serve_app.api.headers import names_revision
from serve_app.api.job_texts import JobTexts
from serve_app.messages import TERMINAL, JobView

POLL_S = (1, 15)  # shortest and longest Retry-After of a job that is not final


def accepted(
    texts: JobTexts,
    job: JobView,
    root: str,
    *,
    replayed: bool = False,
    waited: int | None = None,
) -> Response:
    """202 with `Location`; 200 if the client waited and the job is final. `waited`: seconds that were granted
    to `Prefer: wait`. `root`: prefix of every link. `replayed`: an earlier request with the same
    Idempotency-Key made the job."""
    done = waited is not None and job["status"] in TERMINAL
    response = _whole(texts, job, root, 200 if done else 202)
    response.headers["Location"] = f"{root}/v1/jobs/{job['job_id']}"
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return _with_wait(response, waited)


def current(
    texts: JobTexts,
    job: JobView,
    root: str,
    if_none_match: str | None = None,
    waited: int | None = None,
) -> Response:
    """200 with the job as it is; 304 if the client has this revision already."""
    if if_none_match and names_revision(if_none_match, job["rev"]):
        return _with_wait(Response(status_code=304, headers=_headers(job)), waited)
    return _with_wait(_whole(texts, job, root, 200), waited)


def _whole(texts: JobTexts, job: JobView, root: str, status: int) -> Response:
    return Response(texts.of(job, root), status, _headers(job), "application/json")


def _headers(job: JobView) -> dict[str, str]:
    headers = {"ETag": f'W/"{job["rev"]}"', "Cache-Control": "private, no-cache"}
    if job["status"] not in TERMINAL:
        shortest, longest = POLL_S
        eta = job["eta_seconds"] or 0
        headers["Retry-After"] = str(max(shortest, min(longest, round(eta / 4))))
    return headers


def _with_wait(response: Response, waited: int | None) -> Response:
    if waited is not None:
        response.headers["Preference-Applied"] = f"wait={waited}"
    return response
