"""Client: what it sends, how patient it is, and what it makes of the answers.

Against the real service where that can show it, and against answers in turn where a server must fail at a
chosen moment."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app import messages
from serve_app.client import (
    FINAL,
    AssetsError,
    Client,
    Damaged,
    Event,
    Job,
    NotDone,
    Rejected,
    ServerAway,
)
from tests.api.harness import MODEL, STEP, Site, site
from tests.factories import JOB_ID, TERMINAL
from tests.jobs.harness import ERROR
from tests.scripted import (
    PING,
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


class Lossy(httpx.HTTPTransport):
    """Over the socket; `fail` is raised once, after the service has answered."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[httpx.Request] = []
        self.fail: list[httpx.TransportError] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        response = super().handle_request(request)
        if self.fail:
            response.close()
            raise self.fail.pop()
        return response


class Visit:
    """A client of a listening service, and what happens while the client pauses."""

    def __init__(self, site: Site) -> None:
        self.site, self.world = site, site.world
        self.transport = Lossy()
        self.pauses: list[float] = []
        self.meanwhile: list[Callable[[], object]] = []
        self.client = Client(site.url, transport=self.transport, pause=self._pause)

    def draw(self, job: Job) -> None:
        self.site.do(self.world.draw, job.job_id)

    def start(self, job: Job, value: float) -> None:
        """A renderer has the job, and reports a step."""

        async def started() -> None:
            await self.world.started(job.job_id)
            assert await self.world.registry.progress(job.job_id, 1, STEP | {"value": value})

        self.site.do(started)

    def fail(self, job: Job) -> None:
        async def failed() -> None:
            await self.world.started(job.job_id)
            assert await self.world.registry.fail(job.job_id, 1, ERROR)

        self.site.do(failed)

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        assert len(self.pauses) < 20, "waits for ever"
        if self.meanwhile:
            self.meanwhile.pop(0)()


@pytest.fixture
def visit(tmp_path: Path) -> Generator[Visit]:
    with site(tmp_path) as served:
        visit = Visit(served)
        with visit.client:
            yield visit


def test_final_states_are_those_of_the_service() -> None:
    """The client shares no code with it."""
    assert FINAL == messages.TERMINAL == TERMINAL


def test_an_order_becomes_a_job(visit: Visit) -> None:
    """What is None stays the server's choice."""
    job = visit.client.generate("a sword", style_id="icon", seed=3, n=2, steps=None)
    params = visit.site.do(visit.world.look, job.job_id)["params"]
    assert (job.status, job.done) == ("PENDING", False)
    assert (params["subject"], params["seed"], params["n"], params["steps"]) == ("a sword", 3, 2, 6)


def test_wait_follows_the_job_to_its_end(visit: Visit) -> None:
    """It pauses as long as the server says, and shows each change once."""
    job = visit.client.generate("a sword", style_id="icon")
    visit.meanwhile = [
        lambda: visit.start(job, 0.5),
        lambda: None,
        lambda: visit.draw(job),
    ]
    seen: list[tuple[str, float]] = []
    done = visit.client.wait(job.job_id, on_progress=lambda j: seen.append((j.status, j.progress)))
    assert done.status == "SUCCESS"
    assert seen == [("PENDING", 0.0), ("STARTED", 0.5), ("SUCCESS", 1.0)]
    assert visit.pauses == [1.0, 1.0, 1.0]


def test_wait_gives_up_in_time(visit: Visit) -> None:
    job = visit.client.generate("a sword", style_id="icon")
    with pytest.raises(NotDone) as raised:
        visit.client.wait(job.job_id, timeout_s=0.5)
    assert raised.value.job is not None
    assert raised.value.job.status == "PENDING"
    assert visit.pauses == []


def test_a_failed_job_is_returned_with_its_reason(visit: Visit) -> None:
    job = visit.client.generate("a sword", style_id="icon")
    visit.fail(job)
    done = visit.client.wait(job.job_id)
    assert (done.status, done.error) == ("FAILURE", f"{ERROR['title']}: {ERROR['detail']}")


def test_download_checks_what_arrived(visit: Visit, tmp_path: Path) -> None:
    job = visit.client.generate("a sword", style_id="icon")
    visit.draw(job)
    (path,) = visit.client.download(visit.client.job(job.job_id), tmp_path / "mine")
    assert path.read_bytes() == (visit.world.files.root / path.name).read_bytes()
    assert path.name == f"{job.job_id}_1.png"
    assert list((tmp_path / "mine").iterdir()) == [path]


