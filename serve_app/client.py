"""Client: order images from a running service, wait for them, download them. On httpx, httpx-sse.

`Client` blocks; `AsyncClient` has the same methods for asyncio.

Knows the HTTP contract only. It shares no code with the server, so that it can be copied elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import itertools
import json
import math
import ssl
import time
import uuid
from collections.abc import (
    AsyncGenerator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar
from urllib.parse import quote, unquote

import httpx
from httpx_sse import EventSource, SSEError

SERVER = "http://127.0.0.1:8000"
BUSY = frozenset({429, 503})
PROBLEM = "application/problem+json"
TIMEOUT_S = 30.0  # of silence; an event stream pings every 15 s
CANCEL_TIMEOUT_S = 60.0  # a large batch ends job by job
RECONNECT_S = 1.0
FINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
REPRODUCES_FILE = "reproduces_sha256"
"""Key of a job's metadata: it makes the file of this hash again, to compare them."""
PAGE = 100  # jobs
ROWS = 500  # the same, of a batch
ORDER_FILES = {
    ".csv": "text/csv",
    ".tsv": "text/csv",
    ".jsonl": "application/x-ndjson",
    ".ndjson": "application/x-ndjson",
    ".json": "application/json",
}
"""Files of orders for a batch, and their media types."""

P = ParamSpec("P")
T = TypeVar("T")


class AssetsError(Exception):
    """Base of every exception of this client; its text can be shown to a user."""


class ServerAway(AssetsError):
    """Nothing answers at that address, or something that is not the service."""


class Rejected(AssetsError):
    """The server refused the request, with a problem document (RFC 9457)."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        self.errors: list[dict[str, Any]] = problem.get("errors") or []
        self.lines = [f"{_row(e)}{e['field']}: {e['detail']}{_allowed(e)}" for e in self.errors]
        super().__init__("; ".join(self.lines) or str(problem.get("detail", f"HTTP {status}")))


class NotDone(AssetsError):
    """The job was not final in time. It goes on; `job` is its last known state."""

    def __init__(self, job: Job | Batch | None) -> None:
        super().__init__("the job is not done yet" if job is None else f"still {job.status}")
        self.job = job


class Damaged(AssetsError):
    """A file did not arrive as the server described it."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of an image. `name`: of a sheet's file, its path in the sheet's archive."""

    role: str
    url: str
    sha256: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """`original_url`: of the picture before its effects. `reproduction`: of an image that was made again,
    how it compares: `match`, `files`, `reasons`."""

    url: str
    index: int
    seed: int
    width: int
    height: int
    sha256: str
    notes: tuple[str, ...] = ()
    original_url: str = ""  # the picture before its effects
    files: tuple[File, ...] = ()
    reproduction: Mapping[str, Any] | None = None
    starred: bool = False
    rejected: bool = False
    rating: int = 0  # stars


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a stream. `kind`: status, progress, output or preview; of all jobs also batch. `id`: the
    job's revision."""

    kind: str
    data: Mapping[str, Any]
    id: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job at one moment. `raw` is the whole object as the server sent it."""

    job_id: str
    status: str
    images: tuple[Image, ...]
    raw: Mapping[str, Any]

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Job:
        images = tuple(
            Image(
                url=image["url"],
                index=image["index"],
                seed=image["seed"],
                width=image["width"],
                height=image["height"],
                sha256=image["sha256"],
                notes=tuple(image["notes"]),
                original_url=image.get("original_url") or image["url"],
                files=tuple(_file(file) for file in image.get("files") or ()),
                reproduction=image.get("reproduction"),
                starred=image.get("starred", False),
                rejected=image.get("rejected", False),
                rating=image.get("rating", 0),
            )
            for image in raw["images"]
        )
        return cls(raw["job_id"], raw["status"], images, raw)

    def after(self, event: Event) -> Job:
        """The job after one of its events."""
        if event.kind not in ("status", "progress"):
            return self
        return Job.of({**self.raw, **event.data})

    @property
    def done(self) -> bool:
        return self.status in FINAL

    @property
    def queue_position(self) -> int | None:
        return self.raw["queue_position"]

    @property
    def eta_seconds(self) -> float | None:
        return self.raw["eta_seconds"]

    @property
    def waiting_for(self) -> str | None:
        return self.raw["waiting_for"]

    @property
    def progress(self) -> float:
        """0 to 1."""
        if self.status == "SUCCESS":
            return 1.0
        return (self.raw["progress"] or {}).get("value") or 0.0

    @property
    def error(self) -> str | None:
        """Why it failed, for people."""
        error = self.raw["error"]
        return None if error is None else f"{error['title']}: {error['detail']}"

    @property
    def prompt(self) -> str:
        """Empty: the job draws nothing."""
        return self.raw["request"].get("prompt", "")

    @property
    def style_id(self) -> str:
        return self.raw["request"].get("style_id") or self.kind

    @property
    def kind(self) -> str:
        """generate, derive or sheet."""
        return self.raw.get("kind") or "generate"

    @property
    def derived_from(self) -> str | None:
        """The job whose pictures this one finished."""
        return self.raw.get("derived_from")

    @property
    def reproduces(self) -> str | None:
        """The job whose images this one made again, to compare them."""
        return self.raw.get("reproduces")

    @property
    def is_reproduction(self) -> bool:
        """It made a job's images or a file again, only to compare them."""
        return self.reproduces is not None or REPRODUCES_FILE in self.metadata

    @property
    def created_at(self) -> datetime:
        return datetime.fromisoformat(self.raw["created_at"])

    @property
    def deadline(self) -> datetime | None:
        """When the server revokes it, if it is not final by then."""
        deadline = self.raw.get("deadline")
        return None if deadline is None else datetime.fromisoformat(deadline)

    @property
    def retry_of(self) -> str | None:
        """The job that this one repeats."""
        return self.raw.get("retry_of")

    @property
    def priority(self) -> str:
        return self.raw.get("priority") or "normal"

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(self.raw.get("tags") or ())

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self.raw.get("metadata") or {}


