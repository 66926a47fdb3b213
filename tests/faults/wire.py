"""Wire: every HTTP call of the campaign. What comes back, or does not, goes into the ledger.

Knows the contract of the routes; nothing of processes, of faults, or of how calls are paced.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx

from .ledger import TERMINAL, Entry, Job, Ledger, Outcome
from .orders import Order

TIMEOUT_S = 30.0
NOT_NOW = (429, 503)


class Wire:
    """One client's connections. Not shared by threads."""

    def __init__(self, port: int, ledger: Ledger) -> None:
        self._port, self._ledger = port, ledger
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}")

    def close(self) -> None:
        self._http.close()

    # ---- orders and retries ----

    def order(self, order: Order, timeout_s: float = TIMEOUT_S) -> Entry:
        entry = self._ledger.add(Entry(order, key=order.key))
        self.send(entry, timeout_s)
        return entry

    def retry(self, of: Entry, key: str | None) -> Entry:
        entry = self._ledger.add(Entry(of.order, retry_of=of.job_id, key=key))
        self.send(entry)
        return entry

    def send(self, entry: Entry, timeout_s: float = TIMEOUT_S) -> bool:
        """Order it, perhaps again. True: it is accepted."""
        asked_at = time.monotonic()
        if entry.retry_of is None:
            body, headers = entry.order.body(), entry.order.headers()
            reply = self.ask("POST", "/v1/generate", json=body, headers=headers, timeout=timeout_s)
        else:
            headers = {} if entry.key is None else {"Idempotency-Key": entry.key}
            path = f"/v1/jobs/{entry.retry_of}/retry"
            reply = self.ask("POST", path, headers=headers, timeout=timeout_s)
        if reply is None:
            entry.unanswered += 1
        elif reply.status_code == 202:
            self._ledger.accepted(entry, reply.json())
            self._ledger.saw(entry, reply.json(), asked_at)
        else:
            self._ledger.refused(entry)
            if reply.status_code not in NOT_NOW:
                self._ledger.broken(f"refused: {entry.name}: {reply.status_code} {reply.text}")
        return entry.outcome is Outcome.ACCEPTED

    def send_again(self, entry: Entry) -> None:
        """The same key once more, though it was answered: the same job, and marked as a replay."""
        order = entry.order
        reply = self.ask("POST", "/v1/generate", json=order.body(), headers=order.headers())
        if reply is not None and reply.status_code == 202:
            self._ledger.accepted(entry, reply.json())
            self._ledger.replays += 1
            if reply.headers.get("Idempotency-Replayed") != "true":
                self._ledger.broken(f"doubled: {entry.name}: a replay does not say that it is one")

    def hang_up(self, order: Order, share: float) -> Entry:
        """Leave after that share of the bytes of an order; 1: after all, but before the answer."""
        entry = self._ledger.add(Entry(order))
        body = json.dumps(order.body()).encode()
        headers = {
            "Host": f"127.0.0.1:{self._port}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        } | order.headers()
        lines = [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(["POST /v1/generate HTTP/1.1", *lines, "", ""]).encode()
        whole = head + body
        sent = whole[: round(share * len(whole))]
        if len(sent) < len(whole):
            entry.outcome = Outcome.CUT
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._port), 5) as s,
        ):
            s.sendall(sent)
        return entry

    # ---- questions about a job ----

    def poll(self, entry: Entry, wait_s: int = 0) -> bool:
        """See how it is; with `wait_s`, be told when it is final. True: the service answered."""
        headers = {"Prefer": f"wait={wait_s}"} if wait_s else {}
        return self._about(entry, "GET", "", headers=headers)

    def cancel(self, entry: Entry) -> bool:
        self._ledger.asked(entry, "cancel")
        answered = self._about(entry, "POST", "/cancel")
        if answered and not entry.delete_asked and entry.end is None:
            self._ledger.broken(f"cancelled: {entry.name} is {entry.status} in the answer")
        return answered

    def delete(self, entry: Entry) -> bool:
        self._ledger.asked(entry, "delete")
        return self._about(entry, "DELETE", "")

    def _about(self, entry: Entry, method: str, path: str, **rest: Any) -> bool:
        asked_at = time.monotonic()
        reply = self.ask(method, f"/v1/jobs/{entry.job_id}{path}", **rest)
        if reply is None or reply.status_code in NOT_NOW:
            return False
        if reply.status_code == 200:
            self._ledger.saw(entry, reply.json(), asked_at)
        elif reply.status_code == 204:
            self._ledger.gone(entry)
        elif reply.status_code == 410:
            self._ledger.gone(entry)
            if reply.json()["code"] != "deleted":
                self._ledger.broken(f"lost: {entry.name}: {reply.text}")
        else:
            self._ledger.broken(f"lost: {method} {path} {entry.name}: {reply.status_code}")
        return True

    def listen(self, entry: Entry | None, enough: Callable[[int], bool]) -> int:
        """Open a stream of events, of one job or of all, and hang up in the middle of it, at the
        latest in its first silence. Returns how many lines came."""
        path = "/v1/events" if entry is None else f"/v1/jobs/{entry.job_id}/events"
        timeout = httpx.Timeout(5, read=3)
        lines: list[str] = []
        asked_at = time.monotonic()
        with (
            contextlib.suppress(httpx.TransportError),
            self._http.stream("GET", path, params={"preview": "true"}, timeout=timeout) as reply,
        ):
            if reply.status_code == 200:
                for line in reply.iter_lines():
                    lines.append(line)
                    if enough(len(lines)):
                        break
        if entry is not None and (event := _first_event(lines)) is not None:
            if event["event"] == "status":
                self._ledger.saw(entry, json.loads(event["data"]), asked_at)
            else:
                self._ledger.broken(f"events: {entry.name} begins with {event['event']}")
        return len(lines)

    # ---- questions about the service ----

    def alive(self) -> bool:
        reply = self.ask("GET", "/healthz", timeout=5)
        return reply is not None and reply.status_code == 200

    def ready(self) -> bool:
        reply = self.ask("GET", "/readyz", timeout=10)
        return reply is not None and reply.status_code == 200

    def look(self, job_id: str) -> Job | None:
        """A job that is perhaps in nobody's ledger. None: nothing was heard; {}: there is none."""
        reply = self.ask("GET", f"/v1/jobs/{job_id}", timeout=10)
        if reply is None or reply.status_code in NOT_NOW:
            return None
        return reply.json() if reply.status_code == 200 else {}

    def ask(
        self, method: str, path: str, timeout: float = TIMEOUT_S, **rest: Any
    ) -> httpx.Response | None:
        """None: the service itself was not heard. What stands before it may have spoken: Serve's
        proxy answers in plain text when the replica is gone, or not there yet."""
        try:
            reply = self._http.request(method, path, timeout=timeout, **rest)
        except httpx.TransportError:
            return None
        kind = reply.headers.get("content-type", "")
        if reply.status_code >= 400 and not kind.startswith("application/problem+json"):
            return None
        if reply.status_code >= 500 and reply.status_code not in NOT_NOW:
            self._ledger.broken(f"error: {method} {path}: {reply.status_code} {reply.text}")
        return reply


def _first_event(lines: list[str]) -> dict[str, str] | None:
    """None: it did not come whole."""
    if "" not in lines:
        return None
    fields = (line.split(": ", 1) for line in lines[: lines.index("")] if not line.startswith(":"))
    event = dict(field for field in fields if len(field) == 2)
    return event if {"event", "data"} <= event.keys() else None


def final(job: Job | None) -> bool:
    """Also of one that does not exist (any more)."""
    return job is not None and (not job or job["status"] in TERMINAL)
