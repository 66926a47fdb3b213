"""The life of a job over real HTTP and real Ray: it is watched, cancelled, repeated, listed and deleted."""

from __future__ import annotations

import base64
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse

from .service import Service, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

LONG: dict[str, Any] = {"steps": 900, "n": 30}  # minutes, if nobody stops it


def events(service: Service, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(kind, data) of each event of a stream."""
    timeout = httpx.Timeout(10, read=60)
    with (
        httpx.Client(
            base_url=service.http.base_url, timeout=timeout, headers=service.headers
        ) as http,
        connect_sse(http, "GET", path) as source,
    ):
        for event in source.iter_sse():
            if event.data:
                yield event.event, json.loads(event.data)


def idle(service: Service) -> bool:
    return all(s["jobs"] == s["live"] == 0 for s in service.renderers("stats"))


def test_a_job_is_watched_from_its_order_to_its_files(shared: Service) -> None:
    job_id = shared.submit(steps=400, n=2, seed=5)
    seen = list(events(shared, f"/v1/jobs/{job_id}/events?preview=true"))
    kinds = [kind for kind, _ in seen]
    assert kinds[0] == "status"
    assert kinds[-3:] == ["output", "output", "status"]
    assert seen[-1][1]["status"] == "SUCCESS"
    steps = [e["progress"]["step"] for kind, e in seen if kind == "progress" and e["progress"]]
    assert steps == sorted(steps)
    assert len(set(steps)) >= 2
    previews = [e for kind, e in seen if kind == "preview"]
    assert previews
    assert base64.b64decode(previews[0]["data"]).startswith(b"\xff\xd8")
    assert shared.registry("stats")["previewed"] == 0


def test_a_running_job_is_cancelled_and_the_device_is_free(shared: Service) -> None:
    job_id = shared.submit(**LONG)
    shared.await_status(job_id, "STARTED")
    reply = shared.http.post(f"/v1/jobs/{job_id}/cancel")
    assert reply.status_code == 200
    assert (reply.json()["status"], reply.json()["error"]["code"]) == ("REVOKED", "cancelled")
    wait_until(lambda: idle(shared), 10, "the device is free")
    again = shared.http.post(f"/v1/jobs/{job_id}/cancel")
    assert (again.status_code, again.json()["status"]) == (200, "REVOKED")
    wait_until(lambda: not [f for f in shared.files() if job_id in f], 10, "its files are gone")
    wait_until(lambda: shared.registry("stats")["in_flight"] == 0, 30, "its task has ended")


def test_a_deadline_ends_a_job(shared: Service) -> None:
    body = {"prompt": "a sword", "style_id": "none", **LONG}
    reply = shared.http.post("/v1/generate", json=body, headers={"Cancel-After": "1"})
    job = shared.result(reply.json()["job_id"])
    assert (job["status"], job["error"]["code"]) == ("REVOKED", "deadline_exceeded")
    wait_until(lambda: idle(shared), 10, "the device is free")


def test_a_held_answer_comes_with_the_files(shared: Service) -> None:
    body = {"prompt": "a sword", "style_id": "none", "steps": 3, "seed": 9}
    reply = shared.http.post("/v1/generate", json=body, headers={"Prefer": "wait=30"})
    assert reply.status_code == 200
    assert reply.headers["preference-applied"] == "wait=30"
    assert reply.json()["status"] == "SUCCESS"
    assert shared.http.get(reply.json()["result_urls"][0]).status_code == 200


def test_a_job_is_repeated_listed_and_deleted(shared: Service) -> None:
    first = shared.result(shared.submit(seed=21, tags=["shelf", "blue"], metadata={"slot": 7}))
    reply = shared.http.post(f"/v1/jobs/{first['job_id']}/retry")
    assert reply.status_code == 202
    second = shared.result(reply.json()["job_id"])
    assert second["retry_of"] == first["job_id"]
    assert shared.pixels(second) == shared.pixels(first)
    listed = shared.http.get("/v1/jobs", params={"tag": "shelf", "limit": 1}).json()
    assert [job["job_id"] for job in listed["results"]] == [second["job_id"]]
    listed = shared.http.get(listed["next"]).json()
    assert [job["job_id"] for job in listed["results"]] == [first["job_id"]]
    assert listed["results"][0]["metadata"] == {"slot": 7}
    url = first["result_urls"][0]
    assert shared.http.delete(f"/v1/jobs/{first['job_id']}").status_code == 204
    assert shared.http.get(url).status_code == 404
    gone = shared.http.get(f"/v1/jobs/{first['job_id']}")
    assert (gone.status_code, gone.json()["code"]) == (410, "deleted")


def test_a_dry_run_says_whether_an_order_is_possible_and_how_long_it_takes(shared: Service) -> None:
    shared.result(shared.submit(seed=30))
    body = {"prompt": "a sword", "style_id": "none", "steps": 4, "dry_run": True}
    said = shared.http.post("/v1/generate", json=body).json()
    assert said["possible"] is True
    assert 0 < said["estimated_seconds"] < 60
    assert said["request"]["steps"] == 4


def test_a_waiting_job_moves_forward_in_the_line(shared: Service) -> None:
    blockers = [shared.submit(**LONG, seed=100 * i) for i in range(6)]
    last = shared.submit(steps=4, seed=31)
    job = shared.job(last)
    assert job["status"] == "PENDING"
    assert job["queue_position"] > 1
    assert job["waiting_for"]
    places: list[int] = []

    def read() -> None:
        for _, data in events(shared, f"/v1/jobs/{last}/events"):
            if data.get("queue_position"):
                places.append(data["queue_position"])

    reader = threading.Thread(target=read)
    reader.start()
    for blocker in blockers:
        wait_until(lambda: places, 30, "a queue position came")
        assert shared.http.post(f"/v1/jobs/{blocker}/cancel").status_code == 200
    assert shared.result(last)["status"] == "SUCCESS"
    reader.join(30)
    assert places == sorted(places, reverse=True)


def test_one_stream_tells_of_all_jobs_of_a_client(shared: Service) -> None:
    heard: list[tuple[str, str]] = []
    ready, done = threading.Event(), threading.Event()
    blocker = shared.submit(**LONG)

    def read() -> None:
        for kind, data in events(shared, "/v1/events"):
            if kind == "status":
                heard.append((data["job_id"], data["status"]))
                ready.set()
                if data["status"] == "SUCCESS":
                    done.set()
                    return

    reader = threading.Thread(target=read)
    reader.start()
    assert ready.wait(30)
    assert heard[0][0] == blocker
    mine = shared.submit(steps=3, seed=33)
    assert done.wait(60)
    assert (mine, "SUCCESS") in heard
    shared.http.post(f"/v1/jobs/{blocker}/cancel")
    reader.join(30)


WAYS: dict[str, Callable[[socket.socket], Any]] = {
    "closes": lambda reader: reader.close(),
    "resets": lambda reader: (
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)),
        reader.close(),
    ),
    "says no more": lambda reader: reader.shutdown(socket.SHUT_WR),
    "listens no more": lambda reader: reader.shutdown(socket.SHUT_RD),
}
"""How a reader of a stream may leave."""


def test_readers_leave_in_every_way_and_no_log_minds(shared: Service) -> None:
    """Before the first event, and in the middle; of a job that runs, and of one that ends meanwhile."""
    job_id = shared.submit(**LONG)
    shared.await_status(job_id, "STARTED")
    paths = [f"/v1/jobs/{job_id}/events", "/v1/events", "/v1/events?preview=true"]
    left = [
        reader_of(shared, path, leaves=WAYS[way], events=number)
        for path in paths
        for way in WAYS
        for number in (0, 2)
    ]
    stay = [reader_of(shared, path) for path in paths]
    assert shared.http.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
    assert shared.result(shared.submit(seed=91))["status"] == "SUCCESS"
    for reader in (*left, *stay):
        reader.close()
    # Another look at the ingress: what its event loop had to say of the readers, it has said.
    assert shared.http.get(f"/v1/jobs/{job_id}").json()["status"] == "REVOKED"
    logs = Path(shared.ray_directory) / "session_latest" / "logs"
    files = [*logs.glob("worker-*"), *logs.glob("serve/*.log")]
    said = "".join(file.read_text(errors="replace") for file in files)
    assert "Started initializing replica" in said
    assert "never retrieved" not in said
    assert "response already completed" not in said


def reader_of(
    service: Service,
    path: str,
    *,
    leaves: Callable[[socket.socket], Any] | None = None,
    events: int = 1,
) -> socket.socket:
    """Asks for a stream, reads so many events of it, and then does as it is told."""
    reader = socket.create_connection(("127.0.0.1", service.port), timeout=30)
    reader.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    read = b""
    while read.count(b"event: ") < events:
        piece = reader.recv(65536)
        assert piece, read
        read += piece
    if leaves is not None:
        leaves(reader)
    return reader
