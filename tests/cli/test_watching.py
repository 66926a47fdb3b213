"""assets watch, and the commands that wait for a job."""

from __future__ import annotations

import httpx
import pytest

from tests.cli.harness import OTHER, Talk, finished, run
from tests.factories import JOB_ID
from tests.scripted import (
    cancelled,
    job_object,
    problem,
    progress,
    reply,
    sse,
    stream,
)


@pytest.mark.parametrize("command", ["generate", "retry", "watch"])
def test_ctrl_c_leaves_the_job_alone_and_says_so(
    talk: Talk, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    server = talk(reply(job_object(), 202), KeyboardInterrupt())
    assert run(command, JOB_ID) == 130
    said = capsys.readouterr().err
    assert f"Job {JOB_ID} goes on." in said
    assert f"`assets cancel {JOB_ID}` ends it" in said
    assert len(server.requests) == 2
    assert not any("cancel" in asked for asked in server.asked)


def test_watching_one_job_survives_a_broken_stream(
    talk: Talk, capsys: pytest.CaptureFixture[str]
) -> None:
    talk(
        reply(job_object()),
        stream(sse("progress", progress(0.5)), breaks=httpx.ReadError("reset")),
        stream(sse("status", job_object("STARTED")), sse("status", finished())),
    )
    assert run("watch", JOB_ID) == 0
    assert capsys.readouterr().out == "http://127.0.0.1:8000/output/x.png  (seed 7)\n"


def test_watching_a_job_that_does_not_succeed(talk: Talk) -> None:
    talk(reply(job_object()), stream(sse("status", cancelled("deadline_exceeded"))))
    assert (
        run("watch", JOB_ID) == f"assets: job {JOB_ID} ended as REVOKED: Cancelled: By its owner."
    )


def test_watching_a_job_that_is_not_there(talk: Talk) -> None:
    talk(problem(404, "not_found"))
    assert run("watch", JOB_ID) == "assets: It is not_found."


def test_watching_all_jobs_prints_each_change_once(
    talk: Talk, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until Ctrl-C. A stream that is opened again repeats what is known."""
    server = talk(
        stream(
            sse("status", job_object()),
            sse("progress", progress(0.5)),
            sse("status", job_object("STARTED")),
            sse("status", job_object(job_id=OTHER)),
        ),
        stream(
            sse("status", job_object("STARTED")),
            sse("status", cancelled()),
            breaks=KeyboardInterrupt(),
        ),
    )
    assert run("watch") == 130
    assert capsys.readouterr().out.splitlines() == [
        f"{JOB_ID}  PENDING  a red potion",
        f"{JOB_ID}  STARTED  a red potion",
        f"{OTHER}  PENDING  a red potion",
        f"{JOB_ID}  REVOKED  Cancelled: By its owner.",
    ]
    assert server.asked == ["GET /v1/events"] * 2
