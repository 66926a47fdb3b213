"""assets: the command line, against the real service and against answers in turn."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app import __version__
from serve_app.api.keys import ApiKeys, KeyFile
from serve_app.catalog.models import load_models
from serve_app.catalog.styles import load_styles
from serve_app.cli import main
from serve_app.client import Client
from serve_app.config import PROJECT_ROOT
from tests.api.harness import Site, site
from tests.factories import JOB_ID
from tests.jobs.harness import ERROR, World
from tests.scripted import (
    Scripted,
    cancelled,
    job_object,
    page,
    problem,
    progress,
    reply,
    sse,
    stream,
)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Site]:
    """The service that `assets` talks to. Each job is drawn as soon as it is launched."""
    with site(tmp_path) as served:
        monkeypatch.setenv("ASSETS_SERVER", served.url)
        drawing = served.portal.start_task_soon(draw_all, served.world)
        yield served
        drawing.cancel()


async def draw_all(world: World) -> None:
    """For ever. A job of two images fails."""
    seq = 0
    while True:
        for (job_id, fence), (ticket, _) in list(world.launcher.running.items()):
            if ticket["summary"]["n"] == 1:
                await world.draw(job_id, fence)
            else:
                await world.started(job_id, fence)
                await world.fail(job_id, fence, ERROR)
        seq = (await world.registry.watch(world.registry.epoch, seq, 0.05))["seq"]


def run(*args: str) -> int | str | None:
    with pytest.raises(SystemExit) as exit_:
        main(args)
    return exit_.value.code


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"assets {__version__}\n"


def test_a_shell_completes_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_ASSETS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "assets ge")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert run() == 0
    assert capsys.readouterr().out.split() == ["generate"]


def test_a_shell_is_given_its_completion(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_ASSETS_COMPLETE", "source_bash")
    assert run() == 0
    assert "complete -o default -F _assets_completion assets" in capsys.readouterr().out


def test_generate_prints_path_and_url(
    service: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "mine"
    assert run("generate", "a red potion", "--style", "icon", "--out", str(to)) == 0
    path, url = capsys.readouterr().out.splitlines()
    (name,) = service.world.files.names()
    assert Path(path) == to / name
    assert Path(path).read_bytes() == (service.world.files.root / name).read_bytes()
    assert url == f"{service.url}/output/{name}  (seed 1)"


def test_generate_without_out_prints_the_url(
    service: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("generate", "a red potion", "--seed", "7") == 0
    assert capsys.readouterr().out.startswith(f"{service.url}/output/")


def test_a_failed_job_ends_with_its_reason(service: Site) -> None:
    message = run("generate", "a red potion", "-n", "2")
    assert isinstance(message, str)
    assert message.endswith(f"ended as FAILURE: {ERROR['title']}: {ERROR['detail']}")


def test_a_wrong_order_ends_with_one_line(service: Site) -> None:
    message = run("generate", "a red potion", "--style", "nope")
    assert message == "assets: style_id: no such style (allowed: icon, none, portrait)"


def test_no_server_is_one_clear_line() -> None:
    message = run("styles", "--server", "http://127.0.0.1:9")
    assert message == (
        "assets: no server answers at http://127.0.0.1:9; `serve run serve_config.yaml` starts one on this "
        "machine; --server or ASSETS_SERVER names another"
    )


def test_a_size_of_another_form_is_told_in_words(service: Site) -> None:
    """And no regular expression."""
    message = run("generate", "a red potion", "--size", "256")
    assert message == (
        "assets: size: Should be WIDTHxHEIGHT in pixels, as in 128x128 (allowed: WIDTHxHEIGHT in pixels, "
        "as in 128x128, null)"
    )


def test_a_style_of_another_model_comes_with_the_next_step(service: Site) -> None:
    """What can be ordered here, and how the other model is served."""
    message = str(run("generate", "a red potion", "--style", "portrait"))
    assert (
        "models that can: other. To serve other, whoever runs the server sets `model: other`"
        in message
    )
    assert message.endswith("(allowed: none, icon)")


def test_an_order_without_a_style_leaves_it_to_the_server(talk: Talk) -> None:
    server = talk(reply(finished(), 202), reply(finished()))
    assert run("generate", "a red potion") == 0
    assert b"style_id" not in server.requests[0].content


def test_a_tilde_is_the_home(
    service: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where the shell left it as it is: `--out=~/pictures`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run("generate", "a red potion", "--out=~/pictures") == 0
    assert len(list((tmp_path / "pictures").iterdir())) == 1
    assert run("keys", "add", "studio", "--file=~/keys") == 0
    assert (tmp_path / "keys").is_file()
    assert run("keys", "add", "studio", "--file=~nobody_of_this_name/keys") == 2
    assert "no home directory" in capsys.readouterr().err


def test_a_wrong_setting_in_the_environment_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASSETS_SLOTS", "many")
    message = str(run("keys", "list"))
    assert message.startswith(
        "assets: a setting in the environment is wrong: slots: Input should be"
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


@pytest.mark.parametrize(("command", "words"), [("styles", "icon"), ("models", "tiny")])
def test_lists(service: Site, capsys: pytest.CaptureFixture[str], command: str, words: str) -> None:
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


def test_a_key_that_is_added_is_said_to_count_from_the_next_request_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it does: `KeyFile` reads an edited file again."""
    path = tmp_path / "keys"
    run("keys", "add", "studio", "--file", str(path))
    keys = KeyFile(path)
    capsys.readouterr()
    run("keys", "add", "anna", "--file", str(path))
    key, said = capsys.readouterr()
    assert "takes the key from the next request on" in said
    assert keys.owner_of(key.strip()) == "anna"