def test_a_damaged_file_is_not_kept(visit: Visit, tmp_path: Path) -> None:
    job = visit.client.generate("a sword", style_id="icon")
    visit.draw(job)
    (name,) = visit.world.files.names()
    (visit.world.files.root / name).write_bytes(b"half")
    with pytest.raises(Damaged):
        visit.client.download(visit.client.job(job.job_id), tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_full_line_is_asked_again_when_it_said(visit: Visit) -> None:
    visit.site.limit(max_in_flight=0, max_pending=1)
    visit.client.generate("a sword", style_id="icon")
    visit.meanwhile = [lambda: visit.site.limit(max_pending=2)]
    assert visit.client.generate("a sword", style_id="icon").status == "PENDING"
    assert visit.pauses == [10.0]


def test_a_service_without_its_registry_is_asked_again(visit: Visit) -> None:
    visit.site.transport.down = True
    visit.meanwhile = [lambda: setattr(visit.site.transport, "down", False)]
    assert visit.client.generate("a sword", style_id="icon").status == "PENDING"
    assert visit.pauses == [2.0]


def test_an_order_whose_answer_was_lost_is_not_doubled(visit: Visit) -> None:
    """The server had taken it: the same key finds the same job."""
    visit.transport.fail = [httpx.ReadError("reset")]
    job = visit.client.generate("a sword", style_id="icon")
    sent = [request.headers["idempotency-key"] for request in visit.transport.requests]
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert [found.job_id for found in visit.client.jobs()] == [job.job_id]


def test_two_orders_have_two_keys(visit: Visit) -> None:
    first, second = (visit.client.generate("a sword", style_id="icon") for _ in range(2))
    assert first.job_id != second.job_id


def test_waiting_outlives_a_restart(visit: Visit) -> None:
    job = visit.client.generate("a sword", style_id="icon")
    visit.draw(job)
    visit.transport.fail = [httpx.ConnectError("refused"), httpx.ReadError("reset")]
    assert visit.client.wait(job.job_id).done
    assert len(visit.pauses) == 2


def test_events_are_followed_to_the_end(visit: Visit) -> None:
    job = visit.client.generate("a sword", style_id="icon")
    events = visit.client.events(job.job_id)
    assert next(events).data["status"] == "PENDING"
    visit.draw(job)
    rest = list(events)
    assert rest[-1].data["status"] == "SUCCESS"
    assert "output" in [event.kind for event in rest]
    assert job.after(rest[-1]).done


def test_a_rejection_names_fields_and_what_is_allowed(visit: Visit) -> None:
    with pytest.raises(Rejected) as raised:
        visit.client.generate("a sword", style_id="nope")
    assert str(raised.value) == "style_id: no such style (allowed: icon, none, portrait)"
    assert raised.value.errors[0]["field"] == "style_id"


def test_an_unknown_job_is_a_rejection(visit: Visit) -> None:
    with pytest.raises(Rejected, match="no job of this id"):
        visit.client.job(JOB_ID)


def test_a_job_is_cancelled_retried_and_deleted(visit: Visit) -> None:
    """For good: the deleted job is gone, its retry is not."""
    job = visit.client.generate("a sword", style_id="icon")
    assert visit.client.cancel(job.job_id).status == "REVOKED"
    again = visit.client.retry(job.job_id)
    assert again.retry_of == job.job_id
    visit.client.delete(job.job_id)
    assert [found.job_id for found in visit.client.jobs()] == [again.job_id]
    with pytest.raises(Rejected) as raised:
        visit.client.job(job.job_id)
    assert raised.value.code == "deleted"


@pytest.mark.parametrize("server", ["http://127.0.0.1:9", "nonsense", "http://[", "ftp://x"])
def test_an_address_where_nothing_is(server: str) -> None:
    """Said at once, not after a minute of patience."""
    pauses: list[float] = []
    with pytest.raises(ServerAway), Client(server, pause=pauses.append) as client:
        client.generate("a sword", style_id="icon")
    assert pauses == []


def test_the_catalog_and_readiness(visit: Visit) -> None:
    assert [style["style_id"] for style in visit.client.styles()] == ["none", "icon", "portrait"]
    assert visit.client.models()[0]["name"] == MODEL.name
    assert visit.client.ready()
    visit.site.transport.reason = "no renderer"
    assert not visit.client.ready()


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


def test_patience_ends() -> None:
    talk = Talk(problem(429, "queue_full", retry_after=600))
    with pytest.raises(Rejected) as raised:
        talk.client.generate("a sword", style_id="icon")
    assert (raised.value.status, raised.value.code) == (429, "queue_full")
    assert talk.pauses == []


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
            retry_of=JOB_ID,
            priority="high",
            tags=["a", "b"],
            metadata={"level": 3},
            deadline="2026-11-22T16:01:00Z",
        )
    )
    assert (job.prompt, job.style_id) == ("a red potion", "icon")
    assert (job.retry_of, job.priority, job.tags) == (JOB_ID, "high", ("a", "b"))
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
    job = talk.client.cancel(JOB_ID)
    assert (job.status, job.done, job.error) == ("REVOKED", True, "Cancelled: By its owner.")
    assert talk.server.asked == [f"POST /v1/jobs/{JOB_ID}/cancel"] * 2


