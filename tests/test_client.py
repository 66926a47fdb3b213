"""Client: orders, waits and downloads, against the real service; how patient it is when that fails."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator
from pathlib import Path

import httpx
import PIL.Image
import pytest

from serve_app import messages
from serve_app.client import (
    FINAL,
    Client,
    Damaged,
    Job,
    NotDone,
    Rejected,
    ServerAway,
)
from tests.api.harness import MODEL, STEP, Site, site
from tests.factories import JOB_ID, TERMINAL
from tests.jobs.harness import ERROR


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
            assert await self.world.progress(job.job_id, 1, STEP | {"value": value})

        self.site.do(started)

    def fail(self, job: Job) -> None:
        async def failed() -> None:
            await self.world.started(job.job_id)
            assert await self.world.fail(job.job_id, 1, ERROR)

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


def test_a_picture_is_brought_and_forgotten(visit: Visit) -> None:
    """The same pixels again are the same upload."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 6)).save(file, "PNG")
    made = visit.client.upload(file.getvalue())
    assert (made["width"], made["height"]) == (8, 6)
    assert visit.client.upload(file.getvalue())["upload_id"] == made["upload_id"]
    visit.client.delete_upload(made["upload_id"])
    with pytest.raises(Rejected) as caught:
        visit.client.delete_upload(made["upload_id"])
    assert caught.value.code == "not_found"
    with pytest.raises(Rejected, match="body"):
        visit.client.upload(b"no picture")


def test_a_derive_whose_answer_is_lost_makes_one_job(visit: Visit) -> None:
    """It is sent again with its key."""
    parent = visit.client.generate("a red potion", style_id="icon")
    visit.draw(parent)
    visit.transport.fail = [httpx.ReadError("lost")]
    derived = visit.client.derive(parent.job_id, [{"op": "flip"}], indices=[0], tags=["t"])
    assert (derived.kind, derived.derived_from, derived.tags) == ("derive", parent.job_id, ("t",))
    assert [job.job_id for job in visit.client.jobs(tag="t")] == [derived.job_id]
    with pytest.raises(Rejected, match="no effect 'explode'"):
        visit.client.derive(parent.job_id, [{"op": "explode"}])


def test_a_change_whose_answer_is_lost_is_said_again(visit: Visit) -> None:
    job = visit.client.generate("a red potion", style_id="icon")
    visit.draw(job)
    visit.transport.fail.append(httpx.ReadError("cut"))
    image = {"index": 0, "starred": True, "rating": 4}
    changed = visit.client.change(job.job_id, images=[image], tags=["kept"])
    (marked,) = changed.images
    assert (marked.starred, marked.rejected, marked.rating) == (True, False, 4)
    assert changed.tags == ("kept",)
    found = visit.client.jobs(words="pot", starred=True, rejected=False, rating=4)
    assert [one.job_id for one in found] == [job.job_id]
    with pytest.raises(Rejected, match="turn has come"):
        visit.client.change(job.job_id, priority="high")
