"""Client: what it sends, how patient it is, and what it makes of the answers. Against the real app, and
against answers in turn where a server must fail at a chosen moment."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.client import AssetsError, Client, Damaged, Event, Job, NotDone, Rejected, ServerAway
from serve_app.messages import JobView
from tests.api.harness import MODEL, PIXELS, UNKNOWN_ID, MemoryRegistry, make_app, refusal, store


class InProcess(httpx.BaseTransport):
    """The app behind a blocking client; `fail` is raised once, after the app has worked."""

    def __init__(self, registry: MemoryRegistry, root: Path) -> None:
        self._runner = asyncio.Runner()
        self._asgi = httpx.ASGITransport(make_app(registry, root))
        self.requests: list[httpx.Request] = []
        self.fail: list[httpx.TransportError] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def answer() -> httpx.Response:
            request.read()
            response = await self._asgi.handle_async_request(request)
            content = await response.aread()
            return httpx.Response(response.status_code, headers=response.headers, content=content)

        self.requests.append(request)
        response = self._runner.run(answer())
        if self.fail:
            raise self.fail.pop()
        return response

    def close(self) -> None:
        self._runner.close()


class World:
    """A server, a client, and what happens while the client pauses."""

    def __init__(self, root: Path) -> None:
        self.registry = MemoryRegistry()
        self.transport = InProcess(self.registry, root)
        self.output = root / "output"
        self.pauses: list[float] = []
        self.meanwhile: list[Callable[[], object]] = []
        self.client = Client("http://localhost", transport=self.transport, pause=self._pause)

    def finish(self, job: Job, data: bytes = PIXELS) -> JobView:
        store(self.output, job.job_id, data)
        return self.registry.finish(job.job_id)

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        assert len(self.pauses) < 20, "waits for ever"
        if self.meanwhile:
            self.meanwhile.pop(0)()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    with world.client:
        yield world


def test_an_order_becomes_a_job(world: World) -> None:
    """What is None stays the server's choice."""
    job = world.client.generate("a sword", style_id="icon", seed=3, n=2, steps=None)
    params = world.registry.jobs[job.job_id]["params"]
    assert (job.status, job.done) == ("PENDING", False)
    assert (params["subject"], params["seed"], params["n"], params["steps"]) == ("a sword", 3, 2, 6)


def test_wait_follows_the_job_to_its_end(world: World) -> None:
    """It pauses as long as the server says, and shows each change once."""
    job = world.client.generate("a sword", style_id="icon")
    running = {"value": 0.5, "stage": "denoising"}
    change = world.registry.change
    world.meanwhile = [
        lambda: change(job.job_id, status="STARTED", started_at=time.time(), progress=running),
        lambda: None,
        lambda: world.finish(job),
    ]
    seen: list[tuple[str, float]] = []
    done = world.client.wait(job.job_id, on_progress=lambda j: seen.append((j.status, j.progress)))
    assert done.status == "SUCCESS"
    assert seen == [("PENDING", 0.0), ("STARTED", 0.5), ("SUCCESS", 1.0)]
    assert world.pauses == [1.0, 1.0, 1.0]


def test_wait_gives_up_in_time(world: World) -> None:
    job = world.client.generate("a sword", style_id="icon")
    with pytest.raises(NotDone) as raised:
        world.client.wait(job.job_id, timeout_s=0.5)
    assert raised.value.job is not None
    assert raised.value.job.status == "PENDING"
    assert world.pauses == []


def test_a_failed_job_is_returned_with_its_reason(world: World) -> None:
    job = world.client.generate("a sword", style_id="icon")
    world.registry.change(job.job_id, status="FAILURE", error=refusal("x").get("error"))
    done = world.client.wait(job.job_id)
    assert (done.status, done.error) == ("FAILURE", "Refused: Not now.")


def test_download_checks_what_arrived(world: World, tmp_path: Path) -> None:
    job = world.client.generate("a sword", style_id="icon")
    world.finish(job)
    (path,) = world.client.download(world.client.job(job.job_id), tmp_path / "mine")
    assert path.read_bytes() == PIXELS
    assert path.name == f"icon_7_{job.job_id}_0_1.png"
    assert list((tmp_path / "mine").iterdir()) == [path]