def test_retry_returns_a_new_job_and_makes_one_only() -> None:
    talk = Talk(httpx.ReadError("reset"), reply(job_object(job_id="new", retry_of=JOB_ID), 202))
    job = talk.client.retry(JOB_ID)
    assert (job.job_id, job.retry_of) == ("new", JOB_ID)
    assert talk.server.asked == [f"POST /v1/jobs/{JOB_ID}/retry"] * 2
    first, second = (request.headers["idempotency-key"] for request in talk.server.requests)
    assert first
    assert first == second


def test_a_retry_may_have_a_key_of_its_callers() -> None:
    talk = Talk(reply(job_object(), 202))
    talk.client.retry(JOB_ID, idempotency_key="mine")
    assert talk.header["idempotency-key"] == "mine"


def test_a_job_that_lives_is_not_retried() -> None:
    talk = Talk(problem(409, "not_final"))
    with pytest.raises(Rejected, match="It is not_final") as raised:
        talk.client.retry(JOB_ID)
    assert (raised.value.status, raised.value.code) == (409, "not_final")


def test_delete() -> None:
    talk = Talk(httpx.Response(204))
    talk.client.delete(JOB_ID)
    assert talk.server.asked == [f"DELETE /v1/jobs/{JOB_ID}"]


def test_a_deletion_whose_answer_was_lost_is_done() -> None:
    talk = Talk(httpx.ReadError("reset"), problem(410, "deleted"))
    talk.client.delete(JOB_ID)
    assert talk.server.asked == [f"DELETE /v1/jobs/{JOB_ID}"] * 2


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (410, "expired")])
def test_any_other_refusal_to_delete_is_told(status: int, code: str) -> None:
    with pytest.raises(Rejected) as raised:
        Talk(problem(status, code)).client.delete(JOB_ID)
    assert raised.value.code == code


@pytest.mark.parametrize("verb", ["job", "cancel", "retry"])
@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (410, "deleted")])
def test_a_job_that_is_not_there(verb: str, status: int, code: str) -> None:
    with pytest.raises(Rejected) as raised:
        getattr(Talk(problem(status, code)).client, verb)(JOB_ID)
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
    assert next(jobs).job_id == JOB_ID
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
            sse("status", job_object(), "1.1"),
            PING,
            sse("progress", progress(0.5), "1.2"),
            sse("output", {"job_id": JOB_ID, "url": "/output/x.png"}, "1.3"),
            sse("status", job_object("SUCCESS"), "1.3"),
            sse("status", job_object("SUCCESS"), "1.4"),
        )
    )
    events = list(talk.client.events(JOB_ID))
    assert [(event.kind, event.id) for event in events] == [
        ("status", "1.1"),
        ("progress", "1.2"),
        ("output", "1.3"),
        ("status", "1.3"),
    ]
    assert events[1] == Event("progress", progress(0.5), "1.2")
    assert talk.server.asked == [f"GET /v1/jobs/{JOB_ID}/events"]
    assert talk.header["accept"] == "text/event-stream"


