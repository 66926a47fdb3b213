"""Client: order images from a running service, wait for them, fetch them. Blocking, on httpx.

Knows the HTTP contract only: it shares no code with the server, so it may be copied elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

import httpx

SERVER = "http://127.0.0.1:8000"
BUSY = frozenset({429, 503})


class AssetsError(Exception):
    """Base of everything this client raises; its text is fit for a user."""


class ServerAway(AssetsError):
    """Nothing answers at that address."""


class Rejected(AssetsError):
    """The server said no, with a problem document (RFC 9457)."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        self.errors: list[dict[str, Any]] = problem.get("errors") or []
        wrong = [f"{e['field']}: {e['detail']}{_allowed(e)}" for e in self.errors]
        super().__init__("; ".join(wrong) or str(problem.get("detail", f"HTTP {status}")))


class NotDone(AssetsError):
    """The job was not final in time. It goes on; `job` is how it was last seen."""

    def __init__(self, job: Job | None) -> None:
        super().__init__("the job is not done yet" if job is None else f"still {job.status}")
        self.job = job


class Damaged(AssetsError):
    """A file did not arrive as the server described it."""


@dataclass(frozen=True, slots=True)
class Image:
    url: str
    index: int
    seed: int
    width: int
    height: int
    sha256: str
    notes: tuple[str, ...] = ()


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
            )
            for image in raw["images"]
        )
        return cls(raw["job_id"], raw["status"], images, raw)

    @property
    def done(self) -> bool:
        return self.status in ("SUCCESS", "FAILURE", "REVOKED")

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


class Client:
    """One server, one key. `patience_s`: for so long a busy or restarting server is asked again."""

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
                base_url=server, headers=headers, timeout=30, transport=transport
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
        self, prompt: str, *, style_id: str, idempotency_key: str | None = None, **order: Any
    ) -> Job:
        """Order images; returns at once. `order` holds any other field of POST /v1/generate; what is
        None is left out. With a key of its own, asking again cannot double the job."""
        key = idempotency_key or str(uuid.uuid4())
        body = {name: value for name, value in order.items() if value is not None}
        body |= {"prompt": prompt, "style_id": style_id}
        response = self._send("POST", "/v1/generate", json=body, headers={"Idempotency-Key": key})
        return Job.of(response.json())

    def job(self, job_id: str) -> Job:
        return Job.of(self._send("GET", f"/v1/jobs/{job_id}").json())

    def wait(
        self,
        job_id: str,
        *,
        on_progress: Callable[[Job], None] | None = None,
        timeout_s: float | None = None,
    ) -> Job:
        """Returns the final job, failed or not. Raises NotDone at the timeout."""
        give_up = None if timeout_s is None else time.monotonic() + timeout_s
        job, etag = None, ""
        while True:
            # The ETag does not cover the place in line, which is what a waiting user looks at.
            headers = {"If-None-Match": etag} if job and job.queue_position is None else {}
            response = self._send("GET", f"/v1/jobs/{job_id}", headers=headers, restarts=True)
            if response.status_code != 304:
                job, etag = Job.of(response.json()), response.headers["ETag"]
                if on_progress is not None:
                    on_progress(job)
                if job.done:
                    return job
            pause_s = _retry_after(response)
            if give_up is not None and time.monotonic() + pause_s > give_up:
                raise NotDone(job)
            self._pause(pause_s)

    def download(self, job: Job, directory: Path) -> list[Path]:
        """Fetch the images of a finished job, checked against their hashes. In order of index."""
        directory.mkdir(parents=True, exist_ok=True)
        return [self._download(image, directory) for image in job.images]

    def url(self, image: Image) -> str:
        """The image's address, for a browser."""
        return str(self._http.base_url.join(image.url))

    def styles(self) -> list[dict[str, Any]]:
        return self._send("GET", "/v1/styles").json()["results"]

    def models(self) -> list[dict[str, Any]]:
        return self._send("GET", "/v1/models").json()["results"]

    def ready(self) -> bool:
        """A job would be served."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _download(self, image: Image, directory: Path) -> Path:
        data = self._send("GET", image.url, restarts=True).content
        if hashlib.sha256(data).hexdigest() != image.sha256:
            raise Damaged(f"{image.url} is not what the server said it was")
        path = directory / PurePosixPath(unquote(image.url)).name
        part = path.with_name(f".{path.name}.part")  # a broken transfer must not look finished
        part.write_bytes(data)
        return part.replace(path)

    def _send(
        self, method: str, url: str, *, restarts: bool = False, **request: Any
    ) -> httpx.Response:
        """Asks again while the server is busy; with `restarts`, also while it is away. Every request
        of this client may be repeated: GETs, and POSTs with an Idempotency-Key."""
        give_up = time.monotonic() + self._patience_s
        while True:
            response = None
            try:
                response = self._http.request(method, url, **request)
            except httpx.TransportError as error:
                if isinstance(error, _hopeless(restarts)) or time.monotonic() > give_up:
                    server = str(self._http.base_url).rstrip("/")
                    raise ServerAway(f"no server answers at {server}") from error
            if response is not None and response.status_code not in BUSY:
                break
            pause_s = 1.0 if response is None else _retry_after(response)
            if response is not None and time.monotonic() + pause_s > give_up:
                break
            self._pause(pause_s)
        if response.is_error:
            raise _rejected(response)
        return response


def _hopeless(restarts: bool) -> tuple[type[httpx.TransportError], ...]:
    """Failures that asking again will not mend."""
    always = (httpx.UnsupportedProtocol, httpx.ProxyError)
    return always if restarts else (*always, httpx.ConnectError)


def _retry_after(response: httpx.Response) -> float:
    """Seconds. A server in front of ours may send a date: then a second will do."""
    with contextlib.suppress(ValueError):
        return max(0.1, float(response.headers.get("Retry-After", "")))
    return 1.0


def _rejected(response: httpx.Response) -> Rejected:
    problem: Any = None
    with contextlib.suppress(ValueError):  # a proxy in between answers in HTML
        problem = response.json()
    if not isinstance(problem, dict):
        problem = {"detail": f"HTTP {response.status_code} {response.reason_phrase}"}
    return Rejected(response.status_code, problem)


def _allowed(error: Mapping[str, Any]) -> str:
    allowed = error.get("allowed")
    return f" (allowed: {', '.join(map(str, allowed))})" if allowed else ""