def test_a_damaged_file_is_not_kept(world: World, tmp_path: Path) -> None:
    job = world.client.generate("a sword", style_id="icon")
    world.finish(job, data=b"pix")
    with pytest.raises(Damaged):
        world.client.download(world.client.job(job.job_id), tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("code", ["queue_full", "draining"])
def test_a_busy_server_is_asked_again_when_it_said(world: World, code: str) -> None:
    world.registry.refuse = refusal(code, retry_after=7)
    world.meanwhile = [lambda: setattr(world.registry, "refuse", None)]
    assert world.client.generate("a sword", style_id="icon").status == "PENDING"
    assert world.pauses == [7.0]


def test_patience_ends(world: World) -> None:
    world.registry.refuse = refusal("queue_full", retry_after=600)
    with pytest.raises(Rejected) as raised:
        world.client.generate("a sword", style_id="icon")
    assert (raised.value.status, raised.value.code) == (429, "queue_full")
    assert world.pauses == []


def test_an_order_whose_answer_was_lost_is_not_doubled(world: World) -> None:
    """The server had taken it: the same key finds the same job."""
    world.transport.fail = [httpx.ReadError("reset")]
    job = world.client.generate("a sword", style_id="icon")
    sent = [request.headers["idempotency-key"] for request in world.transport.requests]
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert list(world.registry.jobs) == [job.job_id]


def test_two_orders_have_two_keys(world: World) -> None:
    first, second = (world.client.generate("a sword", style_id="icon") for _ in range(2))
    assert first.job_id != second.job_id


def test_waiting_outlives_a_restart(world: World) -> None:
    job = world.client.generate("a sword", style_id="icon")
    world.finish(job)
    world.transport.fail = [httpx.ConnectError("refused"), httpx.ReadError("reset")]
    assert world.client.wait(job.job_id).done
    assert len(world.pauses) == 2


def test_a_rejection_names_fields_and_what_is_allowed(world: World) -> None:
    with pytest.raises(Rejected) as raised:
        world.client.generate("a sword", style_id="nope")
    assert str(raised.value) == "style_id: no such style (allowed: icon, none, portrait)"
    assert raised.value.errors[0]["field"] == "style_id"


def test_an_unknown_job_is_a_rejection(world: World) -> None:
    with pytest.raises(Rejected, match="no job of this id"):
        world.client.job(UNKNOWN_ID)


@pytest.mark.parametrize("server", ["http://127.0.0.1:9", "nonsense", "http://[", "ftp://x"])
def test_an_address_where_nothing_is(server: str) -> None:
    """Said at once, not after a minute of patience."""
    pauses: list[float] = []
    with pytest.raises(ServerAway), Client(server, pause=pauses.append) as client:
        client.generate("a sword", style_id="icon")
    assert pauses == []


def test_the_catalog_and_readiness(world: World) -> None:
    assert [style["style_id"] for style in world.client.styles()] == ["none", "icon", "portrait"]
    assert world.client.models()[0]["name"] == MODEL.name
    assert world.client.ready()
    world.registry.reason = "no renderer"
    assert not world.client.ready()


class Scripted(httpx.MockTransport):
    """Gives its answers in turn, whatever is asked, and keeps what was asked. Exceptions are raised."""

    def __init__(self, *answers: httpx.Response | BaseException) -> None:
        super().__init__(self._next)
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def _next(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        assert self.answers, f"asked once more than expected: {self.asked}"
        answer = self.answers.pop(0)
        if isinstance(answer, httpx.Response):
            return answer
        raise answer

    @property
    def asked(self) -> list[str]:
        return [f"{request.method} {request.url.raw_path.decode()}" for request in self.requests]


class Talk:
    """A client and the server's part of the talk."""

    def __init__(self, *answers: httpx.Response | BaseException, patience_s: float = 60) -> None:
        self.server = Scripted(*answers)
        self.pauses: list[float] = []
        self.client = Client(
            "http://localhost",
            transport=self.server,
            patience_s=patience_s,
            pause=self.pauses.append,
        )

    @property
    def header(self) -> httpx.Headers:
        """Of the last request."""
        return self.server.requests[-1].headers

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.server.requests[-1].content)


ID = "019aab42-7c1e-7d30-9f6a-2b54c1f0a3de"
PING = b": ping\n\n"


def job_object(status: str = "PENDING", job_id: str = ID, **changes: Any) -> dict[str, Any]:
    """As the server sends it: what the client reads of it."""
    waiting = status in ("PENDING", "RETRY")
    return {
        "job_id": job_id,
        "status": status,
        "images": [],
        "created_at": "2026-11-22T16:00:00.250000Z",
        "queue_position": 1 if waiting else None,
        "eta_seconds": 12.4 if waiting else None,
        "waiting_for": None,
        "progress": None,
        "error": None,
        "request": {"prompt": "a red potion", "style_id": "icon"},
    } | changes


def cancelled(code: str = "cancelled") -> dict[str, Any]:
    error = {"code": code, "title": "Cancelled", "detail": "By its owner.", "retryable": True}
    return job_object("REVOKED", error=error)


def reply(job: dict[str, Any], status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=job, headers={"ETag": 'W/"1.1"'})


def problem(status: int, code: str, retry_after: int | None = None) -> httpx.Response:
    headers = {"content-type": "application/problem+json"}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    body = {"status": status, "code": code, "title": code, "detail": f"It is {code}."}
    # In pieces, as from a socket: whoever asked for a stream must read it first.
    return httpx.Response(status, content=iter([json.dumps(body).encode()]), headers=headers)


def told(kind: str, data: dict[str, Any], rev: str = "1.1") -> bytes:
    """One event on the wire."""
    return f"event: {kind}\nid: {rev}\ndata: {json.dumps(data)}\n\n".encode()


def progress(value: float) -> dict[str, Any]:
    return {
        "job_id": ID,
        "status": "STARTED",
        "progress": {"value": value, "stage": "denoising"},
        "queue_position": None,
        "eta_seconds": 2.0,
        "waiting_for": None,
    }


def stream(*parts: bytes, breaks: BaseException | None = None) -> httpx.Response:
    """An event stream that ends after its parts, or breaks there."""

    def content() -> Iterator[bytes]:
        yield from parts
        if breaks is not None:
            raise breaks

    headers = {"content-type": "text/event-stream; charset=utf-8"}
    return httpx.Response(200, headers=headers, content=content())


def page(*jobs: dict[str, Any], then: str | None = None) -> httpx.Response:
    return httpx.Response(200, json={"next": then, "previous": None, "results": list(jobs)})


def test_an_order_may_wait_and_have_an_end() -> None:
    """The client is more patient than the server promised to be."""
    talk = Talk(reply(job_object("SUCCESS")))
    job = talk.client.generate(
        "a sword", style_id="icon", wait_s=60, cancel_after_s=89.5, priority="low", tags=["a"]
    )
    assert job.done
    assert talk.header["prefer"] == "wait=60"
    assert talk.header["cancel-after"] == "90"
    assert talk.body == {"prompt": "a sword", "style_id": "icon", "priority": "low", "tags": ["a"]}
    assert talk.server.requests[-1].extensions["timeout"]["read"] > 60


def test_an_order_without_wishes_says_nothing_of_them() -> None:
    talk = Talk(reply(job_object(), 202))
    talk.client.generate("a sword", style_id="icon", priority=None)
    assert "prefer" not in talk.header
    assert "cancel-after" not in talk.header
    assert talk.body == {"prompt": "a sword", "style_id": "icon"}


def test_an_estimate_orders_nothing() -> None:
    said = {"request": {}, "resolved": {}, "estimated_seconds": 3.5, "possible": True}
    talk = Talk(httpx.Response(200, json={**said, "reason": None}))
    estimate = talk.client.estimate("a sword", style_id="icon", n=2, steps=None)
    assert estimate["estimated_seconds"] == 3.5
    assert talk.body == {"prompt": "a sword", "style_id": "icon", "n": 2, "dry_run": True}
    assert "idempotency-key" not in talk.header


def test_a_job_tells_what_it_was_ordered_with() -> None:
    job = Job.of(
        job_object(
            retry_of=ID,
            priority="high",
            tags=["a", "b"],
            metadata={"level": 3},
            deadline="2026-11-22T16:01:00Z",
        )
    )
    assert (job.prompt, job.style_id) == ("a red potion", "icon")
    assert (job.retry_of, job.priority, job.tags) == (ID, "high", ("a", "b"))
    assert job.metadata == {"level": 3}
    assert job.created_at == datetime(2026, 11, 22, 16, 0, 0, 250_000, UTC)
    assert job.deadline == datetime(2026, 11, 22, 16, 1, tzinfo=UTC)


def test_a_job_of_an_older_server_is_read_as_well() -> None:
    job = Job.of(job_object())
    assert (job.retry_of, job.priority, job.tags) == (None, "normal", ())
    assert (job.metadata, job.deadline) == ({}, None)


def test_cancel_returns_the_job() -> None:
    """Its answer was lost: asking again does no harm."""
    talk = Talk(httpx.ReadError("reset"), reply(cancelled()))
    job = talk.client.cancel(ID)
    assert (job.status, job.done, job.error) == ("REVOKED", True, "Cancelled: By its owner.")
    assert talk.server.asked == [f"POST /v1/jobs/{ID}/cancel"] * 2


def test_retry_returns_a_new_job_and_makes_one_only() -> None:
    talk = Talk(httpx.ReadError("reset"), reply(job_object(job_id="new", retry_of=ID), 202))
    job = talk.client.retry(ID)
    assert (job.job_id, job.retry_of) == ("new", ID)
    assert talk.server.asked == [f"POST /v1/jobs/{ID}/retry"] * 2
    first, second = (request.headers["idempotency-key"] for request in talk.server.requests)
    assert first
    assert first == second


def test_a_retry_may_have_a_key_of_its_callers() -> None:
    talk = Talk(reply(job_object(), 202))
    talk.client.retry(ID, idempotency_key="mine")
    assert talk.header["idempotency-key"] == "mine"


def test_a_job_that_lives_is_not_retried() -> None:
    talk = Talk(problem(409, "not_final"))
    with pytest.raises(Rejected, match="It is not_final") as raised:
        talk.client.retry(ID)
    assert (raised.value.status, raised.value.code) == (409, "not_final")


def test_delete() -> None:
    talk = Talk(httpx.Response(204))
    talk.client.delete(ID)
    assert talk.server.asked == [f"DELETE /v1/jobs/{ID}"]


def test_a_deletion_whose_answer_was_lost_is_done() -> None:
    talk = Talk(httpx.ReadError("reset"), problem(410, "deleted"))
    talk.client.delete(ID)
    assert talk.server.asked == [f"DELETE /v1/jobs/{ID}"] * 2


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (410, "expired")])
def test_any_other_refusal_to_delete_is_told(status: int, code: str) -> None:
    with pytest.raises(Rejected) as raised:
        Talk(problem(status, code)).client.delete(ID)
    assert raised.value.code == code


