"""One call of a webhook: real TLS on a real port, and receivers that do what receivers do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from serve_app.webhooks import sending
from serve_app.webhooks.sending import Sender, Sent
from tests.webhooks.receiver import (
    ALLOWED,
    NAME,
    Answer,
    certificates,
    never,
    receiving,
    says,
    writes,
)

BODY = b'{"type": "job.completed"}'


class Names:
    """A resolver that knows build.example, and counts."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers) or [["127.0.0.1"]]
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        return list(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])


def sender(folder: Path, names: Names | None = None) -> Sender:
    return Sender(ALLOWED, certificates(folder), names or Names())


async def sent_to(folder: Path, answer: Answer) -> Sent:
    async with receiving(answer) as receiver:
        return await sender(folder).post(receiver.url, {"X-Test": "1"}, BODY)


async def test_the_body_arrives_as_it_was_signed(tmp_path: Path) -> None:
    async with receiving() as receiver:
        sent = await sender(tmp_path).post(f"{receiver.url}?a=%2F", {"webhook-id": "m"}, BODY)
        assert (sent.status, sent.error, sent.delivered) == (200, None, True)
        (call,) = receiver.calls
    assert call.line == "POST /hook?a=%2F HTTP/1.1"
    assert call.body == BODY
    assert call.headers["host"] == f"{NAME}:{receiver.port}"
    assert call.headers["webhook-id"] == "m"


STATUSES = {200: True, 204: True, 299: True, 300: False, 400: False, 410: False, 500: False}


@pytest.mark.parametrize(("status", "good"), STATUSES.items())
async def test_two_hundred_and_some_is_delivered(tmp_path: Path, status: int, good: bool) -> None:
    assert (await sent_to(tmp_path, says(status))).delivered is good


async def test_a_redirect_is_a_failure_and_is_not_followed(tmp_path: Path) -> None:
    async with receiving() as other, receiving(says(307, f"Location: {other.url}")) as receiver:
        sent = await sender(tmp_path).post(receiver.url, {}, BODY)
        assert (sent.status, sent.delivered) == (307, False)
        assert other.calls == []


async def test_no_proxy_of_the_environment_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await sent_to(tmp_path, says(200))).delivered


async def test_a_slow_receiver_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that sends a byte now and then."""
    monkeypatch.setattr(sending, "TIMEOUT_S", 0.3)

    async def drips(_: object, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await writer.drain()

    for answer in (never, drips):
        sent = await sent_to(tmp_path, answer)
        assert sent.status is None
        assert sent.error == "no answer within 0.3 s"


async def test_of_an_answer_only_the_head_is_read(tmp_path: Path) -> None:
    """A length that is a lie, and a body without an end, change nothing: the status has been said."""

    async def endless(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()

    lies: list[Answer] = [
        writes(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx"),
        writes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + b"x" * 100_000),
        endless,
    ]
    for lie in lies:
        assert (await sent_to(tmp_path, lie)).delivered


async def test_an_answer_that_is_no_http_is_a_failure(tmp_path: Path) -> None:
    wrong: list[Answer] = [
        writes(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"),
        writes(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"),
        writes(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000),  # a head without an end
        writes(b""),
    ]
    for answer in wrong:
        sent = await sent_to(tmp_path, answer)
        assert sent.status is None
        assert sent.error is not None


async def test_a_dead_receiver_and_an_unknown_name_are_told_apart(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        port = taken.getsockname()[1]
        sent = await sender(tmp_path).post(f"https://{NAME}:{port}/", {}, BODY)
    assert sent.error == "it cannot be reached"
    unknown = Sender(ALLOWED, certificates(tmp_path))
    sent = await unknown.post("https://nobody.invalid/", {}, BODY)
    assert sent.error == "its name is not known"


async def test_a_certificate_is_checked_for_the_name(tmp_path: Path) -> None:
    async with receiving(None, "other.example") as receiver:
        sent = await sender(tmp_path).post(receiver.url, {}, BODY)
    assert sent.status is None
    assert "certificate" in (sent.error or "")
    async with receiving() as receiver:
        sent = await Sender(ALLOWED, None, Names()).post(receiver.url, {}, BODY)
        assert "certificate" in (sent.error or "")
        assert receiver.calls == []


async def test_a_plain_http_server_gets_no_body(tmp_path: Path) -> None:
    got: list[bytes] = []

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(10_000))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        sent = await sender(tmp_path).post(f"https://{NAME}:{port}/", {}, BODY)
    assert sent.status is None
    assert BODY not in b"".join(got)


# ---- where a name leads ----


async def test_a_name_that_leads_to_two_addresses_leads_nowhere_if_one_is_not_public(
    tmp_path: Path,
) -> None:
    async with receiving() as receiver:
        for addresses in (["127.0.0.1", "10.0.0.1"], ["10.0.0.1", "127.0.0.1"]):
            sent = await sender(tmp_path, Names(addresses)).post(receiver.url, {}, BODY)
            assert sent.error == "it leads to an address that is not public"
        assert receiver.calls == []
        # Of two that may be called, the first that answers is taken.
        both = Names(["127.0.0.2", "127.0.0.1"])
        assert (await sender(tmp_path, both).post(receiver.url, {}, BODY)).delivered


async def test_a_name_that_changes_its_mind_is_asked_once_for_each_call(tmp_path: Path) -> None:
    """What was checked is what is called; the next call checks again."""
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    async with receiving() as receiver:
        one = sender(tmp_path, names)
        assert (await one.post(receiver.url, {}, BODY)).delivered
        assert names.asked == [(NAME, receiver.port)]
        again = await one.post(receiver.url, {}, BODY)
        assert again.error == "it leads to an address that is not public"
        assert len(receiver.calls) == 1


async def test_without_leave_loopback_is_not_called(tmp_path: Path) -> None:
    async with receiving() as receiver:
        strict = Sender((), certificates(tmp_path), Names())
        sent = await strict.post(receiver.url, {}, BODY)
        assert sent.error == "it leads to an address that is not public"
        assert receiver.calls == []


async def test_a_url_that_was_stored_by_other_rules_is_not_called(tmp_path: Path) -> None:
    sent = await sender(tmp_path).post("http://build.example/", {}, BODY)
    assert sent.status is None
    assert "https" in (sent.error or "")
