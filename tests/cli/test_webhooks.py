"""assets webhooks: the file of a server on this machine, and what a server tells of its calls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serve_app.secret_files import fingerprint
from serve_app.webhooks.owners import HookOwners
from tests.cli.harness import Talk, run
from tests.scripted import problem, reply

URL = "https://build.example/hooks/art"
ID = "msg_019aab42-7c1e-7d30-9f6a-2b54c1f0a3de_completed"
DELIVERY = {"delivery_id": ID, "state": "failed", "tries": 10, "url": URL,
            "reason": "the receiver answered 500"}  # fmt: skip


def test_a_secret_is_made_replaced_and_taken_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ("--file", str(tmp_path / "webhooks.yaml"))
    secrets: list[str] = []
    for command in ("add", "rotate"):
        assert run("webhooks", command, "studio", *file) == 0
        secrets.append(capsys.readouterr().out.strip())
    owner = HookOwners.load(tmp_path / "webhooks.yaml").owners["studio"]
    assert owner.secrets == (secrets[1], secrets[0])
    assert run("webhooks", "url", "studio", URL, "--event", "output", *file) == 0
    capsys.readouterr()
    assert run("webhooks", "list", *file) == 0
    listed = capsys.readouterr().out
    assert all(fingerprint(secret) in listed for secret in secrets)
    assert not any(secret in listed for secret in secrets)
    assert URL in listed
    assert run("webhooks", "retire", "studio", *file) == 0
    assert run("webhooks", "remove", "studio", *file) == 0
    assert HookOwners.load(tmp_path / "webhooks.yaml").owners == {}


def test_a_url_that_can_never_be_called_is_not_stored(tmp_path: Path) -> None:
    file = ("--file", str(tmp_path / "webhooks.yaml"))
    run("webhooks", "add", "studio", *file)
    for url in ("http://build.example/", "https://127.1/", "https://user@build.example/"):
        assert "url: " in str(run("webhooks", "url", "studio", url, *file))
    assert "no such event" in str(run("webhooks", "url", "studio", URL, "--event", "end", *file))
    assert HookOwners.load(tmp_path / "webhooks.yaml").owners["studio"].url == ""


def test_what_came_of_calls_is_listed_and_asked_for_again(
    talk: Talk, capsys: pytest.CaptureFixture[str]
) -> None:
    server = talk(reply({"results": [DELIVERY], "next": None}))
    assert run("webhooks", "deliveries", "--job", "x", "--state", "failed", "--limit", "3") == 0
    printed = capsys.readouterr().out
    assert ID in printed
    assert "the receiver answered 500" in printed
    assert server.asked == ["GET /v1/webhooks/deliveries?job_id=x&state=failed&limit=3"]
    server = talk(reply({**DELIVERY, "state": "waiting"}, 202))
    assert run("webhooks", "redeliver", ID) == 0
    assert capsys.readouterr().out == f"{ID}  waiting  {URL}\n"
    assert server.asked == [f"POST /v1/webhooks/deliveries/{ID}/redeliver"]


def test_a_receiver_is_tried(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    server = talk(reply(DELIVERY, 202))
    assert run("webhooks", "test", URL) == 0
    assert ID in capsys.readouterr().out
    assert json.loads(server.requests[0].content) == {"url": URL}
    server = talk(problem(422, "invalid_field"))
    assert run("webhooks", "test") != 0
    assert json.loads(server.requests[0].content) == {}