def test_keys_are_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of an owner, or one; a service forgets them at the next request. Other lines stay."""
    path = tmp_path / "keys"
    made: list[str] = []
    for owner in ("anna", "anna", "ben"):
        run("keys", "add", owner, "--file", str(path))
        made.append(capsys.readouterr().out.strip())
    path.write_text(f"# ours\n{path.read_text()}")
    keys, first = KeyFile(path), hashlib.sha256(made[0].encode()).hexdigest()[:8]
    assert run("keys", "list", "--file", str(path)) == 0
    listed = capsys.readouterr().out
    assert (listed.count("anna"), listed.count("ben"), first in listed) == (2, 1, True)
    assert run("keys", "revoke", "anna", "--key", first, "--file", str(path)) == 0
    assert [keys.owner_of(key) for key in made] == [None, "anna", "ben"]
    assert run("keys", "revoke", "anna", "--file", str(path)) == 0
    assert [keys.owner_of(key) for key in made] == [None, None, "ben"]
    assert "No key is left" not in capsys.readouterr().err
    assert run("keys", "revoke", "ben", "--file", str(path)) == 0
    assert "No key is left" in capsys.readouterr().err
    assert path.read_text() == "# ours\n"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("which", [["ben"], ["anna", "--key", "00zz"]])
def test_a_key_that_is_not_there_cannot_be_revoked(tmp_path: Path, which: list[str]) -> None:
    path = tmp_path / "keys"
    run("keys", "add", "anna", "--file", str(path))
    before = path.read_text()
    message = str(run("keys", "revoke", *which, "--file", str(path)))
    assert f"{which[0]!r} has no key" in message
    assert path.read_text() == before


def test_keys_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    for command in (["list"], ["revoke", "anna"]):
        message = str(run("keys", *command, "--file", str(tmp_path / "no")))
        assert message == f"assets: {tmp_path}/no: the API keys cannot be read"


def test_styles_of_another_program_become_a_styles_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was left out and the next step are said; a file that is there is left alone."""
    monkeypatch.chdir(tmp_path)
    Path("mine.csv").write_text("name,prompt\nOil,oil of {prompt}\n---,\n")
    assert run("styles", "import", "mine.csv") == 0
    printed = capsys.readouterr()
    assert printed.out == "1 styles are in mine.yaml: oil\n"
    assert "line 3: '---' is left out" in printed.err
    assert "`styles:` of configs/styles.yaml" in printed.err
    models = load_models(PROJECT_ROOT / "configs/models.yaml")
    assert load_styles(Path("mine.yaml"), models)["oil"].template == "oil of {prompt}"
    assert (
        run("styles", "import", "mine.csv")
        == "assets: mine.yaml exists already: name another file with --to"
    )
    assert run("styles", "import", "mine.csv", "--to", "new.yaml") == 0
    assert run("styles", "import", "mine.csv", "--to", "no/new.yaml") == (
        "assets: no/new.yaml cannot be written: No such file or directory"
    )
    assert str(run("styles", "import", "mine.yaml")).startswith(
        "assets: mine.yaml:1: should be a CSV"
    )


def test_the_default_style_is_marked(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    style = {"style_id": "icon", "title": "Icon", "drawable": True, "description": "One."}
    talk(
        httpx.Response(
            200, json={"results": [{**style, "default": True}, {**style, "default": False}]}
        )
    )
    assert run("styles") == 0
    assert capsys.readouterr().out.count("Icon (default)") == 1


def test_a_wrong_owner_is_one_clear_line(tmp_path: Path) -> None:
    message = run("keys", "add", "a:b", "--file", str(tmp_path / "keys"))
    assert isinstance(message, str)
    assert message.startswith("assets: an owner is")


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


def finished(job_id: str = JOB_ID) -> dict[str, Any]:
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
    server = talk(httpx.Response(200, json={**said, "reason": None, "notes": ["a [note]"]}))
    assert run("generate", "a red potion", "--dry-run") == 0
    assert capsys.readouterr() == (words, "  a [note]\n")
    assert b'"dry_run":true' in server.requests[0].content


def test_a_dry_run_of_what_cannot_be(talk: Talk) -> None:
    said = {"estimated_seconds": None, "possible": False, "reason": "too large for the device"}
    talk(httpx.Response(200, json=said))
    message = run("generate", "a red potion", "--dry-run")
    assert message == "assets: not possible: too large for the device"


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


def test_a_retry_waits_and_saves(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    new = job_object(job_id=OTHER, retry_of=JOB_ID)
    server = talk(reply(new, 202), reply(new), reply(finished(OTHER)))
    assert run("retry", JOB_ID) == 0
    assert capsys.readouterr().out == "http://127.0.0.1:8000/output/x.png  (seed 7)\n"
    assert server.asked == [
        f"POST /v1/jobs/{JOB_ID}/retry",
        f"GET /v1/jobs/{OTHER}",
        f"GET /v1/jobs/{OTHER}",
    ]


def test_a_retry_of_a_job_that_lives_is_one_clear_line(talk: Talk) -> None:
    talk(problem(409, "not_final"))
    assert run("retry", JOB_ID) == "assets: It is not_final."


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
    assert run("jobs", *chosen, "--limit", "2") == 0
    (asked,) = server.asked
    assert asked == "GET /v1/jobs?status=SUCCESS&status=FAILURE&style_id=icon&tag=a&limit=2"


def test_notes_are_shown(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    noted = finished()
    noted["images"][0]["notes"] = ["prompt_truncated: 31 of 45 tokens used"]
    talk(reply(noted))
    assert run("status", JOB_ID) == 0
    assert "prompt_truncated" in capsys.readouterr().err


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