@pytest.mark.parametrize("verb", ["job", "cancel", "retry"])
@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (410, "deleted")])
def test_a_job_that_is_not_there(verb: str, status: int, code: str) -> None:
    with pytest.raises(Rejected) as raised:
        getattr(Talk(problem(status, code)).client, verb)(ID)
    assert (raised.value.status, raised.value.code) == (status, code)


def test_a_job_id_cannot_name_another_route() -> None:
    talk = Talk(problem(404, "not_found"))
    with pytest.raises(Rejected):
        talk.client.delete("a/cancel?x#y")
    assert talk.server.asked == ["DELETE /v1/jobs/a%2Fcancel%3Fx%23y"]


def test_jobs_come_page_by_page_until_there_is_no_next() -> None:
    """A page may be empty and yet not the last; the filters are in `next` already."""
    talk = Talk(
        page(job_object(job_id="c"), job_object(job_id="b"), then="/v1/jobs?cursor=x%3D&tag=t"),
        page(then="/v1/jobs?cursor=y"),
        page(job_object(job_id="a")),
    )
    assert [job.job_id for job in talk.client.jobs(tag="t")] == ["c", "b", "a"]
    assert talk.server.asked == [
        "GET /v1/jobs?tag=t&limit=100",
        "GET /v1/jobs?cursor=x%3D&tag=t",
        "GET /v1/jobs?cursor=y",
    ]