@dataclass(frozen=True, slots=True)
class Batch:
    """Many orders that were accepted together, at one moment. `raw` is the whole object as the server sent
    it."""

    batch_id: str
    name: str | None
    status: str
    size: int
    counts: Mapping[str, int]  # orders by status
    raw: Mapping[str, Any]

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Batch:
        return cls(raw["batch_id"], raw["name"], raw["status"], raw["size"], raw["counts"], raw)

    @property
    def done(self) -> bool:
        return self.status in FINAL

    @property
    def progress(self) -> float:
        """0 to 1."""
        return self.raw["progress"]["value"]

    @property
    def eta_seconds(self) -> float | None:
        return self.raw["eta_seconds"]

    @property
    def reused(self) -> int:
        """Orders that an earlier batch of the same name had made."""
        return self.raw["reused"]["count"]

    @property
    def reused_rows(self) -> list[int]:
        """Which; 1 is the first order."""
        runs = self.raw["reused"]["rows"]
        return [row for first, last in runs for row in range(first, last + 1)]

    @property
    def failed(self) -> Sequence[Mapping[str, Any]]:
        """The first orders that failed: `row`, `job_id`, `code`, `title`, `detail`, `retryable`."""
        return self.raw["failed"]

    @property
    def created_at(self) -> datetime:
        return datetime.fromisoformat(self.raw["created_at"])


