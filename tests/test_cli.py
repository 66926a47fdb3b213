"""assets: the command line, against the real app behind a real socket, and against answers in turn."""

from __future__ import annotations

import functools
import io
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from serve_app.api.keys import ApiKeys
from serve_app.cli import main
from serve_app.client import Client
from serve_app.messages import JobView, Submission, SubmitReply
from tests.api.harness import PIXELS, MemoryRegistry, make_app, refusal, store
from tests.test_client import (
    ID,
    Scripted,
    cancelled,
    job_object,
    page,
    problem,
    progress,
    reply,
    stream,
    told,
)


class QuickRegistry(MemoryRegistry):
    """Finishes each job as it comes, or fails it."""

    def __init__(self, output: Path) -> None:
        super().__init__()
        self.output = output
        self.fails = False

    async def submit(self, order: Submission) -> SubmitReply:
        reply = await super().submit(order)
        assert "job" in reply
        return SubmitReply(job=self._end(reply["job"]["job_id"]), replayed=False)

    def _end(self, job_id: str) -> JobView:
        if self.fails:
            error = refusal("out_of_memory").get("error")
            return self.change(job_id, status="FAILURE", error=error)
        store(self.output, job_id)
        return self.finish(job_id)


@pytest.fixture
def registry(tmp_path: Path) -> QuickRegistry:
    return QuickRegistry(tmp_path / "output")