def test_jobs_are_fetched_as_they_are_needed() -> None:
    talk = Talk(page(job_object(), then="/v1/jobs?cursor=x"))
    jobs = talk.client.jobs()
    assert talk.server.asked == []
    assert next(jobs).job_id == ID
    assert len(talk.server.asked) == 1


def test_the_limit_counts_jobs_not_pages() -> None:
    talk = Talk(
        page(job_object(job_id="c"), then="/v1/jobs?cursor=x"),
        page(job_object(job_id="b"), job_object(job_id="a"), then="/v1/jobs?cursor=y"),
    )
    assert [job.job_id for job in talk.client.jobs(limit=2)] == ["c", "b"]
    assert talk.server.asked[0] == "GET /v1/jobs?limit=2"
    assert list(Talk().client.jobs(limit=0)) == []


def test_jobs_are_filtered_by_the_server() -> None:
    talk = Talk(page())
    after = datetime(2026, 11, 22, 17, tzinfo=timezone(timedelta(hours=1)))
    query = talk.client.jobs(
        status=["SUCCESS", "FAILURE"],
        style_id="icon",
        created_after=after,
        created_before=after + timedelta(hours=1),
    )
    assert list(query) == []
    assert talk.server.requests[0].url.params.multi_items() == [
        ("status", "SUCCESS"),
        ("status", "FAILURE"),
        ("style_id", "icon"),
        ("created_after", "2026-11-22T16:00:00+00:00"),
        ("created_before", "2026-11-22T17:00:00+00:00"),
        ("limit", "100"),
    ]


