"""Shortcuts: whatever is asked, the answer is the one that FastAPI's way gives, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message

from serve_app.api import asgi
from serve_app.api.keys import add_key
from serve_app.api.service import JobService
from serve_app.errors import Unavailable
from serve_app.messages import JobView
from tests.api.harness import ORDER, STEP, LocalTransport, limit, make_app, service_of
from tests.factories import JOB_ID, job_view, submission
from tests.jobs.harness import World

Headers = list[tuple[bytes, bytes]]
HOST = (b"host", b"localhost")
JSON = (b"content-type", b"application/json")


class Pair(NamedTuple):
    """Two apps over one registry: with the shortcuts, and without."""

    short: FastAPI
    plain: FastAPI
    world: World
    transport: LocalTransport
    keys: dict[str, bytes]

    async def same(self, method: str, path: str, headers: Headers, **asked: Any) -> list[Message]:
        """The messages of both answers, which must be the same but for a request id of their own."""
        answers = [
            await answer(app, method, path, headers, **asked) for app in (self.short, self.plain)
        ]
        assert answers[0] == answers[1]
        return answers[0]


async def answer(
    app: FastAPI,
    method: str,
    path: str,
    headers: Headers,
    *,
    query: bytes = b"",
    root: str = "",
    pieces: list[bytes] | None = None,
    client: tuple[str, int] = ("127.0.0.1", 50_000),
) -> list[Message]:
    """`pieces`: of the body; a client that leaves after them if the last one is None."""
    scope: dict[str, Any] = {"type": "http", "http_version": "1.1", "scheme": "http"}
    scope |= {"server": ("127.0.0.1", 8000), "client": client, "query_string": query}
    scope |= {"method": method, "path": root + path, "raw_path": (root + path).encode()}
    scope |= {"root_path": root, "headers": list(headers)}
    left = list(pieces or [b""])
    sent: list[Message] = []

    async def receive() -> Message:
        if not left:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Message) -> None:
        sent.append(dict(message))

    await app(scope, receive, send)
    named = (b"x-request-id",)
    kept = [(name, b"" if name in named else value) for name, value in sent[0]["headers"]]
    sent[0]["headers"] = kept
    return sent


def through(app: ASGIApp, service: JobService) -> ASGIApp:
    """In the place of a shortcut."""
    return app


@pytest.fixture(params=["keys", "no keys"])
async def pair(
    request: pytest.FixtureRequest,
    world: World,
    transport: LocalTransport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Pair:
    path, changes, keys = tmp_path / "keys", dict[str, Any](), dict[str, bytes]()
    if request.param == "keys":
        keys = {owner: add_key(path, owner).encode() for owner in ("ann", "bob")}
        changes["api_keys_file"] = path
    changes |= {"cors_origins": ["https://editor.example"], "trusted_proxies": ["10.0.0.0/8"]}
    short = make_app(transport, **changes)
    monkeypatch.setattr(asgi, "PollShortcut", through)
    monkeypatch.setattr(asgi, "OrderShortcut", through)
    plain = make_app(transport, **changes)
    for app in (short, plain):
        service_of(app).view._clock = lambda: 100.0  # ETAs of both are as old
    return Pair(short, plain, world, transport, keys)


def as_(pair: Pair, owner: str) -> Headers:
    if not pair.keys:
        return [HOST]
    return [HOST, (b"authorization", b"Bearer " + pair.keys[owner])]


# ---- polls ----


async def jobs_of_every_kind(pair: Pair) -> dict[str, str]:
    """Ids of jobs of `ann`, or of whoever orders where there are no keys."""
    world, owner = pair.world, "ann" if pair.keys else "local"
    limit(world, max_in_flight=1)
    done = await world.submit(owner=owner)
    await world.draw(done)
    deleted = await world.submit(owner=owner)
    await world.draw(deleted)
    await world.registry.delete(deleted, owner)
    cancelled = await world.submit(owner=owner)
    await world.registry.cancel(cancelled, owner)
    runs = await world.submit(owner=owner)
    await world.started(runs)
    await world.registry.report(
        {"admitted": [(runs, 1, 3.0)], "progress": [(runs, 1, STEP)], "previews": []}
    )
    waits = await world.submit(owner=owner)
    others = await world.submit(owner="bob")
    return {
        "done": done,
        "deleted": deleted,
        "cancelled": cancelled,
        "runs": runs,
        "waits": waits,
        "another's": others,
        "unknown": JOB_ID,
    }


async def test_a_poll_is_answered_the_same(pair: Pair) -> None:
    """Every kind of job, with every header that counts, once and twice, for its owner and for others."""
    jobs = await jobs_of_every_kind(pair)
    revs = {name: (await pair.world.registry.get(job_id)) for name, job_id in jobs.items()}
    seen: set[int] = set()
    for name, job_id in jobs.items():
        view: Any = revs[name]
        etag = f'W/"{view["rev"]}"'.encode() if view and "rev" in view else b'"1.1"'
        for headers in conditions(etag):
            for owner in ("ann", "bob"):
                for method in ("GET", "HEAD"):
                    answers = await pair.same(
                        method, f"/v1/jobs/{job_id}", [*as_(pair, owner), *headers]
                    )
                    seen.add(answers[0]["status"])
    assert seen == {200, 304, 404, 410}


def conditions(etag: bytes) -> list[Headers]:
    known = (b"if-none-match", etag)
    other = (b"if-none-match", b'W/"9.9"')
    return [
        [],
        [known],
        [other],
        [known, other],
        [other, known],
        [(b"if-none-match", b"")],
        [(b"if-none-match", b"*")],
        [(b"if-none-match", b'"\xff", ' + etag)],
        [(b"prefer", b"wait=0")],
        [(b"prefer", b"wait=0"), known],
        [(b"prefer", b"respond-async"), (b"prefer", b"wait=0")],
        [(b"prefer", b"wait=soon")],
        [(b"x-request-id", b"from-the-proxy")],
        [(b"x-request-id", b"not one of ours\xff"), (b"x-request-id", b"second")],
        [(b"origin", b"https://editor.example")],
        [(b"origin", b"https://evil.example"), known],
        [(b"range", b"bytes=0-1")],
        [(b"accept", b"text/html"), (b"accept-encoding", b"gzip")],
    ]


async def test_a_poll_passes_the_same_guards(pair: Pair) -> None:
    """Hosts, keys, prefixes and proxies, each also twice or broken."""
    jobs = await jobs_of_every_kind(pair)
    own, path = as_(pair, "ann"), f"/v1/jobs/{jobs['done']}"
    seen: set[int] = set()
    cases: list[Headers] = [
        [],
        [(b"host", b"")],
        [(b"host", b"evil.example"), *own],
        [*own, (b"host", b"evil.example")],
        [HOST],
        [HOST, (b"authorization", b"Bearer wrong")],
        [HOST, (b"authorization", b"Bearer wrong"), *own],
        [*own, (b"authorization", b"Bearer wrong")],
        as_(pair, "bob"),
        [HOST, (b"authorization", b"Bearer \xff")],
        [HOST, (b"authorization", b"Basic abc"), (b"x-api-key", pair.keys.get("ann", b""))],
        [HOST, (b"x-api-key", pair.keys.get("ann", b""))],
        [HOST, (b"x-api-key", pair.keys.get("bob", b"")), *own],
        [*own, (b"x-forwarded-prefix", b"/assets"), (b"x-forwarded-host", b"localhost")],
        [*own, (b"x-forwarded-prefix", b"//evil"), (b"x-forwarded-host", b"evil.example")],
    ]
    for headers in cases:
        for root in ("", "/tools", "/v1/jobs"):
            for client in (("127.0.0.1", 50_000), ("10.0.0.7", 0), ("10.0.0.7", 40_000)):
                answers = await pair.same("GET", path, headers, root=root, client=client)
                seen.add(answers[0]["status"])
    assert seen == ({200, 400, 401, 404} if pair.keys else {200, 400})


async def test_what_is_nearly_a_poll_is_answered_the_same(pair: Pair) -> None:
    jobs = await jobs_of_every_kind(pair)
    done = jobs["done"]
    for path in (
        f"/v1/jobs/{done}/",
        f"/v1/jobs/{done}\n",
        f"/v1/jobs/{done.upper()}",
        f"/v1/jobs/{done[:-1]}",
        f"/v1/jobs/{done}0",
        f"/v1/jobs//{done}",
        f"/v1/Jobs/{done}",
        f"/v1/jobs/{'-' * 36}",
        f"/v1/jobs/{'0' * 36}",
        f"/v1/jobs/{done[:-1]}\N{ARABIC-INDIC DIGIT ONE}",
        "/v1/jobs/",
        f"/{done}",
    ):
        await pair.same("GET", path, as_(pair, "ann"))
    for method in ("PUT", "DELETE", "OPTIONS", "POST", "get"):
        await pair.same(method, f"/v1/jobs/{JOB_ID}", [*as_(pair, "ann"), JSON], pieces=[b"{}"])
    answers = await pair.same("GET", f"/v1/jobs/{done}", as_(pair, "ann"), query=b"root=/x&job_id=")
    assert answers[0]["status"] == 200


async def test_a_poll_without_a_registry_is_answered_the_same(pair: Pair) -> None:
    jobs = await jobs_of_every_kind(pair)
    path = f"/v1/jobs/{jobs['waits']}"
    pair.transport.down = True
    answers = await pair.same("GET", path, as_(pair, "ann"))
    assert answers[0]["status"] == 503
    pair.transport.down = False
    pair.transport.failures["get"] = Unavailable("The disk.", code="storage_failed")
    await pair.same("GET", path, as_(pair, "ann"))


# ---- orders ----


class Taken(NamedTuple):
    """What `JobService.order` was called with."""

    body: str
    rest: dict[str, Any]


@pytest.fixture
def taken(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> list[Taken]:
    """The orders that the two apps took. Both are answered with the same job."""
    found: list[Taken] = []
    job = job_view(params=submission()["params"])

    async def order(self: JobService, body: Any, **rest: Any) -> tuple[JobView, bool]:
        self.resolve(body.order())  # which refuses some
        found.append(Taken(body.model_dump_json(), rest))
        return job, False

    monkeypatch.setattr(JobService, "order", order)
    return found


def agreed(taken: list[Taken]) -> int:
    """How many orders were taken, by one app as by the other."""
    assert taken[::2] == taken[1::2]
    count = len(taken) // 2
    taken.clear()
    return count


BODIES = [
    json.dumps(ORDER).encode(),
    json.dumps(ORDER | {"seed": 7.0, "n": 2, "size": "64x64"}).encode(),
    json.dumps(ORDER | {"tags": ["a", "a"], "metadata": {"deep": [1, {"x": None}]}}).encode(),
    json.dumps(ORDER | {"priority": "low", "quality": "draft", "guidance_scale": 3}).encode(),
    json.dumps(ORDER).encode("utf-16"),
    b"\xef\xbb\xbf" + json.dumps(ORDER).encode(),
    b'{"prompt": "a", "prompt": "b", "style_id": "icon"}',
    b'{"prompt": "\\ud800", "style_id": "icon"}',
    b'{"prompt": "caf\xe9"}',
    b'{"prompt": "a", "guidance_scale": NaN}',
    b'{"prompt": "a", "metadata": {"x": Infinity}}',
    b'{"prompt": "a", "metadata": {"x": ' + b"7" * 4000 + b"}}",
    b'{"prompt": "a", "seed": ' + b"7" * 5000 + b"}",
    b'{"prompt": "a", "nested": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    b'{"prompt": "a", "width": 64, "size": "64x64"}',
    b'{"prompt": "a", "style_id": "nowhere"}',
    b'{"prompt": "a", "n": 1000}',
    b'{"prompt": "a", "unknown": 1}',
    b'{"prompt": "  "}',
    b'{"prompt": 7}',
    b"{}",
    b"[]",
    b"null",
    b'"text"',
    b"7",
    b"",
    b" ",
    b"{",
    b"\x00",
    b'{"prompt": "a"} trailing',
    b'{"prompt": "' + b"x" * 70_000 + b'"}',
]


async def test_an_order_is_taken_or_refused_the_same(pair: Pair, taken: list[Taken]) -> None:
    accepted = 0
    for body in BODIES:
        answers = await pair.same("POST", "/v1/generate", [*as_(pair, "ann"), JSON], pieces=[body])
        count = agreed(taken)
        assert count == (answers[0]["status"] == 202), body[:80]
        accepted += count
    assert accepted == 6


async def test_an_orders_headers_count_the_same(pair: Pair, taken: list[Taken]) -> None:
    """Each alone, wrong, and twice with different values."""
    body = json.dumps(ORDER).encode()
    length = (b"content-length", str(len(body)).encode())
    seen: set[int] = set()
    for headers in (
        [JSON],
        [JSON, length],
        [JSON, (b"content-length", b"0")],
        [JSON, (b"content-length", b"70000")],
        [JSON, (b"content-length", b"5"), length],
        [JSON, (b"transfer-encoding", b"chunked")],
        [JSON, (b"content-encoding", b"gzip")],
        [(b"content-type", b"application/json; charset=utf-8")],
        [(b"content-type", b"APPLICATION/JSON")],
        [(b"content-type", b"text/plain")],
        [(b"content-type", b"text/plain"), JSON],
        [JSON, (b"content-type", b"text/plain")],
        [],
        [JSON, (b"idempotency-key", b"k")],
        [JSON, (b"idempotency-key", b"\xff")],
        [JSON, (b"idempotency-key", b"")],
        [JSON, (b"idempotency-key", b"k"), (b"idempotency-key", b"l")],
        [JSON, (b"prefer", b"wait=0")],
        [JSON, (b"prefer", b"wait=x"), (b"prefer", b"wait=0")],
        [JSON, (b"cancel-after", b"15m")],
        [JSON, (b"cancel-after", b"soon")],
        [JSON, (b"cancel-after", b"1s"), (b"cancel-after", b"2s")],
        [JSON, (b"cancel_after", b"1s")],
        [JSON, (b"x-client-id", b"editor")],
        [JSON, (b"x-client-id", b"not a name")],
        [JSON, (b"x-client-id", b"a"), (b"x-client-id", b"b")],
        [JSON, (b"origin", b"https://editor.example")],
        [JSON, (b"x-forwarded-prefix", b"/assets")],
    ):
        for root in ("", "/tools"):
            answers = await pair.same(
                "POST",
                "/v1/generate",
                [*as_(pair, "ann"), *headers],
                pieces=[body],
                root=root,
                client=("10.0.0.7", 40_000),
                query=b"prompt=x",
            )
            agreed(taken)
            seen.add(answers[0]["status"])
    assert seen == {202, 400, 413, 415, 422}


async def test_an_order_in_pieces_is_whole_or_refused(pair: Pair, taken: list[Taken]) -> None:
    """4 MiB are refused when they are too many, not read to their end; a body of which the end does not come
    orders nothing."""
    body = json.dumps(ORDER).encode()
    headers = [*as_(pair, "ann"), JSON, (b"transfer-encoding", b"chunked")]
    for cut in range(0, len(body), 7):
        pieces = [body[:cut], b"", body[cut:]]
        answers = await pair.same("POST", "/v1/generate", headers, pieces=pieces)
        assert (answers[0]["status"], agreed(taken)) == (202, 1)
    large = [body[:-1], *[b" " * 65_536] * 64, b"}"]
    answers = await pair.same("POST", "/v1/generate", headers, pieces=large)
    assert (answers[0]["status"], agreed(taken)) == (413, 0)


async def test_a_client_that_leaves_before_the_end_of_its_body_orders_nothing(
    pair: Pair, taken: list[Taken]
) -> None:
    for app in (pair.short, pair.plain):
        whole = json.dumps(ORDER).encode()
        left: list[Message] = [{"type": "http.request", "body": whole, "more_body": True}]

        async def receive(left: list[Message] = left) -> Message:
            return left.pop() if left else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            pass

        scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/generate"}
        scope |= {"headers": [*as_(pair, "ann"), JSON], "query_string": b"", "root_path": ""}
        await app({**scope, "scheme": "http", "server": ("a", 1)}, receive, send)
        assert agreed(taken) == 0


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
FIELDS = ("prompt", "style_id", "seed", "n", "width", "size", "steps", "tags", "metadata", "model")


@given(
    fields=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3),
    tail=st.sampled_from([b"", b" ", b"\n", b",", b"}"]),
)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_any_body_is_taken_or_refused_the_same(
    pair: Pair, taken: list[Taken], fields: dict[str, Any], tail: bytes
) -> None:
    body = json.dumps(ORDER | fields).encode() + tail
    await pair.same("POST", "/v1/generate", [*as_(pair, "ann"), JSON], pieces=[body])
    agreed(taken)


# ---- both are used ----


async def test_fastapi_sees_neither_a_poll_nor_an_order(
    pair: Pair, taken: list[Taken], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or all of the above would hold without a shortcut."""
    jobs = await jobs_of_every_kind(pair)

    async def nobody(*_: Any) -> None:
        raise AssertionError("FastAPI was asked")

    monkeypatch.setattr(pair.short.router, "app", nobody)
    monkeypatch.setattr(pair.short.router, "__call__", nobody)
    polled = await answer(pair.short, "GET", f"/v1/jobs/{jobs['done']}", as_(pair, "ann"))
    body = json.dumps(ORDER).encode()
    ordered = await answer(
        pair.short, "POST", "/v1/generate", [*as_(pair, "ann"), JSON], pieces=[body]
    )
    assert (polled[0]["status"], ordered[0]["status"]) == (200, 202)
