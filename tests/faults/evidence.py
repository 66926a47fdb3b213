"""Evidence: what the service shows and keeps once the dust has settled, over HTTP, in files, as processes.

Waits for things to settle within bounds, and takes what is there then: whether that is right is
`check`'s to say.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import psutil

from tests.cluster.service import Service, wait_until

from .ledger import TERMINAL, Job, Ledger
from .wire import Wire

T = TypeVar("T")

SERVED_WITHIN_S = 240
AT_REST_WITHIN_S = 60


class Use(NamedTuple):
    """All processes of one kind together, but the threads and files of the one that has most."""

    processes: int
    threads: int
    files: int


Census = dict[str, Use]


@dataclass(frozen=True)
class Evidence:
    jobs: dict[str, Job]  # as GET /v1/jobs lists them
    rows: set[str]  # job ids on disk
    files: dict[str, str]  # below output/, with their SHA-256
    deleted: dict[str, str]  # job id -> what GET says of it, such as "410 deleted"
    served: dict[str, int]  # URL of a deleted job's file -> HTTP status
    registry: dict[str, Any]
    renderers: list[dict[str, Any]]
    before: Census
    after: Census


def collect(service: Service, wire: Wire, ledger: Ledger, before: Census) -> Evidence:
    def served() -> dict[str, Job] | None:
        """All jobs, once they are final: nothing of them changes any more."""
        for entry in ledger.live():
            wire.poll(entry)
        jobs = {} if ledger.live() else list_jobs(wire)
        return jobs if jobs and all(job["status"] in TERMINAL for job in jobs.values()) else None

    def idle() -> bool:
        stats = service.renderers("stats")
        return not any(s["live"] or s["waiting"] or s["jobs"] for s in stats)

    jobs = _give_time(served, SERVED_WITHIN_S) or list_jobs(wire)
    images = sum(len(job["images"]) for job in jobs.values())
    _give_time(lambda: len(service.files()) == images, AT_REST_WITHIN_S)
    _give_time(idle, AT_REST_WITHIN_S)
    _give_time(lambda: not grown(before, census(service)), AT_REST_WITHIN_S)
    gone = [entry for entry in ledger.entries if entry.delete_asked]
    urls = [url for entry in gone if entry.end for url in entry.end["result_urls"]]
    return Evidence(
        jobs=jobs,
        rows=_rows(service),
        files={path: _sha256(service, path) for path in service.files()},
        deleted={
            entry.job_id: _said(wire, f"/v1/jobs/{entry.job_id}") for entry in gone if entry.job_id
        },
        served={url: int(_said(wire, url).split()[0]) for url in urls},
        registry=service.registry("stats"),
        renderers=service.renderers("stats"),
        before=before,
        after=census(service),
    )


def list_jobs(wire: Wire) -> dict[str, Job]:
    """Every job there is, page by page. Bounded by the clock alone: pages may be short."""
    jobs: dict[str, Job] = {}
    path: str | None = "/v1/jobs?limit=100"
    while path is not None:
        page = _get(wire, path)
        jobs |= {job["job_id"]: job for job in page["results"]}
        path = page["next"]
    return jobs


def census(service: Service) -> Census:
    """Who runs, by kind of process."""
    found: Census = {}
    for process in service.tree():
        with contextlib.suppress(psutil.Error), process.oneshot():
            kind = _kind(process.cmdline() or [process.name()])
            count, threads, files = found.get(kind, Use(0, 0, 0))
            threads = max(threads, process.num_threads())
            found[kind] = Use(count + 1, threads, max(files, process.num_fds()))
    return found


MORE_PROCESSES = {"ray::IDLE": 4}
"""Ray keeps some workers for the next task, as many as it thinks right."""
MORE_THREADS, MORE_FILES = 16, 40
"""Pools fill up as they are first used; what a fault leaks, many faults leak many times."""


def grown(before: Census, after: Census) -> list[str]:
    """What there is notably more of."""
    lines: list[str] = []
    for kind, use in after.items():
        was = before.get(kind, Use(0, use.threads, use.files))
        if use.processes > was.processes + MORE_PROCESSES.get(kind, 0):
            lines.append(f"{use.processes} processes {kind}, {was.processes} before")
        if use.threads > was.threads + MORE_THREADS:
            lines.append(f"{use.threads} threads in {kind}, {was.threads} before")
        if use.files > was.files + MORE_FILES:
            lines.append(f"{use.files} open files in {kind}, {was.files} before")
    return lines


def _kind(command: list[str]) -> str:
    """`ray::job:019a...` is a kind `ray::job`; of others, the program or the script."""
    if command[0].startswith("ray::"):
        title = re.match(r"ray::(job|ServeReplica:\w+:\w+|\w+)", " ".join(command))
        return title[0] if title else command[0]
    names = [part for part in command if part.startswith("/") and "python" not in part]
    return (names or command)[0].rsplit("/", 1)[-1]


def _rows(service: Service) -> set[str]:
    with contextlib.closing(sqlite3.connect(service.directory / "state" / "jobs.db")) as db:
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
    """Whether it came true in time is seen in what is taken afterwards."""
    with contextlib.suppress(AssertionError):
        return wait_until(condition, timeout_s)
    return None