def test_a_page_outlives_a_restart() -> None:
    talk = Talk(
        page(job_object(job_id="b"), then="/v1/jobs?cursor=x"),
        httpx.ConnectError("refused"),
        page(job_object(job_id="a")),
    )
    assert [job.job_id for job in talk.client.jobs()] == ["b", "a"]


def test_a_wrong_filter_is_a_rejection() -> None:
    with pytest.raises(Rejected):
        list(Talk(problem(422, "invalid_field")).client.jobs(status=["DONE"]))


def test_events_of_a_job_end_with_its_final_status() -> None:
    """Pings are not events, and what a stream might say after the end is not waited for."""
    talk = Talk(
        stream(
            told("status", job_object(), "1.1"),
            PING,
            told("progress", progress(0.5), "1.2"),
            told("output", {"job_id": ID, "url": "/output/x.png"}, "1.3"),
            told("status", job_object("SUCCESS"), "1.3"),
            told("status", job_object("SUCCESS"), "1.4"),
        )
    )
    events = list(talk.client.events(ID))
    assert [(event.kind, event.id) for event in events] == [
        ("status", "1.1"),
        ("progress", "1.2"),
        ("output", "1.3"),
        ("status", "1.3"),
    ]
    assert events[1] == Event("progress", progress(0.5), "1.2")
    assert talk.server.asked == [f"GET /v1/jobs/{ID}/events"]
    assert talk.header["accept"] == "text/event-stream"


def test_previews_are_asked_for() -> None:
    picture = {"job_id": ID, "index": 0, "content_type": "image/jpeg", "data": "AAAA"}
    talk = Talk(stream(told("preview", picture), told("status", job_object("SUCCESS"))))
    events = list(talk.client.events(ID, preview=True))
    assert events[0] == Event("preview", picture, "1.1")
    assert talk.server.asked == [f"GET /v1/jobs/{ID}/events?preview=true"]