class Client:
    """One server, one API key. `patience_s`: how long requests are repeated while the server is busy or
    restarts. `transport` and `pause` replace the network and `time.sleep`."""

    def __init__(
        self,
        server: str = SERVER,
        *,
        api_key: str | None = None,
        patience_s: float = 60,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            self._http = httpx.Client(
                base_url=server, headers=headers, timeout=TIMEOUT_S, transport=transport
            )
        except httpx.InvalidURL as error:
            raise ServerAway(f"{server!r} is no address") from error
        self._patience_s = patience_s
        self._pause = pause

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def generate(
        self,
        prompt: str,
        *,
        style_id: str | None = None,
        wait_s: float | None = None,
        cancel_after_s: float | None = None,
        idempotency_key: str | None = None,
        **order: Any,
    ) -> Job:
        """Order images. `order` holds any other field of POST /v1/generate; what is None is left out. Without
        `style_id` the server chooses its default.

        Returns at once or, with `wait_s` (60 at most), when the job is final or that time is over. A job
        that is not final after `cancel_after_s` is revoked. Two calls with the same `idempotency_key` make
        one job; without it each call makes its own."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        if wait_s is not None:
            headers["Prefer"] = f"wait={int(wait_s)}"
        if cancel_after_s is not None:
            headers["Cancel-After"] = str(math.ceil(cancel_after_s))
        body = _order(prompt, style_id, order)
        timeout_s = TIMEOUT_S + (wait_s or 0)
        response = self._send("POST", "/v1/generate", json=body, headers=headers, timeout=timeout_s)
        return Job.of(self._json(response))

    def estimate(
        self, prompt: str, *, style_id: str | None = None, **order: Any
    ) -> Mapping[str, Any]:
        """What an order would be resolved to and how long it would take; nothing is ordered. Keys: `request`,
        `resolved`, `notes`, `estimated_seconds` (None: unknown), `possible`, and `reason` if it is not."""
        body = _order(prompt, style_id, order) | {"dry_run": True}
        return self._json(self._send("POST", "/v1/generate", json=body))

    def job(self, job_id: str) -> Job:
        return Job.of(self._json(self._send("GET", _path(job_id))))

    def jobs(
        self,
        *,
        status: Iterable[str] = (),
        style_id: str | None = None,
        model: str | None = None,
        tag: str | None = None,
        batch_id: str | None = None,
        words: str | None = None,
        starred: bool | None = None,
        rejected: bool | None = None,
        rating: int | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """My jobs, newest first, `limit` at most. Pages are fetched as they are needed. `words`: all of them
        in the prompt, as beginnings of words. `rating`: an image of so many stars or more."""
        query: dict[str, Any] = {
            "status": list(status),
            "style_id": style_id,
            "model": model,
            "tag": tag,
            "batch_id": batch_id,
            "q": words,
            "starred": starred,
            "rejected": rejected,
            "rating": rating,
            "created_after": _rfc3339(created_after),
            "created_before": _rfc3339(created_before),
            "limit": PAGE if limit is None else min(limit, PAGE),
        }
        given = {name: value for name, value in query.items() if value is not None}
        return itertools.islice(map(Job.of, self._pages("/v1/jobs", given)), limit)

    def change(
        self,
        job_id: str,
        *,
        tags: Sequence[str] | None = None,
        priority: str | None = None,
        images: Sequence[Mapping[str, Any]] | None = None,
    ) -> Job:
        """Other tags, another priority while it waits in line, marks of its images: each an `index` with any
        of `starred`, `rejected` and `rating`. What is left out stays."""
        given = {"tags": tags, "priority": priority, "images": images}
        body = {name: value for name, value in given.items() if value is not None}
        return Job.of(self._json(self._send("PATCH", _path(job_id), json=body)))

    def cancel(self, job_id: str) -> Job:
        """Returns the job; one that is final stays as it is."""
        return Job.of(self._json(self._send("POST", _path(job_id, "/cancel"))))

    def retry(self, job_id: str, *, idempotency_key: str | None = None) -> Job:
        """Order a final job once more. Returns the new job; while the old one lives, Rejected."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        response = self._send("POST", _path(job_id, "/retry"), headers=headers)
        return Job.of(self._json(response))

    def reproduce(self, job_id: str, *, idempotency_key: str | None = None) -> Job:
        """Make the images of a finished job again. Returns the new job; once it is done, each image's
        `reproduction` says whether it is the same."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        response = self._send("POST", _path(job_id, "/reproduce"), headers=headers)
        return Job.of(self._json(response))

    def derive(
        self,
        job_id: str,
        effects: Sequence[Mapping[str, Any]],
        *,
        indices: Sequence[int] | None = None,
        format: str | None = None,
        tags: Sequence[str] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Finish pictures of a job that has some, without drawing. Returns the new job. `indices`: which
        images; None: all. `format`: png or webp. `tags` None: those of the job."""
        given = {"effects": effects, "indices": indices, "format": format, "tags": tags}
        body = {name: value for name, value in given.items() if value is not None}
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        response = self._send("POST", _path(job_id, "/derive"), json=body, headers=headers)
        return Job.of(self._json(response))

    def delete(self, job_id: str) -> None:
        """Remove the job and its files for good. A live job is cancelled first."""
        try:
            self._send("DELETE", _path(job_id))
        except Rejected as error:
            if error.code != "deleted":  # deleted by an earlier try, whose answer was lost
                raise

    def sheet(
        self,
        items: Iterable[Mapping[str, Any]] | None = None,
        *,
        tag: str | None = None,
        idempotency_key: str | None = None,
        **spec: Any,
    ) -> Job:
        """Order a sheet of finished pictures: `items` of `{job_id, index?, name?}`, or all with a `tag`.
        `spec` holds any other field of POST /v1/sheets. The job's images are its pages; `archive` fetches
        the rest."""
        body = {"items": None if items is None else [*items], "tag": tag, **spec}
        given = {name: value for name, value in body.items() if value is not None}
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return Job.of(self._json(self._send("POST", "/v1/sheets", json=given, headers=headers)))

    def archive(self, job: Job) -> bytes:
        """The ZIP of a finished sheet: pages, what each format adds, and manifest.json."""
        (found,) = [f for image in job.images for f in image.files if f.role == "archive"]
        data = self.fetch(found.url)
        if hashlib.sha256(data).hexdigest() != found.sha256:
            raise Damaged(f"{found.url} is not what the server said it was")
        return data

    def order_batch(
        self,
        orders: Iterable[Mapping[str, Any]] | Path | None = None,
        *,
        matrix: Mapping[str, Any] | None = None,
        name: str | None = None,
        defaults: Mapping[str, Any] | None = None,
        reuse: bool | None = None,
        webhook: str | None = None,
        webhook_events_filter: Sequence[str] | None = None,
        cancel_after_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> Batch:
        """Order many at once, all or nothing: `orders` as mappings of fields, or a file of them (CSV, JSON
        lines, or JSON as POST /v1/batches takes it), or a `matrix` of prompts, styles, sizes and seeds. What
        is wrong is Rejected with every row.

        What a batch of the same `name` has made is not made again, unless `reuse` is False. `webhook`: a URL
        that is called when all is done, or for `webhook_events_filter`: queued, started, completed."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        if cancel_after_s is not None:
            headers["Cancel-After"] = str(math.ceil(cancel_after_s))
        said = {
            "name": name,
            "defaults": defaults,
            "reuse": reuse,
            "webhook": webhook,
            "webhook_events_filter": webhook_events_filter and [*webhook_events_filter],
        }
        request = _batch(orders, matrix, said)
        request["headers"].update(headers)
        return Batch.of(self._json(self._send("POST", "/v1/batches", **request)))

    def estimate_batch(
        self,
        orders: Iterable[Mapping[str, Any]] | Path | None = None,
        *,
        matrix: Mapping[str, Any] | None = None,
        name: str | None = None,
        defaults: Mapping[str, Any] | None = None,
        reuse: bool | None = None,
    ) -> Mapping[str, Any]:
        """What a batch would be; nothing is ordered. Keys: `size`, `images`, `reused`, `to_make`,
        `estimated_seconds` (None: unknown), `possible`, and `reason` if it is not."""
        said = {"name": name, "defaults": defaults, "reuse": reuse, "dry_run": True}
        return self._json(self._send("POST", "/v1/batches", **_batch(orders, matrix, said)))

    def batch(self, batch_id: str) -> Batch:
        return Batch.of(self._json(self._send("GET", _batch_path(batch_id))))

    def batches(self, *, name: str | None = None, limit: int | None = None) -> Iterator[Batch]:
        """My batches, newest first, `limit` at most."""
        query: dict[str, Any] = {"limit": PAGE if limit is None else min(limit, PAGE)}
        if name is not None:
            query["name"] = name
        return itertools.islice(map(Batch.of, self._pages("/v1/batches", query)), limit)

    def batch_rows(self, batch_id: str) -> Iterator[Mapping[str, Any]]:
        """What stands for each order of a batch, in their order: `row`, `name`, `status`, `job_id`,
        `reused`."""
        return self._pages(_batch_path(batch_id, "/rows"), {"limit": ROWS})

    def wait_batch(
        self,
        batch_id: str,
        *,
        on_progress: Callable[[Batch], None] | None = None,
        timeout_s: float | None = None,
    ) -> Batch:
        """Returns the batch when all its jobs are final, however they ended. `on_progress` gets each state of
        it. Raises NotDone at the timeout."""
        give_up = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            response = self._send("GET", _batch_path(batch_id), restarts=True)
            batch = Batch.of(self._json(response))
            if on_progress is not None:
                on_progress(batch)
            if batch.done:
                return batch
            pause_s = _retry_after(response)
            if give_up is not None and time.monotonic() + pause_s > give_up:
                raise NotDone(batch)
            self._pause(pause_s)

    def cancel_batch(self, batch_id: str) -> Batch:
        """Cancels every job of it that lives; what is drawn stays."""
        path = _batch_path(batch_id, "/cancel")
        return Batch.of(self._json(self._send("POST", path, timeout=CANCEL_TIMEOUT_S)))

    def retry_batch(self, batch_id: str) -> Batch:
        """Order again what ended without pictures."""
        return Batch.of(self._json(self._send("POST", _batch_path(batch_id, "/retry"))))

    def batch_archive(
        self,
        batch_id: str,
        path: Path,
        *,
        names: str | None = None,
        partial: bool = False,
        originals: bool = False,
    ) -> Path:
        """Save all files of a batch as a ZIP at `path`, which is whole or not there. `names`: a template of
        their names, as `{style}/{row:4}_{name}`. `partial`: also while it runs. `originals`: also pictures
        before their effects."""
        query: dict[str, Any] = {"partial": partial, "originals": originals}
        if names is not None:
            query["names"] = names
        url = _batch_path(batch_id, "/archive")
        part = path.with_name(f".{path.name}.part")
        response = self._send("GET", url, restarts=True, stream=True, params=query)
        try:
            with contextlib.closing(response), part.open("wb") as file:
                for piece in response.iter_bytes():
                    file.write(piece)
        except httpx.TransportError as error:
            part.unlink(missing_ok=True)
            raise Damaged(f"the archive of batch {batch_id} broke off; try again") from error
        return part.replace(path)

    def fetch(self, url: str) -> bytes:
        """A finished file, by its URL in a job."""
        return self._send("GET", self._below(url), restarts=True, follows=True).content

    def inspect(self, picture: bytes) -> Mapping[str, Any]:
        """What made a PNG, WebP or JPEG file, and an order that this server would take."""
        headers = {"Content-Type": "application/octet-stream"}
        return self._json(self._send("POST", "/v1/inspect", content=picture, headers=headers))

    def upload(self, picture: bytes) -> Mapping[str, Any]:
        """Bring a PNG, WebP or JPEG file to order with: `init_image={"upload_id": ...}`. Returns `upload_id`,
        `width`, `height`, `has_alpha`, `sha256`, `expires_at` and more. The same pixels again are the same
        upload."""
        headers = {"Content-Type": "application/octet-stream"}
        return self._json(self._send("POST", "/v1/uploads", content=picture, headers=headers))

    def delete_upload(self, upload_id: str) -> None:
        """Jobs that were ordered with it are drawn all the same."""
        self._send("DELETE", f"/v1/uploads/{quote(upload_id, safe='')}")

    def deliveries(
        self, *, job_id: str | None = None, state: str | None = None, limit: int = 20
    ) -> list[Mapping[str, Any]]:
        """What webhooks were to be told, newest first, as GET /v1/webhooks/deliveries has it. `state`:
        waiting, delivered, failed or dropped."""
        given = {"job_id": job_id, "state": state, "limit": limit}
        query = {name: value for name, value in given.items() if value is not None}
        return self._json(self._send("GET", "/v1/webhooks/deliveries", params=query))["results"]

    def redeliver(self, delivery_id: str) -> Mapping[str, Any]:
        """Tell a webhook once more, now."""
        path = f"/v1/webhooks/deliveries/{quote(delivery_id, safe='')}/redeliver"
        return self._json(self._send("POST", path))

    def test_webhook(self, url: str | None = None) -> Mapping[str, Any]:
        """Call a webhook once, about no job: that of the key's owner, or this one. `deliveries` tells what
        came of it."""
        body = {} if url is None else {"url": url}
        return self._json(self._send("POST", "/v1/webhooks/test", json=body))

    def events(
        self,
        job_id: str | None = None,
        *,
        preview: bool = False,
        on_open: Callable[[], None] | None = None,
    ) -> Generator[Event]:
        """Events of one job until it is final, or of all my jobs without end. `on_open`: called whenever a
        stream has begun, so that nothing is missed that ended while there was none.

        A stream that ends or breaks is opened again. It then begins with the current state, so a `status` may
        come twice, and changes in between are missing."""
        url = "/v1/events" if job_id is None else _path(job_id, "/events")
        request: dict[str, Any] = {"headers": {"Accept": "text/event-stream"}}
        if preview:
            request["params"] = {"preview": "true"}
        give_up = time.monotonic() + self._patience_s
        while True:
            event = None
            try:
                response = self._send("GET", url, restarts=True, stream=True, **request)
                with contextlib.closing(response):
                    if on_open is not None:
                        on_open()
                    for event in _events(response):
                        yield event
                        if job_id is not None and _ends(event):
                            return
            except SSEError as error:
                raise AssetsError(f"{url} answers with no event stream") from error
            except httpx.TransportError:
                pass  # treated like a stream that ended
            if event is not None or job_id is None:  # a stream of all jobs may have no events
                give_up = time.monotonic() + self._patience_s
            elif time.monotonic() > give_up:
                raise ServerAway(f"the events of job {job_id} do not come")
            self._pause(RECONNECT_S)

    def wait(
        self,
        job_id: str,
        *,
        on_progress: Callable[[Job], None] | None = None,
        timeout_s: float | None = None,
    ) -> Job:
        """Returns the job when it is final, whether it failed or not. `on_progress` gets each state of it.
        Raises NotDone at the timeout."""
        give_up = None if timeout_s is None else time.monotonic() + timeout_s
        job, etag = None, ""
        while True:
            # The ETag does not cover the place in line, so a waiting job is asked for without it.
            headers = {"If-None-Match": etag} if job and job.queue_position is None else {}
            response = self._send("GET", _path(job_id), headers=headers, restarts=True)
            if response.status_code != 304:
                job, etag = Job.of(self._json(response)), response.headers.get("ETag", "")
                if on_progress is not None:
                    on_progress(job)
                if job.done:
                    return job
            pause_s = _retry_after(response)
            if give_up is not None and time.monotonic() + pause_s > give_up:
                raise NotDone(job)
            self._pause(pause_s)

    def download(self, job: Job, directory: Path) -> list[Path]:
        """Download the images of a finished job and check their hashes. Returns their paths, by index."""
        directory = directory.expanduser()
        directory.mkdir(parents=True, exist_ok=True)
        return [self._download(image, directory) for image in job.images]

    def url(self, image: Image) -> str:
        """The full address of the image."""
        return str(self._http.base_url).rstrip("/") + self._below(image.url)

    def styles(self) -> list[dict[str, Any]]:
        return self._json(self._send("GET", "/v1/styles"))["results"]

    def models(self) -> list[dict[str, Any]]:
        return self._json(self._send("GET", "/v1/models"))["results"]

    def vocabulary(self, model: str, search: str = "") -> Iterator[Mapping[str, Any]]:
        """What a model was taught to draw: `name` and `other_names` of each thing, all or those with `search`
        in a name."""
        path = f"/v1/models/{quote(model, safe='')}/vocabulary"
        return self._pages(path, {"limit": ROWS} | ({"q": search} if search else {}))

    def ready(self) -> bool:
        """A job would be served."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _pages(self, url: str | None, query: dict[str, Any] | None) -> Iterator[Mapping[str, Any]]:
        while url is not None:
            response = self._send("GET", self._below(url), params=query, restarts=True)
            page = self._json(response)
            yield from page["results"]
            url, query = page["next"], None  # `next` has its query; {} would erase it

    def _download(self, image: Image, directory: Path) -> Path:
        data = self.fetch(image.url)
        if hashlib.sha256(data).hexdigest() != image.sha256:
            raise Damaged(f"{image.url} is not what the server said it was")
        path = directory / PurePosixPath(unquote(image.url)).name
        # An interrupted download must not look like a finished file.
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(data)
        return part.replace(path)

    def _below(self, link: str) -> str:
        """A link of the server, below the path of our address. The server leaves that path out where a proxy
        takes it off in silence."""
        base = self._http.base_url.path.rstrip("/")
        return link.removeprefix(base) if link.startswith(base + "/") else link

    def _json(self, response: httpx.Response) -> Any:
        """Raises ServerAway if the answer is not JSON: the service's always is."""
        try:
            return response.json()
        except ValueError as error:
            raise self._stranger(response) from error

    def _stranger(self, response: httpx.Response) -> ServerAway:
        said = f"HTTP {response.status_code} {response.reason_phrase}"
        return ServerAway(f"what answers at {self._address} is not the service: {said}")

    @property
    def _address(self) -> str:
        return str(self._http.base_url).rstrip("/")

    def _send(
        self,
        method: str,
        url: str,
        *,
        restarts: bool = False,
        stream: bool = False,
        follows: bool = False,
        **request: Any,
    ) -> httpx.Response:
        """Send a request, again while the server is busy; with `restarts`, also while it starts: nothing
        listens, or Ray answers in the service's name, in plain text. Every request of this client can be
        repeated safely: POSTs that make a job carry an Idempotency-Key. With `stream` the caller reads and
        closes the response. With `follows`, a redirect to a store of files is followed, without the key."""
        give_up = time.monotonic() + self._patience_s
        while True:
            response = None
            try:
                sent = self._http.build_request(method, url, **request)
                response = self._http.send(sent, stream=stream, follow_redirects=follows)
                if response.is_error:
                    response.read()
            except httpx.TransportError as error:
                wrong = _wrong_with_tls(error)
                if wrong or isinstance(error, _hopeless(restarts)) or time.monotonic() > give_up:
                    why = wrong or "no server answers"
                    raise ServerAway(f"{why} at {self._address}") from error
                response = None
            if response is not None and not _may_pass(response, restarts):
                break
            pause_s = 1.0 if response is None else _retry_after(response)
            if response is not None and time.monotonic() + pause_s > give_up:
                break
            self._pause(pause_s)
        if _is_foreign(response):
            raise self._stranger(response)
        if response.is_error:
            raise _rejected(response)
        return response


def _in_thread(
    method: Callable[Concatenate[Client, P], T],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    @functools.wraps(method)
    async def call(self: AsyncClient, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(method, self.blocking, *args, **kwargs)

    return call


def _stepwise(
    method: Callable[Concatenate[Client, P], Iterator[T]],
) -> Callable[Concatenate[AsyncClient, P], AsyncGenerator[T]]:
    @functools.wraps(method)
    async def steps(self: AsyncClient, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T]:
        iterator, end = method(self.blocking, *args, **kwargs), object()
        while (item := await asyncio.to_thread(next, iterator, end)) is not end:
            yield item  # pyright: ignore[reportReturnType]

    return steps


class AsyncClient:
    """`Client` for asyncio: the same methods, each to be awaited; lists and events are `async for`. Requests
    run in threads: one that is cancelled ends there by itself, and its answer is dropped."""

    def __init__(
        self,
        server: str = SERVER,
        *,
        api_key: str | None = None,
        patience_s: float = 60,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.blocking = Client(server, api_key=api_key, patience_s=patience_s, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.blocking.close()

    generate = _in_thread(Client.generate)
    estimate = _in_thread(Client.estimate)
    job = _in_thread(Client.job)
    jobs = _stepwise(Client.jobs)
    wait = _in_thread(Client.wait)
    change = _in_thread(Client.change)
    cancel = _in_thread(Client.cancel)
    retry = _in_thread(Client.retry)
    delete = _in_thread(Client.delete)
    derive = _in_thread(Client.derive)
    sheet = _in_thread(Client.sheet)
    archive = _in_thread(Client.archive)
    order_batch = _in_thread(Client.order_batch)
    estimate_batch = _in_thread(Client.estimate_batch)
    batch = _in_thread(Client.batch)
    batches = _stepwise(Client.batches)
    batch_rows = _stepwise(Client.batch_rows)
    wait_batch = _in_thread(Client.wait_batch)
    cancel_batch = _in_thread(Client.cancel_batch)
    retry_batch = _in_thread(Client.retry_batch)
    batch_archive = _in_thread(Client.batch_archive)
    upload = _in_thread(Client.upload)
    reproduce = _in_thread(Client.reproduce)
    delete_upload = _in_thread(Client.delete_upload)
    deliveries = _in_thread(Client.deliveries)
    redeliver = _in_thread(Client.redeliver)
    test_webhook = _in_thread(Client.test_webhook)
    fetch = _in_thread(Client.fetch)
    inspect = _in_thread(Client.inspect)
    events = _stepwise(Client.events)
    download = _in_thread(Client.download)
    styles = _in_thread(Client.styles)
    models = _in_thread(Client.models)
    vocabulary = _stepwise(Client.vocabulary)
    ready = _in_thread(Client.ready)

    def url(self, image: Image) -> str:
        """The full address of the image."""
        return self.blocking.url(image)


def _batch(
    orders: Iterable[Mapping[str, Any]] | Path | None,
    matrix: Mapping[str, Any] | None,
    said: Mapping[str, Any],
) -> dict[str, Any]:
    """The request that orders a batch. `said`: of the batch itself; what is None is left out."""
    given = {name: value for name, value in said.items() if value is not None}
    if isinstance(orders, Path):
        media_type = ORDER_FILES.get(orders.suffix.lower())
        if media_type is None:
            raise AssetsError(f"{orders.name} is none of {', '.join(ORDER_FILES)}")
        if "defaults" in given or matrix is not None:
            raise AssetsError("a file says its orders itself: no defaults, no matrix")
        try:
            data = orders.expanduser().read_bytes()
        except OSError as error:
            raise AssetsError(f"{orders} cannot be read: {error.strerror}") from error
        headers = {"Content-Type": media_type}
        if media_type == "application/json" and given:
            try:  # such a body says everything itself
                data = json.dumps({**json.loads(data), **given}).encode()
            except (ValueError, TypeError) as error:
                raise AssetsError(f"{orders} is no batch as JSON: {error}") from error
            given = {}
        return {"content": data, "headers": headers, "params": given}
    body = {"orders": None if orders is None else [*orders], "matrix": matrix}
    body = {name: value for name, value in body.items() if value is not None}
    return {"json": {**body, **given}, "headers": {}}


def _file(raw: Mapping[str, Any]) -> File:
    return File(raw["role"], raw["url"], raw["sha256"], raw.get("name") or "")


def _path(job_id: str, more: str = "") -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}{more}"


def _batch_path(batch_id: str, more: str = "") -> str:
    return f"/v1/batches/{quote(batch_id, safe='')}{more}"


def _order(prompt: str, style_id: str | None, order: Mapping[str, Any]) -> dict[str, Any]:
    """The body of POST /v1/generate."""
    body = {"prompt": prompt, "style_id": style_id, **order}
    return {name: value for name, value in body.items() if value is not None}


def _rfc3339(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _events(response: httpx.Response) -> Iterator[Event]:
    for sse in EventSource(response).iter_sse():
        if sse.data:  # httpx-sse makes an empty event of each ping once an id has been seen
            yield Event(sse.event, sse.json(), sse.id)


def _ends(event: Event) -> bool:
    """The event is the last one of its job."""
    return event.kind == "status" and event.data["status"] in FINAL


def _wrong_with_tls(error: BaseException) -> str:
    """What keeps HTTPS from working, which no second try changes; empty: it is something else."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is not good ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
            return "plain http, not https, is spoken"
        cause = cause.__cause__ or cause.__context__
    return ""


def _hopeless(restarts: bool) -> tuple[type[httpx.TransportError], ...]:
    """Failures that another try would only repeat."""
    always = (httpx.UnsupportedProtocol, httpx.ProxyError)
    return always if restarts else (*always, httpx.ConnectError)


def _may_pass(response: httpx.Response, restarts: bool) -> bool:
    """Another try may be answered otherwise."""
    if response.status_code in BUSY:
        return True
    return _is_foreign(response) and (
        response.is_server_error or (restarts and response.status_code == 404)
    )


def _is_foreign(response: httpx.Response) -> bool:
    """An error in other words than the service's: of Ray's proxy, or of another one in between."""
    return response.is_error and not response.headers.get("content-type", "").startswith(PROBLEM)


def _retry_after(response: httpx.Response) -> float:
    """Seconds to wait. 1 if the header is missing, or is a date as some proxies send."""
    with contextlib.suppress(ValueError):
        return max(0.1, float(response.headers.get("Retry-After", "")))
    return 1.0


def _rejected(response: httpx.Response) -> Rejected:
    problem: Any = None
    with contextlib.suppress(ValueError):
        problem = response.json()
    if not isinstance(problem, dict):
        problem = {"detail": f"HTTP {response.status_code} {response.reason_phrase}"}
    return Rejected(response.status_code, problem)


def _row(error: Mapping[str, Any]) -> str:
    return "" if error.get("row") is None else f"row {error['row']}, "


def _allowed(error: Mapping[str, Any]) -> str:
    allowed = error.get("allowed")
    return f" (allowed: {', '.join(map(str, allowed))})" if allowed else ""
