"""Event streams behind HAProxy, with two ingress replicas and API keys: events come at once, and after a cut
a new connection begins with a snapshot.

HAProxy listens on every interface, whatever Serve is told, so the service behind it asks for keys.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from .service import Service, haproxy, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

LONG: dict[str, Any] = {"steps": 900, "n": 30}  # minutes, if nobody stops it
KEY = "a key of this test"
INGRESS = "^ray::ServeReplica:assets:Ingress"
REGISTRY = r"^ray::Registry\b"


@pytest.fixture(scope="module")
def behind_haproxy(
    tmp_path_factory: pytest.TempPathFactory, tiny_settings: dict[str, Any]
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("haproxy")
    keys = folder / "keys.txt"
    keys.write_text(f"studio:{hashlib.sha256(KEY.encode()).hexdigest()}\n")
    service = Service(
        folder,
        {**tiny_settings, "api_keys_file": str(keys), "ingress_replicas": 2},
        environment=haproxy(),
        headers={"Authorization": f"Bearer {KEY}"},
    )
    try:
        yield service.start()
    finally:
        service.stop()


class Reader:
    """Reads a stream in a thread, and connects again whenever it is cut off, until the job's end."""

    def __init__(self, service: Service, path: str) -> None:
        self._service, self._path = service, path
        self.events: list[ServerSentEvent] = []
        self.begun: list[int] = []  # how many events had been read when a stream began
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def statuses(self) -> list[str]:
        return [event.json()["status"] for event in self.events if event.event == "status"]

    def first_of(self, connection: int) -> ServerSentEvent | None:
        """The first event of a connection, by its number. None: it has not come yet."""
        if connection >= len(self.begun) or self.begun[connection] >= len(self.events):
            return None
        return self.events[self.begun[connection]]

    def _run(self) -> None:
        timeout = httpx.Timeout(10, read=60)
        with httpx.Client(
            base_url=self._service.http.base_url, timeout=timeout, headers=self._service.headers
        ) as http:
            while not self.statuses() or self.statuses()[-1] not in ("REVOKED", "SUCCESS"):
                try:
                    with connect_sse(http, "GET", self._path) as source:
                        if source.response.status_code != 200:
                            source.response.read()
                            _pause()
                            continue
                        self.begun.append(len(self.events))
                        self.events += (e for e in source.iter_sse() if e.data)
                except httpx.TransportError:
                    _pause()


def _pause() -> None:
    """No replica serves at this moment, and nothing tells this process when one does again."""
    threading.Event().wait(0.1)


def rev(event: ServerSentEvent) -> tuple[int, int]:
    epoch, _, number = event.id.partition(".")
    return int(epoch), int(number)


def test_a_stream_outlives_its_replica_and_the_registry(behind_haproxy: Service) -> None:
    """Events come while the job runs. Each new connection begins with a whole snapshot, no older than what
    was read before, also from another replica and after the registry was restarted."""
    service = behind_haproxy
    job_id = service.submit(**LONG)
    reader = Reader(service, f"/v1/jobs/{job_id}/events")
    try:
        wait_until(lambda: "STARTED" in reader.statuses(), 60, "the start was told")
        wait_until(lambda: any(e.event == "progress" for e in reader.events), 60, "progress")

        for number, replica in enumerate(service.processes(INGRESS), 1):
            before = len(reader.events)
            replica.kill()
            if len(reader.begun) == number:  # it may have been the other replica's stream
                wait_until(lambda n=before: len(reader.events) > n, 90, "the stream goes on")
        wait_until(lambda: len(reader.begun) > 1 and reader.first_of(1), 90, "a new connection")
        second = reader.first_of(1)
        assert second is not None
        assert (second.event, second.json()["job_id"]) == ("status", job_id)
        assert rev(second) >= rev(reader.events[reader.begun[1] - 1])

        epoch = max(rev(event)[0] for event in reader.events)
        service.kill(REGISTRY)
        wait_until(
            lambda: any(rev(event)[0] > epoch for event in reader.events), 90, "the new registry"
        )
        cancel = f"/v1/jobs/{job_id}/cancel"
        # The other replica may not have found the new registry yet.
        wait_until(lambda: service.http.post(cancel).status_code == 200, 30, "it is cancelled")
        reader.thread.join(60)
        assert not reader.thread.is_alive()
        assert reader.statuses()[-1] == "REVOKED"
    finally:
        service.http.post(f"/v1/jobs/{job_id}/cancel")
        reader.thread.join(60)


def test_without_a_key_there_are_no_events(behind_haproxy: Service) -> None:
    reply = httpx.get(f"{behind_haproxy.http.base_url}/v1/events")
    assert reply.status_code == 401