@pytest.mark.parametrize("breaks", [None, httpx.ReadError("reset"), httpx.ReadTimeout("silent")])
def test_a_stream_that_stops_half_way_is_opened_again(breaks: BaseException | None) -> None:
    """Half an event is none."""
    half = told("progress", progress(0.9))[:-10]
    talk = Talk(
        stream(told("status", job_object("STARTED")), half, breaks=breaks),
        httpx.ConnectError("refused"),
        problem(503, "draining", retry_after=7),
        stream(told("status", job_object("STARTED")), told("status", job_object("SUCCESS"))),
    )
    seen = [(event.kind, event.data["status"]) for event in talk.client.events(ID)]
    assert seen == [("status", "STARTED"), ("status", "STARTED"), ("status", "SUCCESS")]
    assert talk.server.asked == [f"GET /v1/jobs/{ID}/events"] * 4
    assert talk.pauses == [1.0, 1.0, 7.0]


def test_a_job_that_was_final_before_the_stream_was_opened_again() -> None:
    talk = Talk(stream(told("status", job_object())), stream(told("status", cancelled())))
    assert [event.data["status"] for event in talk.client.events(ID)] == ["PENDING", "REVOKED"]


def test_a_job_that_is_deleted_while_it_is_watched() -> None:
    talk = Talk(stream(told("status", job_object())), problem(410, "deleted"))
    events = talk.client.events(ID)
    next(events)
    with pytest.raises(Rejected) as raised:
        next(events)
    assert raised.value.code == "deleted"


@pytest.mark.parametrize("job_id", [ID, None])
def test_too_many_streams(job_id: str | None) -> None:
    """Asked again when the server says, and no longer than patience lasts."""
    talk = Talk(problem(503, "too_many_streams", retry_after=600))
    with pytest.raises(Rejected) as raised:
        next(talk.client.events(job_id))
    assert raised.value.code == "too_many_streams"
    assert talk.pauses == []


def test_patience_with_streams_that_bring_nothing_ends() -> None:
    talk = Talk(*[stream(PING) for _ in range(9)], patience_s=0)
    with pytest.raises(ServerAway, match="do not come"):
        next(talk.client.events(ID))


def test_patience_begins_anew_with_each_event() -> None:
    """Without any, a stream that brought something is opened again nevertheless."""
    talk = Talk(
        stream(told("status", job_object())),
        stream(told("status", job_object("STARTED"))),
        stream(told("status", job_object("SUCCESS"))),
        patience_s=0,
    )
    assert len(list(talk.client.events(ID))) == 3


def test_a_server_that_stays_away_ends_a_stream() -> None:
    away = [httpx.ConnectError("refused") for _ in range(9)]
    talk = Talk(stream(told("status", job_object())), *away, patience_s=0)
    with pytest.raises(ServerAway, match="no server answers"):
        list(talk.client.events(ID))


def test_events_of_all_jobs_do_not_end() -> None:
    """Neither with a job nor with a stream, and quiet ones are no fault."""
    done = told("status", job_object("SUCCESS"))
    talk = Talk(stream(done, done), stream(PING), stream(PING), stream(done), patience_s=0)
    assert len(list(itertools.islice(talk.client.events(), 3))) == 3
    assert talk.server.asked == ["GET /v1/events"] * 4


def test_what_is_no_event_stream_is_said_at_once() -> None:
    talk = Talk(httpx.Response(200, html="<p>welcome</p>"))
    with pytest.raises(AssetsError, match="no event stream"):
        next(talk.client.events())
    assert talk.pauses == []


def test_a_stream_nobody_reads_any_more_is_closed() -> None:
    answer = stream(told("status", job_object()), told("status", job_object("STARTED")))
    events = Talk(answer).client.events(ID)
    next(events)
    assert not answer.is_closed
    events.close()
    assert answer.is_closed


def test_events_move_a_job_along() -> None:
    job = Job.of(job_object(tags=["a"]))
    job = job.after(Event("progress", progress(0.5), "1.2"))
    assert (job.status, job.progress, job.queue_position) == ("STARTED", 0.5, None)
    assert (job.prompt, job.tags) == ("a red potion", ("a",))
    assert job.after(Event("output", {"job_id": ID, "url": "/output/x.png"}, "1.3")) == job
    assert job.after(Event("status", job_object("SUCCESS"), "1.4")).done
