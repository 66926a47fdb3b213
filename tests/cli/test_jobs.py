"""assets jobs, status, cancel and delete."""

from __future__ import annotations

import io

import httpx
import pytest

from tests.api.harness import Site
from tests.cli.harness import OTHER, Talk, finished, run
from tests.factories import JOB_ID
from tests.scripted import (
    cancelled,
    job_object,
    page,
    problem,
    reply,
)


def test_a_job_is_listed_and_its_status_told(
    service: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    run("generate", "a red potion")
    capsys.readouterr()
    assert run("jobs") == 0
    _, line = capsys.readouterr().out.splitlines()
    job_id = line.split()[0]
    assert run("status", job_id) == 0
    assert capsys.readouterr().out.startswith("SUCCESS")


def test_cancel_prints_what_became_of_each(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    """A job that is refused does not keep the next one from it."""
    server = talk(problem(404, "not_found"), reply(cancelled()))
    assert run("cancel", OTHER, JOB_ID) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{JOB_ID}  REVOKED\n"
    assert printed.err == f"{OTHER}  It is not_found.\n"
    assert server.asked == [f"POST /v1/jobs/{OTHER}/cancel", f"POST /v1/jobs/{JOB_ID}/cancel"]


def test_delete_asks_first(
    talk: Talk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    server = talk(httpx.Response(204), problem(410, "deleted"))
    assert run("delete", JOB_ID, OTHER) == 0
    printed = capsys.readouterr()
    assert printed.out.split() == [JOB_ID, "deleted", OTHER, "deleted"]
    assert "Delete 2 job(s) with all files?" in printed.err
    assert server.asked == [f"DELETE /v1/jobs/{JOB_ID}", f"DELETE /v1/jobs/{OTHER}"]


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_delete_takes_only_yes_for_yes(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    server = talk()
    assert run("delete", JOB_ID) == 1
    assert server.asked == []


def test_delete_does_not_ask_who_said_yes(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    talk(problem(410, "expired"))
    assert run("delete", JOB_ID, "--yes") == 1
    assert capsys.readouterr().err == f"{JOB_ID}  It is expired.\n"


def test_jobs_are_a_table(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids are whole in a narrow terminal, prompts are one line."""
    long = {"request": {"prompt": "a [red] potion\nin a bottle " + "x" * 90, "style_id": "icon"}}
    talk(page(job_object(eta_seconds=None), {**finished(OTHER), **long}))
    assert run("jobs") == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["job", "status", "place", "created", "style", "prompt"]
    assert first.split()[:3] == [JOB_ID, "PENDING", "1"]
    assert first.split()[-4:] == ["icon", "a", "red", "potion"]
    assert second.split()[:2] == [OTHER, "SUCCESS"]
    _, shown = second.rstrip().split("icon      ")
    assert shown.startswith("a [red] potion in a bottle xxx")
    assert shown.endswith("…")
    assert len(shown) <= 40


def test_a_place_in_line_has_its_seconds(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    talk(page(job_object(queue_position=3)))
    run("jobs")
    assert "3, 12 s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("eta", "place"), [(10.2, "running, 10 s"), (None, "running"), (130.0, "running, 130 s")]
)
def test_a_running_job_is_said_to_run(
    talk: Talk, capsys: pytest.CaptureFixture[str], eta: float | None, place: str
) -> None:
    talk(page(job_object("STARTED", queue_position=None, eta_seconds=eta)))
    run("jobs")
    assert f"STARTED  {place}  " in capsys.readouterr().out


def test_jobs_are_filtered_and_limited(talk: Talk) -> None:
    server = talk(page(job_object(), job_object(), then="/v1/jobs?cursor=x"))
    chosen = ["--status", "success", "--status", "FAILURE", "--style", "icon", "--tag", "a"]
    chosen += ["--words", "red pot", "--starred", "--rating", "3"]
    assert run("jobs", *chosen, "--limit", "2") == 0
    (asked,) = server.asked
    filters = "style_id=icon&tag=a&q=red+pot&starred=true&rating=3"
    assert asked == f"GET /v1/jobs?status=SUCCESS&status=FAILURE&{filters}&limit=2"


def test_notes_are_shown(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    noted = finished()
    noted["images"][0]["notes"] = ["prompt_truncated: 31 of 45 tokens used"]
    talk(reply(noted))
    assert run("status", JOB_ID) == 0
    assert "prompt_truncated" in capsys.readouterr().err
