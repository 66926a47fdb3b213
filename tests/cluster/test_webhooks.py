"""Webhooks of a real cluster, one story: receivers that do what receivers do, and SIGKILL of each process.

No event is lost. One may come twice: then it has the same id, and its receiver knows. The table that this
prints counts both.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from standardwebhooks import Webhook

from serve_app.hook_events import BATCH_HOOK_EVENTS
from serve_app.webhooks.owners import add_secret, rotate_secret
from tests.webhooks.receiver import (
    Answer,
    Call,
    Receiver,
    certificates,
    never,
    receiving,
    says,
    writes,
)

from .service import Service, wait_until
from .test_faults import INGRESS, REGISTRY, RENDERER

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]

COURIER = r"^ray::WebhookCourier\b"
EVENTS = ["queued", "started", "output", "completed"]
BATCH = "batch-everything-killed"
FIRST: dict[str, Answer] = {
    "error": says(500),
    "redirect": says(307, "Location: https://localhost:1/"),
    "closed": writes(b""),
    "lies": writes(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx"),
    "slow": never,
}
"""How a receiver answers the first call for each job, by the first part of the path. Then it behaves."""


class Mailbox:
    """A receiver that verifies what comes, and keeps it in the order of its arrival."""

    def __init__(self, receiver: Receiver, secret: str) -> None:
        self.port, self._verifier = receiver.port, Webhook(secret)
        receiver.answer = self._answer
        self.taken: list[
            tuple[str, str, str]
        ] = []  # path, event, job id; what was answered with 2xx
        self.called: Counter[str] = Counter()  # by id
        self._bad: set[str] = set()
        self.held = threading.Semaphore(0)  # a call is held
        self._shut = ""  # the path whose calls are not answered now
        self._open = threading.Event()

    def url(self, name: str) -> str:
        return f"https://localhost:{self.port}/{name}"

    @contextlib.contextmanager
    def holding(self, name: str) -> Generator[None]:
        """Calls of this path are taken and not answered meanwhile."""
        self._shut, self.held = name, threading.Semaphore(0)
        self._open.clear()
        try:
            yield
        finally:
            self._shut = ""
            self._open.set()

    async def _answer(self, call: Call, writer: asyncio.StreamWriter) -> None:
        body = self._verifier.verify(call.body, call.headers)
        name, id = call.line.split()[1].strip("/"), call.headers["webhook-id"]
        self.called[id] += 1
        if name == self._shut:
            self.held.release()
            await asyncio.to_thread(self._open.wait, 60)
        job_id = body["data"].get("job_id") or body["data"]["batch_id"]
        event = body["type"].rpartition(".")[2]
        if name in FIRST and f"{name} {job_id}" not in self._bad:
            self._bad.add(f"{name} {job_id}")
            if name == "lies":
                self.taken.append((name, event, job_id))
            await FIRST[name](call, writer)
            return
        self.taken.append((name, event, job_id))
        await says(204)(call, writer)


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Mailbox, dict[str, Any]]]:
    """With the settings of a service that calls it. Its receiver knows the older of two secrets."""
    folder = tmp_path_factory.mktemp("hooks")
    secret = add_secret(folder / "hooks.yaml", "local")
    rotate_secret(folder / "hooks.yaml", "local")
    settings = {
        "webhooks_file": str(folder / "hooks.yaml"),
        "webhook_networks": ["127.0.0.0/8"],
        "webhook_ca_file": certificates(folder),
        "public_url": "https://art.example",
    }
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(receiving(None, "localhost")) as receiver,
    ):
        yield Mailbox(receiver, secret), settings


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_settings: dict[str, Any],
    mailbox: tuple[Mailbox, dict[str, Any]],
) -> Iterator[Service]:
    settings = {**tiny_settings, **mailbox[1], "shutdown_grace_s": 3}
    service = Service(tmp_path_factory.mktemp("webhooks"), settings)
    try:
        yield service.start()
    finally:
        service.stop()


def test_no_event_is_lost_whatever_dies(
    service: Service, mailbox: tuple[Mailbox, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    box, _ = mailbox
    ordered: dict[str, list[str]] = {}

    def order(name: str, number: int, **more: Any) -> None:
        jobs = ordered.setdefault(name, [])
        for _ in range(number):
            hook = {"webhook": box.url(name), "webhook_events_filter": EVENTS}
            jobs.append(service.submit(seed=len(ordered) * 100 + len(jobs), **hook, **more))

    def held_then_killed(name: str, pattern: str) -> None:
        """What is on its way when the process dies was taken, and nobody knows it."""
        with box.holding(name):
            order(name, 3)
            assert box.held.acquire(timeout=60)
            service.kill(pattern)

    for name in FIRST:
        order(name, 1)
    held_then_killed("courier-killed", COURIER)
    wait_until(lambda: service.processes(COURIER), 60, "another courier")
    held_then_killed("registry-killed", REGISTRY)
    service.await_status(ordered["registry-killed"][-1], "SUCCESS")
    order("ingress-and-renderer-killed", 2, steps=60)
    service.await_status(ordered["ingress-and-renderer-killed"][0], "STARTED")
    service.kill(RENDERER)
    service.kill(INGRESS)
    wait_until(lambda: answers(service), 60, "another ingress")
    orders = [{"prompt": "a key", "style_id": "none", "seed": n} for n in range(3)]
    hook = {"webhook": box.url(BATCH), "webhook_events_filter": [*BATCH_HOOK_EVENTS]}
    batch = service.http.post("/v1/batches", json={"orders": orders, **hook}).json()
    with box.holding("everything-killed"):
        order("everything-killed", 3)
        assert box.held.acquire(timeout=60)
        service.kill_everything()
    service.start()
    for jobs in ordered.values():
        assert {service.result(job_id)["status"] for job_id in jobs} == {"SUCCESS"}

    wanted = {(n, e, job) for n, jobs in ordered.items() for job in jobs for e in EVENTS}
    wanted |= {(BATCH, event, batch["batch_id"]) for event in BATCH_HOOK_EVENTS}

    def lost() -> set[tuple[str, str, str]]:
        return wanted - set(box.taken)

    try:
        wait_until(lambda: not lost(), 90, "all events")
    except AssertionError as error:
        raise AssertionError(f"{lost()}: {deliveries(service)}") from error
    with capsys.disabled():
        print_table(wanted, box)
    first = {entry: -i for i, entry in reversed([*enumerate(box.taken)])}
    for name, jobs in ordered.items():
        for job_id in jobs:
            arrived = [first[name, event, job_id] for event in EVENTS]
            assert arrived == sorted(arrived, reverse=True), (name, job_id)
    of_batch = [event for name, event, _ in box.taken if name == BATCH]
    assert list(dict.fromkeys(of_batch)) == [*BATCH_HOOK_EVENTS]
    wait_until(lambda: service.registry("stats")["webhooks"] == 0, 30, "nothing is on its way")
    found = deliveries(service)
    of_jobs = 4 * sum(map(len, ordered.values()))
    assert len(found) == of_jobs + len(BATCH_HOOK_EVENTS)
    assert {one["state"] for one in found} == {"delivered"}


def deliveries(service: Service) -> list[dict[str, Any]]:
    return service.http.get("/v1/webhooks/deliveries?limit=100").json()["results"]


def answers(service: Service) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return service.http.get("/healthz").status_code == 200
    return False


def print_table(wanted: set[tuple[str, str, str]], box: Mailbox) -> None:
    """Faults x events: what was to be told, what arrived at least once, what never, what came again."""
    print(f"\n{'fault':28} {'events':>6} {'delivered':>9} {'lost':>4} {'doubled':>7} {'calls':>5}")
    for name in dict.fromkeys(name for name, _, _ in sorted(wanted)):
        of_it = {entry for entry in wanted if entry[0] == name}
        taken = Counter(entry for entry in box.taken if entry[0] == name)
        about = {about for _, _, about in of_it}
        calls = sum(count for id, count in box.called.items() if id.split("_")[1] in about)
        doubled = sum(count > 1 for count in taken.values())
        print(
            f"{name:28} {len(of_it):6} {len(of_it & set(taken)):9} {len(of_it - set(taken)):4}"
            f" {doubled:7} {calls:5}"
        )