def test_previews_are_asked_for() -> None:
    picture = {"job_id": JOB_ID, "index": 0, "content_type": "image/jpeg", "data": "AAAA"}
    talk = Talk(stream(sse("preview", picture), sse("status", job_object("SUCCESS"))))
    events = list(talk.client.events(JOB_ID, preview=True))
    assert events[0] == Event("preview", picture, "1.1")
    assert talk.server.asked == [f"GET /v1/jobs/{JOB_ID}/events?preview=true"]


@pytest.mark.parametrize("breaks", [None, httpx.ReadError("reset"), httpx.ReadTimeout("silent")])
def test_a_stream_that_stops_half_way_is_opened_again(breaks: BaseException | None) -> None:
    """Half an event is none."""
    half = sse("progress", progress(0.9))[:-10]
    talk = Talk(
        stream(sse("status", job_object("STARTED")), half, breaks=breaks),
        httpx.ConnectError("refused"),
        problem(503, "draining", retry_after=7),
        stream(sse("status", job_object("STARTED")), sse("status", job_object("SUCCESS"))),
    )
    seen = [(event.kind, event.data["status"]) for event in talk.client.events(JOB_ID)]
    assert seen == [("status", "STARTED"), ("status", "STARTED"), ("status", "SUCCESS")]
    assert talk.server.asked == [f"GET /v1/jobs/{JOB_ID}/events"] * 4
    assert talk.pauses == [1.0, 1.0, 7.0]


def test_a_job_that_was_final_before_the_stream_was_opened_again() -> None:
    talk = Talk(stream(sse("status", job_object())), stream(sse("status", cancelled())))
    assert [event.data["status"] for event in talk.client.events(JOB_ID)] == ["PENDING", "REVOKED"]


def test_a_job_that_is_deleted_while_it_is_watched() -> None:
    talk = Talk(stream(sse("status", job_object())), problem(410, "deleted"))
    events = talk.client.events(JOB_ID)
    next(events)
    with pytest.raises(Rejected) as raised:
        next(events)
    assert raised.value.code == "deleted"


@pytest.mark.parametrize("job_id", [JOB_ID, None])
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
        next(talk.client.events(JOB_ID))


def test_patience_begins_anew_with_each_event() -> None:
    """Without any, a stream that brought something is opened again nevertheless."""
    talk = Talk(
        stream(sse("status", job_object())),
        stream(sse("status", job_object("STARTED"))),
        stream(sse("status", job_object("SUCCESS"))),
        patience_s=0,
    )
    assert len(list(talk.client.events(JOB_ID))) == 3


def test_a_server_that_stays_away_ends_a_stream() -> None:
    away = [httpx.ConnectError("refused") for _ in range(9)]
    talk = Talk(stream(sse("status", job_object())), *away, patience_s=0)
    with pytest.raises(ServerAway, match="no server answers"):
        list(talk.client.events(JOB_ID))


def test_events_of_all_jobs_do_not_end() -> None:
    """Neither with a job nor with a stream, and quiet ones are no fault."""
    done = sse("status", job_object("SUCCESS"))
    talk = Talk(stream(done, done), stream(PING), stream(PING), stream(done), patience_s=0)
    assert len(list(itertools.islice(talk.client.events(), 3))) == 3
    assert talk.server.asked == ["GET /v1/events"] * 4


def test_what_is_no_event_stream_is_said_at_once() -> None:
    talk = Talk(httpx.Response(200, html="<p>welcome</p>"))
    with pytest.raises(AssetsError, match="no event stream"):
        next(talk.client.events())
    assert talk.pauses == []


def test_a_stream_nobody_reads_any_more_is_closed() -> None:
    answer = stream(sse("status", job_object()), sse("status", job_object("STARTED")))
    events = Talk(answer).client.events(JOB_ID)
    next(events)
    assert not answer.is_closed
    events.close()
    assert answer.is_closed


def test_events_move_a_job_along() -> None:
    job = Job.of(job_object(tags=["a"]))
    job = job.after(Event("progress", progress(0.5), "1.2"))
    assert (job.status, job.progress, job.queue_position) == ("STARTED", 0.5, None)
    assert (job.prompt, job.tags) == ("a red potion", ("a",))
    assert job.after(Event("output", {"job_id": JOB_ID, "url": "/output/x.png"}, "1.3")) == job
    assert job.after(Event("status", job_object("SUCCESS"), "1.4")).done
