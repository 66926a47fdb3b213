"""Client: what it sends and what it makes of each answer, from a server that gives prepared ones in turn."""

from __future__ import annotations

import hashlib
import itertools
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from serve_app.client import (
    AssetsError,
    Client,
    Event,
    Job,
    Rejected,
    ServerAway,
)
from tests.factories import JOB_ID
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


RAYS = [
    httpx.Response(404, text="Path '/v1/jobs' not found."),
    httpx.Response(500, text="Internal Server Error"),
    httpx.Response(502, html="<h1>Bad Gateway</h1>"),
    httpx.ReadTimeout("silent"),
]
"""What Ray's proxy, or one in front of it, answers in our name while the service starts."""


@pytest.mark.parametrize("strange", RAYS, ids=["404", "500", "502", "hang"])
def test_an_answer_that_is_not_the_services_is_no_word_of_a_job(
    strange: httpx.Response | BaseException,
) -> None:
    """Waiting, watching, listing and fetching ask on."""
    data = b"pixels"
    image = {"url": "/output/x.png", "index": 0, "seed": 1, "width": 1, "height": 1, "notes": []}
    done = job_object("SUCCESS", images=[image | {"sha256": hashlib.sha256(data).hexdigest()}])
    talk = Talk(
        *(strange, reply(job_object("STARTED")), strange, reply(done)),
        *(strange, stream(sse("status", done))),
        *(strange, page(done)),
        *(strange, httpx.Response(200, content=data)),
    )
    job = talk.client.wait(JOB_ID)
    assert job.status == "SUCCESS"
    assert [event.data["status"] for event in talk.client.events(JOB_ID)] == ["SUCCESS"]
    assert [found.job_id for found in talk.client.jobs()] == [JOB_ID]
    assert talk.client._send("GET", job.images[0].url, restarts=True).content == data
    assert talk.server.answers == []


def test_the_services_own_404_ends_a_wait() -> None:
    with pytest.raises(Rejected) as raised:
        Talk(problem(404, "not_found")).client.wait(JOB_ID)
    assert raised.value.code == "not_found"


@pytest.mark.parametrize(
    "strange",
    [
        httpx.Response(404, text="Not Found"),
        httpx.Response(403, html="<h1>Forbidden</h1>"),
        httpx.Response(200, html="<p>welcome</p>"),
        httpx.Response(404, json={"detail": "Not Found"}),
    ],
)
def test_what_is_not_the_service_is_said_at_once(strange: httpx.Response) -> None:
    """To an order: a wrong address must not cost a minute."""
    talk = Talk(strange)
    with pytest.raises(ServerAway, match="is not the service: HTTP"):
        talk.client.generate("a sword", style_id="icon")
    assert talk.pauses == []


def test_what_stays_strange_is_said_in_the_end() -> None:
    talk = Talk(httpx.Response(404, text="Not Found"), patience_s=0)
    with pytest.raises(ServerAway, match="HTTP 404 Not Found"):
        talk.client.wait(JOB_ID)


def test_another_proxys_429_is_waited_for() -> None:
    slow_down = httpx.Response(429, html="<h1>Slow down</h1>", headers={"Retry-After": "3"})
    talk = Talk(slow_down, reply(job_object(), 202))
    assert talk.client.generate("a sword", style_id="icon").status == "PENDING"
    assert talk.pauses == [3.0]


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


def test_a_file_may_be_in_another_place() -> None:
    """Which the server names, and which does not see the key. Nothing else is sent elsewhere."""
    store = "https://bucket.example/a.png?signature=x"
    talk = Talk(
        httpx.Response(307, headers={"Location": store}), httpx.Response(200, content=b"pixels")
    )
    talk.client._http.headers["Authorization"] = "Bearer key"
    assert talk.client.fetch("/output/a.png") == b"pixels"
    ours, theirs = talk.server.requests
    assert ("authorization" in ours.headers, "authorization" in theirs.headers) == (True, False)
    assert str(theirs.url) == store


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
@pytest.mark.parametrize(
    ("status", "code"), [(503, "too_many_streams"), (429, "stream_share_taken")]
)
def test_too_many_streams(job_id: str | None, status: int, code: str) -> None:
    """Asked again when the server says, and no longer than patience lasts."""
    talk = Talk(problem(status, code, retry_after=600))
    with pytest.raises(Rejected) as raised:
        next(talk.client.events(job_id))
    assert raised.value.code == code
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
