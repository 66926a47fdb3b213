"""Evidence: what the service shows and keeps after the campaign: over HTTP, in files, as processes.

Waits, within bounds, until every job has ended and nothing works any more, and then takes what is there.
Does not know whether that is right: `check` says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import psutil

from serve_app.jobs.store.redis_copies import copy_redis
from serve_app.jobs.store.redis_link import RedisLink
from serve_app.messages import TERMINAL
from tests.cluster.service import Service, wait_until

from .notebook import Notebook
from .pixels import published
from .receipt import Job
from .wire import Wire

T = TypeVar("T")

ENDED_WITHIN_S = 240
AT_REST_WITHIN_S = 60


class Use(NamedTuple):
    """Of one kind of process: how many there are, and the threads and open files of the one with most."""

    processes: int
    threads: int
    files: int


Census = dict[str, Use]


@dataclass(frozen=True)
class Evidence:
    jobs: dict[str, Job]  # as GET /v1/jobs lists them
    rows: set[str]  # job ids on disk
    files: dict[str, str]  # below output/, with their SHA-256
    deleted: dict[str, str]  # id of a deleted job -> what GET answers, such as "410 deleted"
    served: dict[str, int]  # URL of a deleted job's file -> HTTP status of GET
    registry: dict[str, Any]
    renderers: list[dict[str, Any]]
    before: Census
    after: Census


def collect(service: Service, wire: Wire, notebook: Notebook, before: Census) -> Evidence:
    def all_ended() -> dict[str, Job] | None:
        """All jobs, once each is in a terminal state: nothing of them changes any more."""
        for receipt in notebook.live():
            wire.poll(receipt)
        jobs = {} if notebook.live() else list_jobs(wire)
        return jobs if jobs and all(job["status"] in TERMINAL for job in jobs.values()) else None

    def idle() -> bool:
        stats = service.renderers("stats")
        return not any(s["live"] or s["waiting"] or s["jobs"] for s in stats)

    jobs = _give_time(all_ended, ENDED_WITHIN_S) or list_jobs(wire)
    files = sum(len(published(job)) for job in jobs.values())
    _give_time(lambda: len(service.files()) == files, AT_REST_WITHIN_S)
    _give_time(idle, AT_REST_WITHIN_S)
    _give_time(lambda: not grown(before, census(service)), AT_REST_WITHIN_S)
    gone = [receipt for receipt in notebook.receipts if receipt.delete_asked]
    urls = [url for receipt in gone if receipt.end for url in receipt.end["result_urls"]]
    return Evidence(
        jobs=jobs,
        rows=_rows(service),
        files={path: _sha256(service, path) for path in service.files()},
        deleted={
            receipt.job_id: _said(wire, f"/v1/jobs/{receipt.job_id}")
            for receipt in gone
            if receipt.job_id
        },
        served={url: int(_said(wire, url).split()[0]) for url in urls},
        registry=service.registry("stats"),
        renderers=service.renderers("stats"),
        before=before,
        after=census(service),
    )


def list_jobs(wire: Wire) -> dict[str, Job]:
    """Every job there is, page by page. A page may be short although more follow."""
    jobs: dict[str, Job] = {}
    path: str | None = "/v1/jobs?limit=100"
    while path is not None:
        page = _get(wire, path)
        jobs |= {job["job_id"]: job for job in page["results"]}
        path = page["next"]
    return jobs


def census(service: Service) -> Census:
    """The service's processes by kind."""
    found: Census = {}
    for process in service.tree():
        with contextlib.suppress(psutil.Error), process.oneshot():
            kind = _kind(process.cmdline() or [process.name()])
            count, threads, files = found.get(kind, Use(0, 0, 0))
            threads = max(threads, process.num_threads())
            found[kind] = Use(count + 1, threads, max(files, process.num_fds()))
    return found


MORE_PROCESSES = {"ray::IDLE": 4}
"""Ray keeps some idle workers for the next tasks."""
MORE_THREADS, MORE_FILES = 16, 40
"""Thread pools fill up as they are first used. A leak shows all the same: many faults leak many times."""
LOGS_OPEN = {"log_monitor.py": 200}
"""Ray's log monitor keeps so many logs open, also those of processes that were killed."""


def grown(before: Census, after: Census) -> list[str]:
    """A line for each kind of process of which there is notably more."""
    lines: list[str] = []
    for kind, use in after.items():
        was = before.get(kind, Use(0, use.threads, use.files))
        if use.processes > was.processes + MORE_PROCESSES.get(kind, 0):
            lines.append(f"{use.processes} processes {kind}, {was.processes} before")
        if use.threads > was.threads + MORE_THREADS:
            lines.append(f"{use.threads} threads in {kind}, {was.threads} before")
        if use.files > was.files + max(MORE_FILES, LOGS_OPEN.get(kind, 0)):
            lines.append(f"{use.files} open files in {kind}, {was.files} before")
    return lines


def _kind(command: list[str]) -> str:
    """`ray::job` for `ray::job:019a...`; the program or the script of processes that are not Ray's."""
    if command[0].startswith("ray::"):
        title = re.match(r"ray::(job|ServeReplica:\w+:\w+|\w+)", " ".join(command))
        return title[0] if title else command[0]
    names = [part for part in command if part.startswith("/") and not _is_python(part)]
    return (names or command)[0].rsplit("/", 1)[-1]


def _is_python(path: str) -> bool:
    return path.rsplit("/", 1)[-1].startswith("python")


def _rows(service: Service) -> set[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = service.directory / "state" / "jobs.db"
        if url := service.settings.get("redis_url"):
            path = Path(folder) / "copy.db"
            copy_redis(RedisLink(url, "assets"), path)
        with contextlib.closing(sqlite3.connect(path)) as db:
            return {row[0] for row in db.execute("SELECT job_id FROM jobs")}


def _sha256(service: Service, path: str) -> str:
    return hashlib.sha256((service.output / path).read_bytes()).hexdigest()


def _said(wire: Wire, path: str) -> str:
    """Status and code of an answer."""
    reply = wait_until(lambda: wire.ask("GET", path), 30, path)
    code = reply.json().get("code", "") if reply.status_code >= 400 else ""
    return f"{reply.status_code} {code}".strip()


def _get(wire: Wire, path: str) -> dict[str, Any]:
    def page() -> dict[str, Any] | None:
        reply = wire.ask("GET", path)
        return reply.json() if reply is not None and reply.status_code == 200 else None

    return wait_until(page, 30, urlsplit(path).path)


def _give_time(condition: Callable[[], T], timeout_s: float) -> T | None:
    """Wait for it. None: it was not true in time, which shows in what is collected afterwards."""
    with contextlib.suppress(AssertionError):
        return wait_until(condition, timeout_s)
    return None