class Announcing(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()


@pytest.fixture
def server(
    registry: QuickRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    config = uvicorn.Config(make_app(registry, tmp_path), port=0, ws="none", log_config=None)
    uvicorn_server = Announcing(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=uvicorn_server.run, args=([listener],))
        thread.start()
        assert uvicorn_server.listens.wait(30)
        monkeypatch.setenv("ASSETS_SERVER", url)
        yield url
        uvicorn_server.should_exit = True
        thread.join()


def run(*args: str) -> int | str | None:
    with pytest.raises(SystemExit) as exit_:
        main(args)
    return exit_.value.code


def test_generate_prints_path_and_url(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "mine"
    assert run("generate", "a red potion", "--style", "icon", "-n", "2", "--out", str(to)) == 0
    path, url = capsys.readouterr().out.splitlines()
    assert Path(path).read_bytes() == PIXELS
    assert Path(path).parent == to
    assert url.startswith(f"{server}/output/2026-11-22/icon_7_")
    assert url.endswith("(seed 7)")


def test_generate_without_out_prints_the_url(
    server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("generate", "a red potion", "--seed", "7") == 0
    assert capsys.readouterr().out.startswith(f"{server}/output/")


def test_notes_are_shown(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("generate", "a red potion")
    assert "prompt_truncated" in capsys.readouterr().err


def test_a_failed_job_ends_with_its_reason(server: str, registry: QuickRegistry) -> None:
    registry.fails = True
    told = run("generate", "a red potion")
    assert isinstance(told, str)
    assert "FAILURE" in told
    assert "Not now." in told


def test_a_wrong_order_ends_with_one_line(server: str) -> None:
    told = run("generate", "a red potion", "--style", "nope")
    assert told == "assets: style_id: no such style (allowed: icon, none, portrait)"


def test_no_server_is_one_clear_line() -> None:
    told = run("styles", "--server", "http://127.0.0.1:9")
    assert told == "assets: no server answers at http://127.0.0.1:9"


def test_status_of_a_job(
    server: str, registry: QuickRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    run("generate", "a red potion")
    (job_id,) = registry.jobs
    capsys.readouterr()
    assert run("status", job_id) == 0
    assert capsys.readouterr().out.startswith("SUCCESS")


@pytest.mark.parametrize(("command", "words"), [("styles", "icon"), ("models", "tiny")])
def test_lists(server: str, capsys: pytest.CaptureFixture[str], command: str, words: str) -> None:
    assert run(command) == 0
    assert words in capsys.readouterr().out


def test_a_new_key_is_shown_once_and_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys"
    assert run("keys", "add", "studio", "--file", str(path)) == 0
    key = capsys.readouterr().out.strip()
    assert key not in path.read_text()
    assert ApiKeys.load(path).owner_of(key) == "studio"


def test_a_wrong_owner_is_one_clear_line(tmp_path: Path) -> None:
    told = run("keys", "add", "a:b", "--file", str(tmp_path / "keys"))
    assert isinstance(told, str)
    assert told.startswith("assets: an owner is")


OTHER = "019aab42-0000-7d30-9f6a-2b54c1f0a3de"

Talk = Callable[..., Scripted]


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch) -> Talk:
    """Makes the server of the next command: it gives these answers in turn."""

    def start(*answers: httpx.Response | BaseException) -> Scripted:
        server = Scripted(*answers)
        client = functools.partial(Client, transport=server, pause=lambda _: None)
        monkeypatch.setattr("serve_app.cli.Client", client)
        return server

    return start


def finished(job_id: str = ID) -> dict[str, object]:
    image = {"url": "/output/x.png", "index": 0, "seed": 7, "width": 8, "height": 8, "notes": []}
    return job_object("SUCCESS", job_id, images=[{**image, "sha256": ""}])


def test_an_order_with_every_wish(talk: Talk) -> None:
    server = talk(reply(finished(), 202), reply(finished()))
    wishes = ["--priority", "high", "--tag", "a", "--tag", "b", "--cancel-after", "90"]
    assert run("generate", "a red potion", *wishes) == 0
    (order, _) = server.requests
    assert order.headers["cancel-after"] == "90"
    assert b'"priority":"high"' in order.content
    assert b'"tags":["a","b"]' in order.content


def test_an_order_without_wishes_is_as_before(talk: Talk) -> None:
    server = talk(reply(finished(), 202), reply(finished()))
    assert run("generate", "a red potion") == 0
    assert b"priority" not in server.requests[0].content
    assert b"tags" not in server.requests[0].content
    assert "cancel-after" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.46, "possible, about 3.5 s\n"), (None, "possible, time unknown\n")]
)
def test_a_dry_run_prints_the_estimate(
    talk: Talk, capsys: pytest.CaptureFixture[str], seconds: float | None, words: str
) -> None:
    said = {"request": {}, "resolved": {}, "estimated_seconds": seconds, "possible": True}
    server = talk(httpx.Response(200, json={**said, "reason": None}))
    assert run("generate", "a red potion", "--dry-run") == 0
    assert capsys.readouterr().out == words
    assert b'"dry_run":true' in server.requests[0].content


def test_a_dry_run_of_what_cannot_be(talk: Talk) -> None:
    said = {"estimated_seconds": None, "possible": False, "reason": "too large for the device"}
    talk(httpx.Response(200, json=said))
    told = run("generate", "a red potion", "--dry-run")
    assert told == "assets: not possible: too large for the device"


@pytest.mark.parametrize("command", ["generate", "retry", "watch"])
def test_ctrl_c_leaves_the_job_alone_and_says_so(
    talk: Talk, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    server = talk(reply(job_object(), 202), KeyboardInterrupt())
    assert run(command, ID) == 130
    said = capsys.readouterr().err
    assert f"Job {ID} goes on." in said
    assert f"`assets cancel {ID}` ends it" in said
    assert len(server.requests) == 2
    assert not any("cancel" in asked for asked in server.asked)


def test_a_retry_waits_and_saves(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    new = job_object(job_id=OTHER, retry_of=ID)
    server = talk(reply(new, 202), reply(new), reply(finished(OTHER)))
    assert run("retry", ID) == 0
    assert capsys.readouterr().out == "http://127.0.0.1:8000/output/x.png  (seed 7)\n"
    assert server.asked == [
        f"POST /v1/jobs/{ID}/retry",
        f"GET /v1/jobs/{OTHER}",
        f"GET /v1/jobs/{OTHER}",
    ]


def test_a_retry_of_a_job_that_lives_is_one_clear_line(talk: Talk) -> None:
    talk(problem(409, "not_final"))
    assert run("retry", ID) == "assets: It is not_final."


def test_cancel_prints_what_became_of_each(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    """A job that is refused does not keep the next one from it."""
    server = talk(problem(404, "not_found"), reply(cancelled()))
    assert run("cancel", OTHER, ID) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{ID}  REVOKED\n"
    assert printed.err == f"{OTHER}  It is not_found.\n"
    assert server.asked == [f"POST /v1/jobs/{OTHER}/cancel", f"POST /v1/jobs/{ID}/cancel"]


def test_delete_asks_first(
    talk: Talk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    server = talk(httpx.Response(204), problem(410, "deleted"))
    assert run("delete", ID, OTHER) == 0
    printed = capsys.readouterr()
    assert printed.out.split() == [ID, "deleted", OTHER, "deleted"]
    assert "Delete 2 job(s) with all files?" in printed.err
    assert server.asked == [f"DELETE /v1/jobs/{ID}", f"DELETE /v1/jobs/{OTHER}"]


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_delete_takes_only_yes_for_yes(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    server = talk()
    assert run("delete", ID) == 1
    assert server.asked == []


def test_delete_does_not_ask_who_said_yes(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    talk(problem(410, "expired"))
    assert run("delete", ID, "--yes") == 1
    assert capsys.readouterr().err == f"{ID}  It is expired.\n"


def test_jobs_are_a_table(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids are whole in a narrow terminal, prompts are one line."""
    long = {"request": {"prompt": "a [red] potion\nin a bottle " + "x" * 90, "style_id": "icon"}}
    talk(page(job_object(eta_seconds=None), {**finished(OTHER), **long}))
    assert run("jobs") == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["job", "status", "place", "created", "style", "prompt"]
    assert first.split()[:3] == [ID, "PENDING", "1"]
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


def test_jobs_are_filtered_and_limited(talk: Talk) -> None:
    server = talk(page(job_object(), job_object(), then="/v1/jobs?cursor=x"))
    chosen = ["--status", "success", "--status", "FAILURE", "--style", "icon", "--tag", "a"]
    assert run("jobs", *chosen, "--limit", "2") == 0
    (asked,) = server.asked
    assert asked == "GET /v1/jobs?status=SUCCESS&status=FAILURE&style_id=icon&tag=a&limit=2"


def test_watching_one_job_survives_a_broken_stream(
    talk: Talk, capsys: pytest.CaptureFixture[str]
) -> None:
    talk(
        reply(job_object()),
        stream(told("progress", progress(0.5)), breaks=httpx.ReadError("reset")),
        stream(told("status", job_object("STARTED")), told("status", finished())),
    )
    assert run("watch", ID) == 0
    assert capsys.readouterr().out == "http://127.0.0.1:8000/output/x.png  (seed 7)\n"


def test_watching_a_job_that_does_not_succeed(talk: Talk) -> None:
    talk(reply(job_object()), stream(told("status", cancelled("deadline_exceeded"))))
    assert run("watch", ID) == f"assets: job {ID} ended as REVOKED: Cancelled: By its owner."


def test_watching_a_job_that_is_not_there(talk: Talk) -> None:
    talk(problem(404, "not_found"))
    assert run("watch", ID) == "assets: It is not_found."


def test_watching_all_jobs_prints_each_change_once(
    talk: Talk, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until Ctrl-C. A stream that is opened again repeats what is known."""
    server = talk(
        stream(
            told("status", job_object()),
            told("progress", progress(0.5)),
            told("status", job_object("STARTED")),
            told("status", job_object(job_id=OTHER)),
        ),
        stream(
            told("status", job_object("STARTED")),
            told("status", cancelled()),
            breaks=KeyboardInterrupt(),
        ),
    )
    assert run("watch") == 130
    assert capsys.readouterr().out.splitlines() == [
        f"{ID}  PENDING  a red potion",
        f"{ID}  STARTED  a red potion",
        f"{OTHER}  PENDING  a red potion",
        f"{ID}  REVOKED  Cancelled: By its owner.",
    ]
    assert server.asked == ["GET /v1/events"] * 2
