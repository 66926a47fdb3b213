"""assets: the command line, against the real app behind a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from serve_app.__main__ import main
from serve_app.api.keys import ApiKeys
from serve_app.messages import JobView, SubmitOrder, SubmitReply
from tests.api.harness import PIXELS, MemoryRegistry, make_app, refusal, store


class QuickRegistry(MemoryRegistry):
    """Finishes each job as it comes, or fails it."""

    def __init__(self, output: Path) -> None:
        super().__init__()
        self.output = output
        self.fails = False

    async def submit(self, order: SubmitOrder) -> SubmitReply:
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
